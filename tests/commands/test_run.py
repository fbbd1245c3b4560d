"""``onnxkiln run``: feeds from files, outputs to files, words for what doesn't fit."""

import json

import numpy as np
import pytest
import tiny_artifacts

from onnxkiln.commands.run import _write
from onnxkiln.errors import UsageError

X = np.linspace(-2, 2, 1024, dtype=np.float32)
A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = np.ones((3, 4), np.float32)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Input files in the working folder."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("a.npy", A)
    np.save("b.npy", B)
    np.savez("feeds.npz", a=A, b=B)
    return tmp_path


def test_one_input_needs_no_name(kiln, scale, files):
    assert kiln("run", scale, "--input", "x.npy", "--output", "out").code == 0
    expected = X * tiny_artifacts.scale_weights() + X
    np.testing.assert_allclose(np.load("out/y.npy"), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("inputs", [["a=a.npy", "b=b.npy"], ["feeds.npz"]])
def test_several_inputs(kiln, add, files, inputs):
    arguments = [part for text in inputs for part in ("--input", text)]
    assert kiln("run", add, *arguments, "--output", "out").code == 0
    np.testing.assert_array_equal(np.load("out/total.npy"), A + B)
    np.testing.assert_array_equal(np.load("out/again.npy"), A + B + B)


def test_json_describes_outputs_and_times(kiln, add, files):
    result = json.loads(kiln("run", add, "--input", "feeds.npz", "--repeat", 5, "--json").out)
    assert result["runs"] == 5
    assert 0 < result["ms"]["fastest"] <= result["ms"]["median"] <= result["ms"]["slowest"]
    assert result["outputs"][0] == {
        "name": "total", "dtype": "float32", "shape": [3, 4], "min": 1.0, "max": 12.0, "file": None,
    }  # fmt: skip


def test_random_inputs_take_the_sizes_asked_for(kiln, add):
    outputs = json.loads(kiln("run", add, "--input", "random", "--dim", "rows=5", "--json").out)["outputs"]
    assert [output["shape"] for output in outputs] == [[5, 4], [5, 4]]


def test_the_text_names_outputs_and_latency(kiln, add):
    outcome = kiln("run", add, "--input", "random")
    assert "total" in outcome.out
    assert "1 run(s)" in outcome.out


@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [
        (["nothing.npy"], 2, "no input file nothing.npy"),
        (["a.npy"], 2, "which input is it"),
        (["a=feeds.npz"], 2, "names its arrays itself"),
        (["a=a.npy", "a=b.npy"], 2, "given twice"),
        (["random", "a=a.npy"], 2, "can't be mixed"),
        (["a=broken.npy", "b=b.npy"], 1, "not a readable .npy"),
        (["a=pickled.npy", "b=b.npy"], 1, "not a readable .npy"),
        (["a=a.npy"], 1, "missing input 'b'"),
        (["a=a.npy", "b=x.npy"], 1, "must have rank 2"),
    ],
)
def test_bad_inputs_are_refused_with_words(kiln, add, files, inputs, code, words):
    (files / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save("pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    outcome = kiln("run", add, *[part for text in inputs for part in ("--input", text)])
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("dim", "words"), [("rows", "not NAME=SIZE"), ("rows=-1", "not NAME=SIZE"), ("columns=3", "no open dim 'columns'")]
)
def test_bad_dims_are_refused_with_words(kiln, add, dim, words):
    outcome = kiln("run", add, "--input", "random", "--dim", dim)
    assert outcome.code == 2
    assert words in outcome.err


def test_a_size_outside_the_range_is_refused(kiln, add):
    outcome = kiln("run", add, "--input", "random", "--dim", "rows=65")
    assert outcome.code == 1
    assert "compiled for 0..64" in outcome.err


def test_output_names_become_safe_file_names(tmp_path):
    names = ["/enc/out:0", "_enc_out_0", "../../etc/passwd", "..", ""]
    written = _write(tmp_path, names, [np.zeros(1)] * len(names))
    assert len(set(written)) == len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name.rsplit("/", 1)[1] for name in written)


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="outputs can't be written"):
        _write(tmp_path / "file", ["y"], [np.zeros(1)])
