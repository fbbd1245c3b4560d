"""What calibration found, written and read again, for this model alone."""

import json

import pytest

from onnxkiln.errors import UsageError
from onnxkiln.quantization.calibration_file import Calibration, is_calibration_file, read_calibration, write_calibration
from onnxkiln.quantization.parameters import Range

MADE = Calibration(
    "ab", {"w.bin": "cd"}, "min-max", 3, {"x": Range(-1.25, 3.1), "é": Range(0, 0)}, ("conv",), ("a note",)
)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "model.json"
    write_calibration(MADE, path)
    assert is_calibration_file(str(path))
    assert read_calibration(path, "ab", {"w.bin": "cd"}) == MADE
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize(("sha256", "external"), [("xx", {"w.bin": "cd"}), ("ab", {}), ("ab", {"w.bin": "ce"})])
def test_another_model_is_refused(tmp_path, sha256, external):
    write_calibration(MADE, tmp_path / "model.json")
    with pytest.raises(UsageError, match="another model's calibration"):
        read_calibration(tmp_path / "model.json", sha256, external)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "not a calibration"),
        ({"schema": 2}, "has schema 2"),
        ({"ranges": {"x": [3, 1]}}, "not a range"),
        ({"ranges": {"x": [0, None]}}, "damaged"),
        ({"ranges": {"x": [float("nan"), 1]}}, "not a range"),
        ({"samples": "many"}, "damaged"),
        ({"external": 3}, "damaged"),
    ],
)
def test_damaged_files_are_refused_with_words(tmp_path, change, words):
    path = tmp_path / "model.json"
    write_calibration(MADE, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=words):
        read_calibration(path, "ab", {"w.bin": "cd"})


def test_text_that_is_no_json_and_a_folder_that_is_none(tmp_path):
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(UsageError, match="not a readable calibration"):
        read_calibration(tmp_path / "model.json", "ab", {})
    with pytest.raises(UsageError, match="can't be written"):
        write_calibration(MADE, tmp_path / "nowhere" / "model.json")
