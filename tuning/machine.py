"""Which machine measured, in the words of the log: its class, whose records serve as defaults, and itself."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from ..targets import Target, host_architecture, missing_features
from ..versions import TVM_VERSION, VERSION

THREADS = 1
"""Of a run, where nothing else is asked for."""


@dataclass(frozen=True)
class MachineKey:
    """``isa``, ``threads`` and ``cache`` are the class; ``machine`` is this very one, "" where it can't run the code.
    ``versions`` are those of what generates the code."""

    isa: str
    threads: int
    cache: str
    machine: str
    versions: str


def machine_key(target: Target) -> MachineKey:
    """What records of measurements for ``target`` on this machine are filed under."""
    features = "".join(f"+{name}" for name in target.features)
    cache = f"l1={target.l1 // 1024}K l2={target.l2 // 1024}K"
    versions = f"onnxkiln {VERSION}, tvm {TVM_VERSION}"
    runs = target.is_native and not missing_features(target.required_features)
    parts = (processor(), f"{target.isa.name}{features}", cache, f"{target.run_threads} thread", versions)
    return MachineKey(target.isa.name, target.run_threads, cache, "; ".join(parts) if runs else "", versions)


def gpu_key(architecture: str, device: str = "") -> MachineKey:
    """What records of measurements on GPUs of ``architecture``, such as "sm_90", are filed under.

    ``device`` is the name of the very one, as the driver says it; "" where there is none.
    """
    versions = f"onnxkiln {VERSION}, tvm {TVM_VERSION}"
    machine = "; ".join((device, architecture, versions)) if device else ""
    return MachineKey(architecture, THREADS, "cuda", machine, versions)


@functools.cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model as the kernel names it, else its architecture."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(names, host_architecture())
