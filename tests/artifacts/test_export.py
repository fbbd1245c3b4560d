"""An artifact folder appears whole or not at all, once, and with the same bytes for the same input."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tiny_artifacts
from children import check_child

import onnxkiln
from onnxkiln import targets
from onnxkiln.artifacts import export as export_
from onnxkiln.artifacts import staging
from onnxkiln.artifacts import weights as weights_
from onnxkiln.errors import ArtifactError, CompileError, IsaError, ToolchainError, UsageError

WRITE = """
import sys
from pathlib import Path
import tiny_artifacts
tiny_artifacts.write(tiny_artifacts.scale_request(), Path(sys.argv[1]))
"""
TESTS = str(Path(__file__).parents[1])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def request_() -> Any:
    return tiny_artifacts.scale_request()


def test_same_request_same_bytes_in_another_process_and_folder(scale: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a folder with spaces" / "and ünïcode"
    check_child(WRITE, deep, env={**os.environ, "PYTHONPATH": TESTS, "PYTHONHASHSEED": "77", "TMPDIR": str(tmp_path)})
    assert digests(deep / "artifact") == digests(scale)


def test_an_existing_output_is_refused(scale: Path, request_: Any, tmp_path: Path) -> None:
    before = digests(scale)
    with pytest.raises(UsageError, match=r"exists.*\n.*--force"):
        export_.export(request_, scale)
    assert digests(scale) == before


def test_force_replaces_an_artifact(request_: Any, tmp_path: Path) -> None:
    output = tiny_artifacts.write(request_, tmp_path)
    (output / "weights.bin").write_bytes(b"old")
    export_.export(request_, output, force=True)
    assert (output / "weights.bin").stat().st_size == 4096
    assert names(tmp_path) == ["artifact"]


def test_force_replaces_without_an_atomic_exchange(
    request_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_exchange", lambda one, other: False)
    test_force_replaces_an_artifact(request_, tmp_path)


def test_force_spares_what_is_no_artifact(request_: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("precious")
    (tmp_path / "link").symlink_to(home)
    (tmp_path / "file").write_text("precious")
    for name in ("home", "link", "file"):
        with pytest.raises(UsageError, match=f"output .*{name}"):
            export_.export(request_, tmp_path / name, force=True)
    assert (home / "thesis.tex").read_text() == "precious"
    assert names(tmp_path) == ["file", "home", "link"]


@pytest.mark.parametrize(
    ("error", "seen"),
    [(OSError("disk full"), ArtifactError), (KeyboardInterrupt(), KeyboardInterrupt), (MemoryError(), MemoryError)],
)
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_nothing_and_keeps_the_old(
    error: BaseException,
    seen: type[BaseException],
    existing: bool,
    request_: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "new" / "parents" / "artifact"
    if existing:
        export_.export(request_, output)
    before = digests(tmp_path)

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(export_, "write_weights", fail)
    with pytest.raises(seen):
        export_.export(request_, output, force=existing)
    assert digests(tmp_path) == before
    assert names(tmp_path) == (["new"] if existing else [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_while_writing(number: signal.Signals, request_: Any, tmp_path: Path) -> None:
    """Ctrl-C leaves nothing; what ``kill -9`` leaves is not the output, and the next export clears it."""
    code = """
        import sys, time
        from pathlib import Path
        import numpy as np, tiny_artifacts
        from onnxkiln.artifacts import export
        def slow(folder, path, tensors):
            print("writing", flush=True)
            time.sleep(60)
        export.write_weights = slow
        tiny_artifacts.write(tiny_artifacts.scale_request(), Path(sys.argv[1]))
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": TESTS},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    with pytest.raises(UsageError, match="another process is writing"):
        tiny_artifacts.write(request_, tmp_path)
    child.send_signal(number)
    child.communicate()
    assert not (tmp_path / "artifact").exists()
    if number == signal.SIGINT:
        assert names(tmp_path) == []
    tiny_artifacts.write(request_, tmp_path)
    assert names(tmp_path) == ["artifact"]


def test_two_writers_of_one_output(request_: Any, tmp_path: Path) -> None:
    """One wins, the other is refused with words; never a mixture."""
    code = """
        import sys
        from pathlib import Path
        import tiny_artifacts
        from onnxkiln.errors import UsageError
        request = tiny_artifacts.scale_request()
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            tiny_artifacts.write(request, Path(sys.argv[1]))
            print("won")
        except UsageError as error:
            print("lost:", error.message)
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": TESTS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = sorted(child.communicate()[0] for child in children)
    assert outputs[1] == "won\n" and outputs[0].startswith("lost: "), outputs
    assert "is writing" in outputs[0] or "exists" in outputs[0]
    assert names(tmp_path) == ["artifact"]
    onnxkiln.load(tmp_path / "artifact").close()


def test_two_libraries_over_one_weights_file(tmp_path: Path) -> None:
    output = tiny_artifacts.write(tiny_artifacts.scale_request(target="cpu:x86-64-v2,cpu:x86-64-v3"), tmp_path)
    assert names(output) == ["manifest.json", "model.x86-64-v2.so", "model.x86-64-v3.so", "runtime", "weights.bin"]
    with onnxkiln.load(output) as session:
        assert session.library == "model.x86-64-v3.so"
        x = np.ones(1024, np.float32)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], 1 + tiny_artifacts.scale_weights())


def test_without_the_runtime(tmp_path: Path) -> None:
    output = tiny_artifacts.write(tiny_artifacts.scale_request(include_runtime=False), tmp_path)
    assert names(output) == ["manifest.json", "model.so", "weights.bin"]
    with onnxkiln.load(output) as session:
        assert session.manifest.runtime is None


def test_no_compiler(request_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ToolchainError, match=r"no C compiler.*looked for cc, gcc, clang"):
        tiny_artifacts.write(request_, tmp_path)
    assert names(tmp_path) == []


def test_a_compiler_that_fails(request_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/bin/false")
    with pytest.raises(ToolchainError, match=r"linking model\.so for cpu with /bin/false failed"):
        tiny_artifacts.write(request_, tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_can_not_be_written(request_: Any) -> None:
    with pytest.raises(ArtifactError, match=r"the artifact /proc/.* can't be written: .*\n.*check free space"):
        export_.export(request_, Path("/proc/artifact"))


def fake_compiler(folder: Path, machine: str, elf_machine: int) -> Path:
    """A compiler that claims ``machine`` and writes the beginning of an ELF file of ``elf_machine``."""
    program = folder / "fakecc.py"
    program.write_text(f"""
import sys
if sys.argv[1:] == ["-dumpmachine"]:
    print("{machine}")
elif "-c" in sys.argv:
    open(sys.argv[-1], "wb").close()
else:
    header = bytes([127]) + b"ELF" + bytes(14) + ({elf_machine}).to_bytes(2, "little")
    open(sys.argv[sys.argv.index("-o") + 1], "wb").write(header)
""")
    path = folder / "fakecc"
    # Through a shell: a first line that names the interpreter itself can't hold the spaces of a checkout's path.
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(program))} "$@"\n')
    path.chmod(0o755)
    return path


def test_another_architecture_needs_its_linker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = next(isa for isa in ("aarch64", "x86-64-v1") if not targets.parse(f"cpu:{isa}")[0].is_native)
    monkeypatch.delenv("CC", raising=False)
    request = tiny_artifacts.scale_request(target=f"cpu:{foreign}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"no C compiler to link code for .*: looked for .*-linux-gnu-gcc"):
        tiny_artifacts.write(request, tmp_path)


@pytest.mark.skipif(targets.host_architecture() != "x86_64", reason="cross-compiles from x86-64")
def test_what_the_cross_linker_made_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = tiny_artifacts.scale_request(target="cpu:aarch64")
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, "x86_64-linux-gnu", 62)))
    with pytest.raises(ToolchainError, match=r"no C compiler to link code for aarch64: looked for .*fakecc"):
        tiny_artifacts.write(request, tmp_path, "one")
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, "aarch64-linux-gnu", 62)))
    with pytest.raises(ToolchainError, match=r"made no ELF library for aarch64 \(found machine 62\)"):
        tiny_artifacts.write(request, tmp_path, "two")
    monkeypatch.setenv("CC", str(fake_compiler(tmp_path, "aarch64-linux-gnu", 183)))
    output = tiny_artifacts.write(request, tmp_path, "three")
    assert names(output) == ["manifest.json", "model.so", "weights.bin"], "no runtime of this machine's"
    with pytest.raises(IsaError, match="needs fp-armv8, neon"):
        onnxkiln.load(output)


def test_an_output_can_be_checked_before_the_work(scale: Path, tmp_path: Path) -> None:
    export_.check_output(tmp_path / "new")
    export_.check_output(scale, force=True)
    with pytest.raises(UsageError, match="exists"):
        export_.check_output(scale)


ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "strided": np.arange(20, dtype=np.int64)[::3],
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big-endian": np.arange(5, dtype=">i4"),
    "scalar": np.array(7, np.int8),
    "empty": np.zeros((0, 3), np.float32),
    "bool": np.array([True, False, True]),
    "bfloat16": np.arange(7).astype(ml_dtypes.bfloat16),
    "half": np.arange(3, dtype=np.float16),
}


def test_weights_survive_the_file(tmp_path: Path) -> None:
    table, entry = weights_.write_weights(tmp_path, "w", ARRAYS.items())
    data = (tmp_path / "w").read_bytes()
    assert entry.size == len(data) and entry.sha256 == hashlib.sha256(data).hexdigest()
    with open(tmp_path / "w", "rb") as file:
        mapped = weights_.map_weights(file.fileno(), entry.size, table)
    for (name, array), weight, raw in zip(ARRAYS.items(), table.tensors, mapped):
        assert (weight.name, weight.shape, weight.offset % 64) == (name, array.shape, 0)
        read = raw.view(array.dtype.newbyteorder("=")).reshape(weight.shape)
        np.testing.assert_array_equal(read, array)
        if array.size:
            assert raw.ctypes.data % 64 == 0


def test_a_dtype_that_no_artifact_holds(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="weight 'z' has dtype complex64"):
        weights_.write_weights(tmp_path, "w", [("z", np.zeros(2, np.complex64))])
