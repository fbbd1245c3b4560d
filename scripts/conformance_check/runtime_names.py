"""Prints the functions that tvm_ffi and TVM's runtime library register, without TVM's compiler and Python, as JSON."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path


def main() -> None:
    import ctypes

    import tvm_ffi

    package = importlib.util.find_spec("tvm")
    assert package is not None and package.origin is not None
    ctypes.CDLL(str(Path(package.origin).parent / "lib" / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)
    print(json.dumps(tvm_ffi.registry.list_global_func_names()))


if __name__ == "__main__":
    main()
