"""Tensors in other files: what is read, and every way out of the model's folder refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest
import tvm
from tiny_models import WEIGHT, external, matmul, save
from tvm import relax

from onnxkiln.errors import ModelError
from onnxkiln.frontend import external_data, import_model


def beside(folder: Path, location: str = "w.bin", data: bytes = WEIGHT.tobytes(), **entries: object) -> Path:
    target = folder / location
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return save(matmul(external("w", WEIGHT, location=location, **entries)), folder)


def product_of(path: Path) -> np.ndarray:
    vm = relax.VirtualMachine(tvm.compile(import_model(path).module, target="llvm"), tvm.cpu())
    return vm["main"](tvm.runtime.tensor(np.ones((2, 3), np.float32)))[0].numpy()


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: beside(folder),
        lambda folder: beside(folder, "deep/er/w.bin"),
        lambda folder: beside(folder, data=b"12345" + WEIGHT.tobytes() + b"rest", offset=5, length=48),
        lambda folder: beside(folder, data=b"12345" + WEIGHT.tobytes(), offset=5),
    ],
)
def test_the_right_bytes_are_read(make: Callable[[Path], Path], tmp_path, monkeypatch):
    monkeypatch.chdir("/")  # locations are relative to the model, not to the current folder
    np.testing.assert_array_equal(product_of(make(tmp_path)), np.ones((2, 3), np.float32) @ WEIGHT)


def test_attributes_subgraphs_and_empty_tensors(tmp_path):
    (tmp_path / "c.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "none.bin").write_bytes(b"")
    branches = {}
    for name in ("then", "else"):
        inner = oh.make_node("Constant", [], [f"{name}_c"], value=external("c", WEIGHT, location="c.bin"))
        empty = external(f"{name}_e", np.zeros((3, 0), np.float32), location="none.bin")
        joined = oh.make_node("Concat", [f"{name}_c", f"{name}_e"], [f"{name}_y"], axis=1)
        out = [oh.make_tensor_value_info(f"{name}_y", 1, None)]
        branches[f"{name}_branch"] = oh.make_graph([inner, joined], name, [], out, [empty])
    nodes = [
        oh.make_node("ReduceMin", ["x"], ["low"], keepdims=0),
        oh.make_node("Cast", ["low"], ["flag"], to=onnx.TensorProto.BOOL),
        oh.make_node("If", ["flag"], ["chosen"], **branches),
        oh.make_node("MatMul", ["x", "chosen"], ["y"]),
    ]
    path = save(matmul(external("w", WEIGHT, location="c.bin"), nodes), tmp_path)
    np.testing.assert_array_equal(product_of(path), np.ones((2, 3), np.float32) @ WEIGHT)


def test_digests_name_every_file(tmp_path):
    import hashlib

    source = import_model(beside(tmp_path)).source
    assert source.external == (("w.bin", hashlib.sha256(WEIGHT.tobytes()).hexdigest()),)


@pytest.mark.parametrize(
    "location", ["../w.bin", "a/../../w.bin", "/etc/passwd", "./w.bin", "a//b", "", "..", "a\\b", "C:w", "w\0"]
)
def test_paths_out_of_the_folder_are_refused(location, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    path = save(matmul(external("w", WEIGHT, location=location)), inner)
    with pytest.raises(ModelError, match=r"initializer 'w' of the graph: .* is no path within the model's folder"):
        import_model(path)


def symlinked_file(folder: Path) -> None:
    (folder / "real.bin").write_bytes(WEIGHT.tobytes())
    (folder / "w.bin").symlink_to(folder / "real.bin")


def symlinked_parent(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "w.bin").write_bytes(WEIGHT.tobytes())
    (folder / "w").symlink_to(folder / "real")


def hard_link(folder: Path) -> None:
    (folder / "real.bin").write_bytes(WEIGHT.tobytes())
    os.link(folder / "real.bin", folder / "w.bin")


def named_pipe(folder: Path) -> None:
    os.mkfifo(folder / "w.bin")


def directory(folder: Path) -> None:
    (folder / "w.bin").mkdir()


def nothing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "location", "words"),
    [
        (symlinked_file, "w.bin", "can't be opened"),
        (symlinked_parent, "w/w.bin", "can't be opened"),
        (hard_link, "w.bin", "has 2 hard links"),
        (named_pipe, "w.bin", "no regular file"),
        (directory, "w.bin", "no regular file"),
        (nothing, "w.bin", "can't be opened: No such file"),
    ],
)
def test_links_and_other_kinds_of_files_are_refused(prepare, location, words, tmp_path):
    prepare(tmp_path)
    path = save(matmul(external("w", WEIGHT, location=location)), tmp_path)
    with pytest.raises(ModelError, match=words):
        import_model(path)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"offset": 1}, "bytes 1 to 49 of 'w.bin', which has 48"),
        ({"offset": 2**63 - 1}, "bytes 9223372036854775807 to"),
        ({"offset": 10**30}, "offset '1000000000000000000000000000000' .* no size"),
        ({"offset": -4}, "offset '-4' .* no size"),
        ({"offset": "0x10"}, "offset '0x10' .* no size"),
        ({"length": 2**62}, "need 48 bytes, 4611686018427387904 are said"),
        ({"length": 44}, "need 48 bytes, 44 are said"),
    ],
)
def test_offsets_and_lengths_outside_of_the_file_are_refused(entries, words, tmp_path):
    with pytest.raises(ModelError, match=words):
        import_model(beside(tmp_path, **entries))


def test_a_reference_without_a_file_or_with_two_is_refused(tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    with pytest.raises(ModelError, match="names no file"):
        import_model(save(matmul(external("w", WEIGHT, offset=0)), tmp_path))
    twice = external("w", WEIGHT, location="w.bin")
    twice.external_data.add(key="location", value="other.bin")
    with pytest.raises(ModelError, match="'location' of its external data is given twice"):
        import_model(save(matmul(twice), tmp_path))


def test_a_file_swapped_after_it_was_checked_is_not_followed(tmp_path, monkeypatch):
    """The name leads elsewhere by then, but what is read is what was opened."""
    path = beside(tmp_path)
    attach = external_data.attach

    def swap(model, files):
        (tmp_path / "w.bin").rename(tmp_path / "old.bin")
        (tmp_path / "w.bin").write_bytes(b"\xff" * 48)
        attach(model, files)

    monkeypatch.setattr("onnxkiln.frontend.reader.attach", swap)
    np.testing.assert_array_equal(product_of(path), np.ones((2, 3), np.float32) @ WEIGHT)


def test_a_file_written_to_meanwhile_is_noticed(tmp_path, monkeypatch):
    path = beside(tmp_path)
    attach = external_data.attach

    def write(model, files):
        attach(model, files)
        os.utime(tmp_path / "w.bin", ns=(1, 1))

    monkeypatch.setattr("onnxkiln.frontend.reader.attach", write)
    with pytest.raises(ModelError, match=r"'w.bin' changed while it was read"):
        import_model(path)


def test_weights_are_mapped_not_copied(tmp_path):
    """A file far larger than what is used costs no memory: only the tensor's bytes are touched."""
    path = beside(tmp_path, offset=0)
    os.truncate(tmp_path / "w.bin", 1 << 20)
    with external_data.DataFiles(path) as files:
        from onnxkiln.frontend.reader import read_model

        model, _ = read_model(path, files)
        array = model.graph.initializers["w"].const_value.numpy()
    assert not array.flags.owndata and not array.flags.writeable
    np.testing.assert_array_equal(array, WEIGHT)
