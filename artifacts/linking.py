"""From a compiled executable to a shared library, with the C compiler as linker and the thread pool linked in."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol

from ..errors import ToolchainError
from ..targets import Target

_POOL_SOURCE = Path(__file__).with_name("parallel.c")

# ELF's e_machine.
_MACHINES = {"x86_64": 62, "aarch64": 183}


class Exportable(Protocol):
    """What ``tvm.compile`` returns."""

    def export_library(self, file_name: str, **options: Any) -> Any: ...


def link(executable: Exportable, target: Target, path: Path, pool: str | None = None) -> None:
    """Write ``executable`` as the shared library ``path`` for ``target``; the same input gives the same bytes.

    ``pool`` is the thread pool's object file where ``compile_pool`` has made it already.
    Raises ToolchainError: no compiler for the architecture, one that fails, or one that links for another.
    """
    compiler = find_compiler(target)
    with tempfile.TemporaryDirectory(prefix="onnxkiln-") as workspace:
        try:
            executable.export_library(
                str(path),
                workspace_dir=workspace,
                cc=compiler,
                addons=[pool or compile_pool(compiler, workspace)],
                # Debug information would be half of the file, and tells lines of a program that nobody wrote.
                options=["-pthread", "-Wl,--build-id=none", "-Wl,--strip-debug"],
            )
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            detail = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
            raise ToolchainError(
                f"linking {path.name} for {target.name} with {compiler} failed: {detail}",
                hint="check that this compiler builds a C program",
            ) from error
    _check_architecture(path, target, compiler)


def find_compiler(target: Target) -> str:
    """The C compiler that links for ``target``: $CC, then the usual names. Raises ToolchainError."""
    architecture = target.isa.architecture
    names = ["cc", "gcc", "clang"] if target.is_native else [f"{architecture}-linux-gnu-gcc"]
    if chosen := os.environ.get("CC"):
        names.insert(0, chosen)
    for name in names:
        found = shutil.which(name)
        # A compiler for this very machine is the rule; only for another is it asked what it makes.
        if found and (target.is_native or _machine_of(found).startswith(architecture)):
            return found
    raise ToolchainError(
        f"no C compiler to link code for {architecture}: looked for {', '.join(names)}",
        hint="install one (Debian: apt install gcc, or gcc-aarch64-linux-gnu for that architecture), or set CC",
    )


def _machine_of(compiler: str) -> str:
    result = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=False)
    return result.stdout.strip()


def compile_pool(compiler: str, workspace: str) -> str:
    """Compile ``parallel.c``, the thread pool that each library carries; return the object's path."""
    result = os.path.join(workspace, "parallel.o")
    command = [compiler, "-x", "c", "-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread", "-c"]
    subprocess.run([*command, str(_POOL_SOURCE), "-o", result], check=True, capture_output=True, text=True)
    return result


def _check_architecture(path: Path, target: Target, compiler: str) -> None:
    header = path.read_bytes()[:20] if path.is_file() else b""
    machine = struct.unpack_from("<H", header, 18)[0] if header[:4] == b"\x7fELF" and len(header) == 20 else None
    if machine != _MACHINES[target.isa.architecture]:
        raise ToolchainError(
            f"{compiler} made no ELF library for {target.isa.architecture} (found machine {machine})",
            hint="set CC to a compiler for that architecture",
        )
