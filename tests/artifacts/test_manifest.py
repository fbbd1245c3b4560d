"""manifest.json: what is written is read again, and what is wrong is refused with its place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxkiln.artifacts import manifest as format_
from onnxkiln.artifacts.manifest import (
    FileEntry,
    Kernel,
    Library,
    Manifest,
    PassReport,
    Source,
    Versions,
    Weight,
    Weights,
)
from onnxkiln.contract import Contract, DimRange, TensorSpec
from onnxkiln.errors import IntegrityError, VersionError

DIGEST = "ab" * 32


def sample() -> Manifest:
    return Manifest(
        created_by=Versions("0.1.0", "0.27.0.post1", "0.1.14.post1"),
        source=Source("mödel.onnx", DIGEST, {"ai.onnx": 20, "com.microsoft": 1}, {"data.bin": DIGEST}),
        level="O2",
        contract=Contract(
            (TensorSpec("x", "float32", ("batch", 3)),),
            (TensorSpec("y", "int64", ("2*batch",)),),
            {"batch": DimRange(1, None)},
        ),
        libraries=(Library("model.so", "x86-64-v3", ("avx2", "fma"), {"kind": "llvm"}),),
        weights=Weights("weights.bin", (Weight("w", "float32", (2, 3), 64, 24),)),
        files=(FileEntry("model.so", DIGEST, 10), FileEntry("weights.bin", DIGEST, 88)),
        passes=(PassReport("FuseOps", 3), PassReport("Opaque", None)),
        kernels=(Kernel("conv", "template", "conv2d_nhwc", True, 4),),
    )


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(sample().to_bytes())
    change(document)
    return json.dumps(document).encode()


def test_round_trip() -> None:
    assert format_.from_bytes(sample().to_bytes()) == sample()


def test_same_manifest_same_bytes() -> None:
    other = dataclasses.replace(
        sample(), source=Source("mödel.onnx", DIGEST, {"com.microsoft": 1, "ai.onnx": 20}, {"data.bin": DIGEST})
    )
    assert other.to_bytes() == sample().to_bytes()


def test_a_newer_minor_version_is_read_and_its_news_ignored() -> None:
    def change(document: dict[str, Any]) -> None:
        document["schema"] = "1.7"
        document["novelty"] = {"a": 1}
        document["libraries"][0]["novelty"] = True

    assert format_.from_bytes(edited(change)) == dataclasses.replace(sample(), schema="1.7")


def test_an_older_minor_version_may_lack_what_has_a_default() -> None:
    read = format_.from_bytes(edited(lambda document: [document.pop(key) for key in ("kernels", "threads", "runtime")]))
    assert read.kernels == () and read.threads == 1 and read.runtime is None


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "old").glob("manifest-*.json")), ids=lambda p: p.stem)
def test_manifests_of_earlier_versions_are_still_read(path: Path) -> None:
    """Files under ``old`` are never rewritten: each is what its version of the format wrote for ``sample()``."""
    assert format_.from_bytes(path.read_bytes()) == dataclasses.replace(sample(), schema=path.stem.split("-")[1])


@pytest.mark.parametrize("schema", ["2.0", "0.9"])
def test_another_major_version_is_refused(schema: str) -> None:
    with pytest.raises(VersionError, match=rf"schema {schema}; this onnxkiln reads 1\.\*"):
        format_.from_bytes(edited(lambda document: document.update(schema=schema)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format="zip"), "not an onnxkiln artifact"),
        (lambda d: d.update(schema="one"), "schema 'one' is not a version"),
        (lambda d: d.pop("schema"), "schema None is not a version"),
        (lambda d: d.pop("level"), "level: missing"),
        (lambda d: d.update(threads=True), "threads: expected int, found bool"),
        (lambda d: d.update(threads=0), "threads: 0"),
        (lambda d: d.update(libraries=[]), "libraries: empty"),
        (lambda d: d["libraries"][0].update(features="avx2"), r"libraries\[0\].features: expected list, found str"),
        (lambda d: d["libraries"][0].update(path="other.so"), "'other.so' is used but not among files"),
        (lambda d: d["weights"]["tensors"][0].update(offset=32), "offset 32"),
        (lambda d: d["weights"]["tensors"][0].update(offset=128), r"offset 128 \+ 24 bytes in a file of 88"),
        (lambda d: d["weights"]["tensors"][0].update(offset=-64), "offset -64"),
        (lambda d: d["weights"]["tensors"][0].update(nbytes=8), "8 bytes for float32"),
        (lambda d: d["weights"]["tensors"][0].update(shape=[-2, -3]), "negative dim"),
        (lambda d: d["weights"]["tensors"][0].update(shape=[2, 2**62, 4]), "24 bytes for float32"),
        (lambda d: d["weights"]["tensors"][0].update(dtype="object"), "unknown dtype 'object'"),
        (lambda d: d["files"].reverse(), "sorted and unique"),
        (lambda d: d["files"].append(d["files"][1]), "sorted and unique"),
        (lambda d: d["files"][0].update(sha256="AB" * 32), "bad sha256"),
        (lambda d: d["files"][0].update(size=-1), "bad sha256 or size"),
        (lambda d: d["contract"]["inputs"][0].pop("dtype"), "contract: not a valid Contract"),
        (lambda d: d["contract"]["inputs"][0].update(dtype="float31"), "contract: 'x': unknown dtype 'float31'"),
        (lambda d: d["contract"]["outputs"][0].update(shape=[1.5]), r"contract: 'y': \[1.5\] is not a shape"),
        (
            lambda d: d["contract"]["inputs"].append(d["contract"]["inputs"][0]),
            "two inputs of one name",
        ),
        (lambda d: d["contract"]["dims"].update(batch=["a", None]), "dim 'batch': a.. is not a range"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        format_.from_bytes(edited(change))


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a/", "", "a\\b", "manifest.json", "a\0b"]
)
def test_paths_stay_inside(path: str) -> None:
    entry = FileEntry(path, DIGEST, 1)
    files = tuple(sorted((*sample().files, entry), key=lambda item: item.path))
    with pytest.raises(IntegrityError, match="is not a path inside the artifact"):
        format_.from_bytes(dataclasses.replace(sample(), files=files).to_bytes())


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        format_.from_bytes(data)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_truncated(fraction: float) -> None:
    data = sample().to_bytes()
    with pytest.raises(IntegrityError, match="damaged"):
        format_.from_bytes(data[: int(len(data) * fraction)])


def test_the_exported_manifest_lists_every_file(scale: Path) -> None:
    read = format_.from_bytes((scale / "manifest.json").read_bytes())
    found = {str(path.relative_to(scale)) for path in scale.rglob("*") if path.is_file()} - {"manifest.json"}
    assert {entry.path for entry in read.files} == found == {"model.so", "weights.bin", "runtime/libtvm_runtime.so"}
