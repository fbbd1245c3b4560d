"""The log that comes with the package."""

import pytest
from tuning_records import WHOLE, make

from onnxkiln.errors import LogError
from onnxkiln.tuning.shipped import shipped_records


def test_every_record_that_is_shipped_can_be_read():
    assert isinstance(shipped_records(), tuple)


def test_lines_are_records(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(f"{WHOLE.to_text()}\n{make(threads=2).to_text()}\n")
    assert shipped_records(path) == (WHOLE, make(threads=2))
    assert shipped_records(tmp_path / "absent") == ()


def test_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(f"{WHOLE.to_text()}\n{WHOLE.to_text()[:50]}")
    with pytest.raises(LogError, match="line 2"):
        shipped_records(path)
