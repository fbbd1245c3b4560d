"""Every form of calibration data, and words for what is wrong with it."""

import numpy as np
import pytest
from quantized_models import noise

from onnxkiln.contract import Contract, DimRange, TensorSpec
from onnxkiln.errors import InputError, UsageError
from onnxkiln.quantization.calibration_data import samples

ONE = Contract((TensorSpec("x", "float32", ("n", 3)),), (), {"n": DimRange(1, 8)})
TWO = Contract(
    (TensorSpec("ids", "int64", (1, "length")), TensorSpec("mask", "float32", (1, 4))), (), {"length": DimRange(1)}
)


def read(data, contract=ONE):
    return list(samples(data, contract))


def test_an_npz_file_is_cut_along_the_first_axis(tmp_path):
    np.savez(tmp_path / "data.npz", x=noise(5, 3))
    found = read(tmp_path / "data.npz")
    assert len(found) == 5
    np.testing.assert_array_equal(np.concatenate([sample["x"] for sample in found]), noise(5, 3))
    np.savez(tmp_path / "data.npz", x=noise(4, 2, 3))  # one more axis: samples
    assert [sample["x"].shape for sample in read(str(tmp_path / "data.npz"))] == [(2, 3)] * 4


def test_a_single_array_serves_all_samples():
    found = read({"ids": np.ones((3, 1, 7), np.int64), "mask": np.ones((1, 4), np.float32)}, TWO)
    assert [sample["ids"].shape for sample in found] == [(1, 7)] * 3
    assert all(sample["mask"].shape == (1, 4) for sample in found)


def test_a_folder(tmp_path):
    np.save(tmp_path / "b.npy", noise(1, 3))
    np.savez(tmp_path / "a.npz", x=noise(2, 3))
    (tmp_path / "readme.txt").write_text("not data")
    assert len(read(tmp_path)) == 3


def test_a_function_of_a_module_and_samples_themselves(tmp_path, monkeypatch):
    source = "import numpy as np\ndef f():\n    yield {'x': np.zeros((2, 3), 'float32')}\nN = 3\n"
    (tmp_path / "my_samples.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert len(read("my_samples:f")) == 1
    assert len(read([noise(1, 3), {"x": noise(8, 3)}])) == 2
    assert len(read(lambda: iter([noise(1, 3)]))) == 1
    refused = {"my_samples:g": "no attribute", "my_samples:N": "int, not a function", "nowhere:f": "nowhere"}
    for text, words in refused.items():
        with pytest.raises(UsageError, match=words):
            read(text)
    with pytest.raises(UsageError, match="no such file or folder"):
        read("missing.npz")


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ({"y": noise(1, 3)}, "lacks 'x' and has 'y'"),
        ({"x": noise(1, 3), "y": noise(1, 3)}, "has 'y'"),
        ({"x": noise(1, 4)}, r"shape \[1, 4\]"),
        ({"x": noise(9, 3)}, r"shape \[9, 3\], the model takes \['1..8 \(n\)'"),
        ({"x": noise(3)}, r"shape \[3\]"),
        ({"x": np.full((1, 3), np.nan, np.float32)}, "NaN or infinities"),
        ({"x": np.full((1, 3), np.inf, np.float32)}, "NaN or infinities"),
        ({"x": np.zeros((1, 3), np.uint8)}, "is uint8, the model takes float32"),
        ("text", "str, not a dict"),
    ],
)
def test_samples_that_do_not_fit(sample, words):
    with pytest.raises(InputError, match=words):
        read([sample])


def test_widths_are_converted():
    assert read([{"x": np.zeros((1, 3), np.float64)}])[0]["x"].dtype == np.float32


@pytest.mark.parametrize("data", [[], {"x": np.zeros((0, 3), np.float32)}])
def test_no_sample_at_all(data):
    with pytest.raises(InputError, match="no samples"):
        read(data)


def test_damaged_and_uneven_files(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match="not a readable"):
        read(tmp_path / "x.npz")
    np.save(tmp_path / "o.npy", np.array([{}], object))
    with pytest.raises(InputError, match="not a readable"):
        read(tmp_path / "o.npy")
    np.save(tmp_path / "two.npy", noise(1, 4))
    with pytest.raises(InputError, match="which input is it"):
        read(tmp_path / "two.npy", TWO)
    with pytest.raises(InputError, match="unequal numbers"):
        read({"ids": np.ones((3, 1, 7), np.int64), "mask": np.ones((2, 1, 4), np.float32)}, TWO)
    with pytest.raises(UsageError, match="not samples"):
        read(7)
