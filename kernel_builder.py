"""Runs in a tuner's worker: one candidate of one kernel becomes a library, by the passes that compile whole models."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from .artifacts.linking import compile_pool, find_compiler, link
from .passes.lower import build_functions
from .passes.pipeline import Pipeline
from .schedules.template import schedule_with
from .targets import ISAS, Target

HANDLER = f"{__name__}:build_kernel"


def target_to_json(target: Target) -> dict[str, Any]:
    return {
        "name": target.name, "isa": target.isa.name, "threads": target.threads, "l1": target.l1, "l2": target.l2,
        "features": list(target.features),
    }  # fmt: skip


def build_kernel(function: str, target: Mapping[str, Any], parameters: Mapping[str, int], path: str) -> str:
    """Schedule ``function`` (TVM's JSON) with the template's ``parameters`` and write the library ``path``, with
    ``main`` in it."""
    machine = Target(**{**target, "isa": ISAS[target["isa"]], "features": tuple(target["features"])})
    scheduled = schedule_with(_loaded(function), machine, parameters).function
    module = tvm.IRModule({"main": scheduled.with_attr("global_symbol", "main")})
    finished = Pipeline("O2").finish(module, machine)
    link(build_functions(finished, machine), machine, Path(path), _pool(find_compiler(machine)))
    return path


@functools.lru_cache(maxsize=4)
def _loaded(function: str) -> Any:
    """A kernel's candidates come one after the other; reading it takes a tenth of building one."""
    return tvm.ir.load_json(function)


@functools.cache
def _pool(compiler: str) -> str:
    """The thread pool's object file, made once in a process; its folder goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="onnxkiln-pool-")
    _folders.append(folder)
    return compile_pool(compiler, folder.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []
