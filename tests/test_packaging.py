"""What is installed: the wheel holds the whole package, and imports where its dependencies say it does."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest
from source_tree import ROOT, module_name, package_files, package_folders

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BASE_MODULES = (
    "", "benchmarking", "cli", "commands", "artifacts", "contract", "errors", "targets", "versions", "shapes",
    "compare",
)  # fmt: skip
COMPILE_SIDE = {"artifacts.export"}


def test_the_packages_list_is_the_tree():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    tree = [".".join(["onnxkiln", *folder.relative_to(ROOT).parts]) for folder in package_folders()]
    assert sorted(listed) == sorted(tree)


def test_the_root_holds_no_module_that_a_wheel_should_not():
    assert not {"setup.py", "conftest.py"} & {path.name for path in ROOT.glob("*.py")}


def test_the_pins_are_those_that_the_compiler_checks():
    from onnxkiln import versions

    pins = PROJECT["project"]["optional-dependencies"]["compile"]
    assert f"apache-tvm=={versions.TVM_VERSION}" in pins
    assert f"apache-tvm-ffi=={versions.FFI_VERSION}" in pins
    low, high = (".".join(map(str, bound)) for bound in versions.FFI_SERIES)
    assert f"apache-tvm-ffi>={low},<{high}" in PROJECT["project"]["dependencies"]


def data_files():
    """What belongs to the package beside its Python files."""
    listed = PROJECT["tool"]["setuptools"]["package-data"]
    found = []
    for package, patterns in listed.items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        found += [path for pattern in patterns for path in folder.glob(pattern)]
    return sorted(found)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the files of the package: building leaves ``build/`` beside its sources."""
    source = tmp_path_factory.mktemp("source with a space")
    further = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    for path in [*package_files(), *data_files(), *further]:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    output = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", output, source)
    (found,) = output.glob("*.whl")
    return found


def run(*command, **kwargs):
    done = subprocess.run([os.fspath(part) for part in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licenses = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    expected = [*package_files(), *data_files()]
    assert names == {f"onnxkiln/{path.relative_to(ROOT).as_posix()}" for path in expected}
    assert "onnxkiln/artifacts/parallel.c" in names
    assert licenses


@pytest.fixture(scope="module")
def bare_python(wheel, tmp_path_factory):
    """An environment with the base install alone: the wheel, numpy and apache-tvm-ffi."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return python


def imported(python, modules):
    """Import modules one by one in a fresh interpreter, away from the checkout; which of them failed, and why."""
    code = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
"""
    return run(python, "-c", code, *modules, cwd="/")


def test_the_loader_side_imports_in_a_bare_environment(bare_python):
    modules = [module_name(path) for path in package_files()]
    base = [name for name in modules if name.split(".")[0] in BASE_MODULES and name not in COMPILE_SIDE]
    names = [f"onnxkiln.{name}".rstrip(".") for name in base if name != "__main__"]
    assert imported(bare_python, names) == ""


def test_the_compiler_is_refused_with_its_cure_in_a_bare_environment(bare_python, tmp_path):
    done = subprocess.run(
        [bare_python.with_name("onnxkiln"), "compile", "model.onnx", "-o", tmp_path / "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "apache-tvm 0.27.0.post1 is needed, none is installed" in done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_module_of_the_wheel_imports_in_the_full_environment(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    names = [f"onnxkiln.{module_name(path)}".rstrip(".") for path in package_files() if path.name != "__main__.py"]
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importlib\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"import onnxkiln; assert onnxkiln.__file__.startswith({str(tmp_path)!r})"
    )
    run(sys.executable, "-c", code, cwd="/")
