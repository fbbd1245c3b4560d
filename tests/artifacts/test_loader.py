"""Loading for real: the runtime, the open files, versions, and what is left behind."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_artifacts
from children import check_child
from tiny_artifacts import edit_manifest

import onnxkiln
from onnxkiln.artifacts import starting
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.errors import ArtifactError, IntegrityError, VersionError

Copy = Callable[[], Path]


def test_another_tvm_version(scale: Path, copy: Copy) -> None:
    onnxkiln.load(scale).close()
    folder = copy()
    edit_manifest(folder, lambda document: document["created_by"].update(tvm="0.28.0"))
    with pytest.raises(
        VersionError, match=r"needs TVM's runtime 0\.28\.0; this process has already loaded one 0\.27\.0"
    ):
        onnxkiln.load(folder)


def test_another_version_of_the_bytecode(copy: Copy) -> None:
    folder = copy()
    path = folder / "model.so"
    data = bytearray(path.read_bytes())
    place = data.index(b"0.14", data.index(b"relax.VMExecutable"))
    data[place : place + 4] = b"0.99"
    path.write_bytes(data)
    with pytest.raises(VersionError, match=r"the TVM runtime in this process refuses model\.so"):
        onnxkiln.load(folder, verify="size")


def test_a_rewritten_manifest_is_accepted(copy: Copy) -> None:
    """Integrity is not authenticity: who can rewrite the digests can replace the code. The docs say so."""
    folder = copy()
    data = np.zeros(1024, np.float32).tobytes()
    (folder / "weights.bin").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit_manifest(folder, lambda document: document["files"][-1].update(sha256=digest))
    with onnxkiln.load(folder) as session:
        x = np.ones(1024, np.float32)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], x)


def test_size_is_all_that_the_quick_check_sees(copy: Copy) -> None:
    folder = copy()
    (folder / "weights.bin").write_bytes(bytes(4096))
    onnxkiln.load(folder, verify="size").close()
    with pytest.raises(IntegrityError):
        onnxkiln.load(folder, verify="full")


def test_a_library_that_is_none(copy: Copy) -> None:
    folder = copy()
    size = (folder / "model.so").stat().st_size
    (folder / "model.so").write_bytes(b"x" * size)
    with pytest.raises(ArtifactError, match=r"model\.so can't be loaded"):
        onnxkiln.load(folder, verify="size")


def test_the_open_files_are_used_not_the_names(scale: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is replaced by another artifact after the check and before the use: code and weights are still one."""
    folder = copy()
    ensure = starting.ensure_runtime

    def swap(artifact: OpenArtifact) -> None:
        ensure(artifact)
        shutil.rmtree(folder)
        shutil.copytree(scale, folder)
        (folder / "weights.bin").write_bytes(bytes(4096))
        (folder / "model.so").write_bytes(b"another library")

    monkeypatch.setattr(starting, "ensure_runtime", swap)
    with onnxkiln.load(folder) as session:
        x = np.ones(1024, np.float32)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], 1 + tiny_artifacts.scale_weights())


def test_two_artifacts_at_one_descriptor_are_two_libraries(scale: Path, add: Path) -> None:
    """Both are opened under the same descriptor's number, one after the other, while the first stays loaded."""
    with onnxkiln.load(scale) as one, onnxkiln.load(add) as two:
        assert one.get_inputs()[0].name == "x"
        ones = np.ones((2, 4), np.float32)
        np.testing.assert_array_equal(two.run(["again"], {"a": ones, "b": ones})[0], 3 * ones)


def test_neither_tvm_nor_onnx_is_imported(scale: Path) -> None:
    check_child(
        """
        import sys, numpy, onnxkiln
        with onnxkiln.load(sys.argv[1]) as session:
            session.run(None, {"x": numpy.ones(1024, "float32")})
        assert not {"tvm", "onnx", "onnx_ir", "onnxscript"} & set(sys.modules)
        """,
        scale,
    )


def test_rounds_leave_nothing(scale: Path) -> None:
    """Descriptors, mappings, threads and memory are flat over load, run and close.

    The allocator may take or give back a step of 2 MB (one digest's buffer) at any time, so memory counts as flat
    if it grew by less in either of two stretches; a leak grows in both.
    """
    check_child(
        """
        import gc, os, sys, time, numpy, onnxkiln
        x = numpy.ones(1024, "float32")
        def count(what):
            return len(os.listdir("/proc/self/" + what))
        def rounds(n):
            for _ in range(n):
                with onnxkiln.load(sys.argv[1], threads=2) as session:
                    session.run(None, {"x": x})
            gc.collect()
            deadline = time.time() + 5
            while count("task") > threads and time.time() < deadline:
                time.sleep(0.01)  # a joined thread is listed for a moment longer
            pages = int(open("/proc/self/statm").read().split()[1])
            maps = open("/proc/self/maps").read().count("\\n")
            return count("fd"), maps, pages * 4096, count("task")
        threads = count("task")
        first = rounds(10)
        states = [first, rounds(100), rounds(100)]
        last = states[-1]
        print(states)
        assert first[0] == last[0], "descriptors"
        assert last[1] <= first[1] + 4, "mappings"
        growth = [after[2] - before[2] for before, after in zip(states, states[1:])]
        assert min(growth) <= 512 * 1024, "memory"
        assert first[3] == last[3] == threads, "threads"
        """,
        scale,
    )


def test_processes_share_the_weights(tmp_path: Path) -> None:
    """Two processes that have both run hold one copy of the weights' pages between them."""
    size = 16 << 20
    folder = tiny_artifacts.write(tiny_artifacts.scale_request(size // 4), tmp_path)
    code = """
    import sys, numpy, onnxkiln
    session = onnxkiln.load(sys.argv[1])
    session.run(None, {"x": numpy.ones(int(sys.argv[2]), "float32")})
    print("ready", flush=True)
    sys.stdin.readline()
    pss, inside = 0, False
    for line in open("/proc/self/smaps"):
        if "-" in line.split()[0]:
            inside = "weights.bin" in line
        elif inside and line.startswith("Pss:"):
            pss += int(line.split()[1]) * 1024
    print(pss, flush=True)
    sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder), str(size // 4)]
    pipe = subprocess.PIPE
    children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) for _ in range(2)]
    answers = []
    for round_ in range(2):
        for child in children:
            assert child.stdin is not None and child.stdout is not None
            if round_:
                child.stdin.write("go\n")
            answers.append(child.stdout.readline().strip())
    for child in children:
        child.communicate("go\n")
    assert answers[:2] == ["ready", "ready"]
    assert size * 0.9 < int(answers[2]) + int(answers[3]) < size * 1.15
