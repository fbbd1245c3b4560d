"""One TVM runtime per process, wherever it comes from; each case in a process of its own: wrong ones abort it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_artifacts
from children import check_child, run_child

import onnxkiln

SITE = Path(__import__("numpy").__file__).parents[1]
ROOT = Path(onnxkiln.__file__).parent

RUN = """
import sys, numpy
sys.path[:] = [path for path in sys.path if "site-packages" not in path and path] + [sys.argv[2]]
import onnxkiln
x = numpy.arange(1024, dtype="float32")
def run():
    with onnxkiln.load(sys.argv[1]) as session:
        y = session.run(None, {"x": x})[0]
    assert numpy.allclose(y, x * numpy.linspace(-1, 1, 1024, dtype="float32") + x)
"""


def bare(*extra: str) -> Iterator[tuple[str, Path]]:
    names = ["numpy", "numpy.libs", "tvm_ffi", "typing_extensions.py", *extra]
    for name in [*names, *(path.name for path in SITE.glob("apache_tvm_ffi-*.dist-info"))]:
        if (SITE / name).exists():
            yield name, SITE / name
    yield "onnxkiln", ROOT


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages that holds NumPy, tvm-ffi and onnxkiln: no TVM."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, path in bare():
        (folder / name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def without_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_artifacts.write(tiny_artifacts.scale_request(include_runtime=False), tmp_path_factory.mktemp("lean"))


def pretend_tvm(site: Path, version: str) -> None:
    folder = site / f"apache_tvm-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: apache-tvm\nVersion: {version}\n")


def test_two_copies_abort_a_process_that_takes_no_care(scale: Path) -> None:
    """What the rest of this file guards against."""
    code = """
    import ctypes, sys, tvm_ffi
    for path in sys.argv[1:]:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    """
    runtimes = scale / "runtime" / "libtvm_runtime.so", SITE / "tvm" / "lib" / "libtvm_runtime.so"
    assert run_child(code, *runtimes).returncode == -signal.SIGABRT


def test_the_bundled_runtime_serves_where_there_is_no_tvm(scale: Path, site: Path) -> None:
    code = f"""
{RUN}
run(); run()
assert "tvm" not in sys.modules
assert sys.argv[1].encode() in open("/proc/self/maps", "rb").read(), "the artifact's own runtime"
try:
    import tvm
except ModuleNotFoundError as error:
    print(error)
"""
    assert "No module named 'tvm'" in check_child(code, scale, site)


def test_import_tvm_after_the_bundled_runtime_is_refused_with_words(scale: Path, site: Path) -> None:
    code = f"""
{RUN}
run()
sys.path.append({str(SITE)!r})
for _ in range(2):
    try:
        import tvm
    except ImportError as error:
        print(error)
run()
"""
    output = check_child(code, scale, site)
    assert (
        output.count("import tvm before onnxkiln.load, install apache-tvm==0.27.0.post1, or use another process") == 2
    )


@pytest.mark.parametrize("order", ["run(); import tvm; run()", "import tvm; run(); run()"])
def test_with_tvm_installed_any_order_works(order: str, scale: Path, without_runtime: Path) -> None:
    code = f"""
{RUN}
{order}
assert tvm.runtime.tensor(x).numpy()[3] == 3
assert tvm.target.Target("llvm").kind.name == "llvm"
"""
    for folder in (scale, without_runtime):
        check_child(code, folder, SITE)


def test_no_runtime_anywhere(without_runtime: Path, site: Path) -> None:
    result = run_child(f"{RUN}\nrun()", without_runtime, site)
    assert "ArtifactError: the artifact carries no TVM runtime, and TVM is not installed" in result.stderr
    assert "pip install apache-tvm==0.27.0.post1" in result.stderr


def test_only_another_tvm_installed(scale: Path, without_runtime: Path, site: Path) -> None:
    pretend_tvm(site, "0.28.0")
    result = run_child(f"{RUN}\nrun()", without_runtime, site)
    assert (
        "VersionError: the artifact carries no TVM runtime and needs 0.27.0.post1; 0.28.0 is installed" in result.stderr
    )
    check_child(f"{RUN}\nrun()", scale, site)


def test_a_runtime_that_somebody_else_opened(scale: Path, site: Path, tmp_path: Path) -> None:
    """It is used when its bytes are the artifact's, and refused otherwise."""
    code = f"""
{RUN}
import ctypes, tvm_ffi
ctypes.CDLL(sys.argv[3], ctypes.RTLD_GLOBAL)
run()
"""
    original = SITE / "tvm" / "lib" / "libtvm_runtime.so"
    check_child(code, scale, site, original)
    altered = tmp_path / "libtvm_runtime.so"
    altered.write_bytes(original.read_bytes() + b"\0")
    result = run_child(code, scale, site, altered)
    assert "VersionError" in result.stderr and "already loaded one of unknown version" in result.stderr


def test_wrong_tvm_ffi(scale: Path, site: Path) -> None:
    code = f"""
{RUN}
import tvm_ffi
tvm_ffi.__version__ = "0.2.0"
run()
"""
    result = run_child(code, scale, site)
    assert "VersionError: loading an artifact needs apache-tvm-ffi>=0.1.14,<0.2; found 0.2.0" in result.stderr
