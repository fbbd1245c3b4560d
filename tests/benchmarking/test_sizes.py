"""What counts as being on the disk."""

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import onnxkiln
from onnxkiln.benchmarking import sizes


def fake(folder, sizes_of, requires):
    """Distributions by name, with one file each."""
    found = {}
    for name, size in sizes_of.items():
        path = folder / name
        path.write_bytes(bytes(size))
        file = SimpleNamespace(locate=lambda path=path: path)
        found[name] = SimpleNamespace(files=[file], requires=requires.get(name))
    return found


def test_requirements_are_followed_once_without_extras_and_numpy(tmp_path, monkeypatch):
    requires = {"a": ["b>=1", "numpy", "c ; extra == 'all'", "gone; python_version < '3'"], "b": ["a", "d_e [x]~=2"]}
    found = fake(tmp_path, {"a": 1, "b": 10, "c": 100, "d-e": 1000, "numpy": 10_000}, requires)

    def distribution(name):
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    assert sizes.installed_bytes(["A"]) == 1011


def test_a_folder_is_all_its_files(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "one").write_bytes(bytes(5))
    (tmp_path / "inner" / "two").write_bytes(bytes(7))
    assert sizes.folder_bytes(tmp_path) == 12


def test_our_own_modules_are_the_packages_alone():
    from source_tree import package_files

    files = [*package_files(), Path(onnxkiln.__path__[0]) / "artifacts" / "parallel.c"]
    assert sizes.own_bytes() == sum(path.stat().st_size for path in files)
