"""Which functions an artifact calls that a process without TVM's compiler and Python lacks.

Two places name functions: the virtual machine's table, and strings in the library for calls from inside kernels.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from conformance_check import runtime_names

_PACKED = re.compile(r"^@(\S+) packed_func;", re.MULTILINE)
_STRING = re.compile(rb"[\x21-\x7e]{4,}(?=\0)")


class ExternalFunctions:
    """Knows what the bare runtime registers (asked of a process of its own) and what this process has beside it."""

    def __init__(self) -> None:
        import tvm_ffi

        command = [sys.executable, runtime_names.__file__]
        bare = subprocess.run(command, check=True, capture_output=True, text=True)
        self._bare = set(json.loads(bare.stdout))
        self._surplus = set(tvm_ffi.registry.list_global_func_names()) - self._bare

    def of(self, artifact: Path, library: str) -> list[str]:
        """The external functions of one artifact, by name."""
        import tvm_ffi

        path = artifact / library
        module = tvm_ffi.load_module(str(path))
        called = set(_PACKED.findall(module["as_text"]()))
        outside = {name for name in called if not module.implements_function(name, True)} - self._bare
        named = {text.decode() for text in _STRING.findall(path.read_bytes())}
        return sorted(outside | (named & self._surplus))
