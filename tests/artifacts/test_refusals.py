"""What is not exactly what was written, or can't run here, is refused before any of its code is opened."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_artifacts
from tiny_artifacts import edit_manifest

import onnxkiln
from onnxkiln import targets
from onnxkiln.artifacts import loader, starting
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.errors import ArtifactError, IntegrityError, IsaError, UsageError, VersionError

Copy = Callable[[], Path]


@pytest.fixture(autouse=True)
def nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals come before any native code: opening a library is a failure."""

    def fail(*arguments: Any) -> None:
        raise AssertionError("a library was opened")

    monkeypatch.setattr(starting, "ensure_runtime", fail)
    monkeypatch.setattr(starting, "load_library", fail)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", ["model.so", "weights.bin", "runtime/libtvm_runtime.so"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_flipped_bit(name: str, place: str, copy: Copy) -> None:
    folder = copy()
    path = folder / name
    data = bytearray(path.read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[place]] ^= 1
    path.write_bytes(data)
    before = open_descriptors()
    with pytest.raises(IntegrityError, match=rf"{name} is not the file that was written: its sha256 is"):
        onnxkiln.load(folder)
    assert open_descriptors() == before


@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_a_flipped_bit_of_the_manifest(place: float, copy: Copy) -> None:
    """Structure, digests and sizes are caught. (Prose, such as a kernel's name, has no digest: it decides nothing.)"""
    folder = copy()
    path = folder / "manifest.json"
    data = bytearray(path.read_bytes())
    index = {0: 0, 0.5: data.index(b'"sha256"', data.index(b'"files"')) + 15, 0.999: len(data) - 2}[place]
    data[index] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        onnxkiln.load(folder)


@pytest.mark.parametrize("name", ["model.so", "weights.bin", "runtime/libtvm_runtime.so"])
@pytest.mark.parametrize("verify", ["full", "size"])
def test_a_missing_file(name: str, verify: str, copy: Copy) -> None:
    folder = copy()
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=rf"missing file\(s\) {name}"):
        onnxkiln.load(folder, verify=verify)


@pytest.mark.parametrize("name", ["extra.so", "runtime/extra", ".hidden"])
def test_a_surplus_file(name: str, copy: Copy) -> None:
    folder = copy()
    (folder / name).write_text("")
    with pytest.raises(IntegrityError, match=rf"that the manifest doesn't list: {name}"):
        onnxkiln.load(folder)


def test_a_cut_file(copy: Copy) -> None:
    folder = copy()
    os.truncate(folder / "weights.bin", 4095)
    with pytest.raises(IntegrityError, match=r"weights\.bin has 4095 bytes, the manifest says 4096"):
        onnxkiln.load(folder, verify="size")


@pytest.mark.parametrize("name", ["model.so", "manifest.json", "runtime"])
def test_a_symbolic_link(name: str, copy: Copy, tmp_path: Path) -> None:
    folder = copy()
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError):
        onnxkiln.load(folder)


def test_a_pipe_does_not_hang_the_loader(copy: Copy) -> None:
    folder = copy()
    (folder / "weights.bin").unlink()
    os.mkfifo(folder / "weights.bin")
    with pytest.raises(IntegrityError, match=r"weights\.bin is not a plain file"):
        onnxkiln.load(folder)


def test_swapped_weights(copy: Copy) -> None:
    folder = copy()
    path = folder / "weights.bin"
    data = path.read_bytes()
    path.write_bytes(data[2048:] + data[:2048])
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        onnxkiln.load(folder)


def test_a_cut_manifest(copy: Copy) -> None:
    folder = copy()
    os.truncate(folder / "manifest.json", (folder / "manifest.json").stat().st_size // 2)
    with pytest.raises(IntegrityError, match=r"manifest\.json is damaged"):
        onnxkiln.load(folder)


def test_no_manifest(copy: Copy, tmp_path: Path) -> None:
    folder = copy()
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        onnxkiln.load(folder)
    with pytest.raises(ArtifactError, match="no artifact at"):
        onnxkiln.load(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="is a file; an artifact is a folder"):
        onnxkiln.load(folder / "model.so")


@pytest.mark.parametrize("path", ["../outside.so", "runtime/../../outside.so", "/tmp/outside.so"])
def test_a_manifest_that_leads_out_of_the_folder(path: str, copy: Copy, tmp_path: Path) -> None:
    """As an unpacked archive with such names would have it: nothing outside is opened, though it is what is listed."""
    folder = copy()
    (folder / "model.so").rename(tmp_path / "outside.so")

    def lead_out(document: dict[str, Any]) -> None:
        entry = next(entry for entry in document["files"] if entry["path"] == "model.so")
        entry["path"] = document["libraries"][0]["path"] = path
        document["files"].sort(key=lambda entry: entry["path"])

    edit_manifest(folder, lead_out)
    with pytest.raises(IntegrityError, match="is not a path inside the artifact"):
        onnxkiln.load(folder)


def test_an_archive_is_not_unpacked(copy: Copy, tmp_path: Path) -> None:
    """A zip with a file that would land outside (zip-slip): refused as it is, nothing is written anywhere."""
    archive = tmp_path / "artifact.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../slipped", "data")
        file.write(copy() / "manifest.json", "manifest.json")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ArtifactError, match=r"(?s)is a file; an artifact is a folder.*archives are not opened"):
        onnxkiln.load(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not (tmp_path.parent / "slipped").exists()


def test_an_isa_that_this_machine_lacks(copy: Copy) -> None:
    folder = copy()
    edit_manifest(folder, lambda document: document["libraries"][0]["features"].append("avx1024"))
    with pytest.raises(IsaError) as caught:
        onnxkiln.load(folder)
    assert "lacks instructions that the artifact's code uses: " in str(caught.value)
    assert "needs avx1024" in str(caught.value) and "compile the model with a target that it has: cpu:" in str(
        caught.value
    )


def test_the_check_is_directional(scale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better processor runs it; one that lacks any single feature does not."""
    with OpenArtifact(scale) as artifact:
        needed = frozenset(artifact.manifest.libraries[0].features)
        monkeypatch.setattr(targets, "host_features", lambda: needed | {"avx1024"})
        loader.choose_library(artifact.manifest)
        for feature in needed:
            monkeypatch.setattr(targets, "host_features", lambda feature=feature: needed - {feature})
            with pytest.raises(IsaError, match=f"needs {feature}"):
                loader.choose_library(artifact.manifest)


def test_the_best_library_that_runs_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = ("x86-64-v4", "x86-64-v2", "x86-64-v3")
    request = tiny_artifacts.scale_request(target=",".join(f"cpu:{level}" for level in levels))
    with OpenArtifact(tiny_artifacts.write(request, tmp_path)) as artifact:
        for level in levels:
            monkeypatch.setattr(targets, "host_features", lambda level=level: targets.ISAS[level].features)
            assert loader.choose_library(artifact.manifest).isa == level
        monkeypatch.setattr(targets, "host_features", lambda: targets.ISAS["x86-64-v1"].features)
        with pytest.raises(IsaError, match=r"x86-64-v4 needs .*; x86-64-v3 needs .*; x86-64-v2 needs"):
            loader.choose_library(artifact.manifest)


def test_another_schema(copy: Copy) -> None:
    folder = copy()
    edit_manifest(folder, lambda document: document.update(schema="2.0"))
    with pytest.raises(VersionError, match=r"schema 2\.0; this onnxkiln reads 1"):
        onnxkiln.load(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda"}, "device 'cuda' is not supported"),
        ({"verify": "none"}, "verify must be one of full, size"),
        ({"threads": 0}, "threads must be a positive number; found 0"),
        ({"threads": True}, "threads must be a positive number; found True"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str, scale: Path) -> None:
    with pytest.raises(UsageError, match=words):
        onnxkiln.load(scale, **options)
