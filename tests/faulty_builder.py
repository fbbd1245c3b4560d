"""A tuner's builder that gives some candidates a library which hangs, crashes, computes nothing, or none at all.

The environment's $FAULTS says which: {"blocks=2 tile=3": "hang"}.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from onnxkiln.kernel_builder import build_kernel

HANDLER = f"{__name__}:build"
SYMBOL = "int __tvm_ffi_main(void* self, const void* arguments, int count, void* result)"
BODIES = {"hang": "for (volatile int i = 0;; ++i);", "crash": "*(volatile int*)8 = 1;", "nothing": ""}


def build(function: str, target: Mapping[str, Any], parameters: Mapping[str, int], path: str) -> str:
    fault = json.loads(os.environ["FAULTS"]).get(name_of(parameters))
    if fault is None:
        return build_kernel(function, target, parameters, path)
    if fault == "refuse":
        raise ValueError("no such schedule")
    source = f"{SYMBOL} {{ {BODIES[fault]} return 0; }}"
    subprocess.run(["cc", "-x", "c", "-shared", "-fPIC", "-o", path, "-"], input=source, text=True, check=True)
    return path


def name_of(parameters: Mapping[str, int]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(parameters.items()))
