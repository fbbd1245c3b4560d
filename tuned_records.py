"""The tuning log that a build reads, and whether it still says what an artifact was built by. Imports no TVM."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .artifacts.driver import Driver, GpuDevice
from .errors import DeviceError
from .targets import Target
from .tuning.log import TuningLog
from .tuning.lookup import Found, find
from .tuning.machine import MachineKey, gpu_key, machine_key
from .tuning.record import Record

LOG_VARIABLE = "ONNXKILN_LOG"
"""The environment's word for what ``log=None`` means: a file, or "none"."""


def open_log(log: str | os.PathLike[str] | None, shipped: bool = True, write: bool = False) -> TuningLog:
    """The log at the path ``log``; None is the environment's, else the user's; "none" is an empty one in memory.

    ``shipped`` adds the records that come with the package. Raises LogError.
    """
    path = os.fspath(log) if log is not None else os.environ.get(LOG_VARIABLE) or None
    return TuningLog.open(path, write=write, shipped=shipped)


def record_class(target: Target) -> str:
    """The name under which the manifest keeps a target's records: its instruction set, or its GPUs'."""
    return ",".join(gpu.name for gpu in target.gpus) or target.isa.name


def machine_keys(target: Target) -> list[MachineKey]:
    """Under what records for ``target`` are filed. One source serves all its GPUs: the newest one's come first.

    A GPU's records are exact on a machine that has one of that name, and defaults wherever else its code is made.
    """
    if not target.is_gpu:
        return [machine_key(target)]
    here = {f"sm_{device.architecture}": device.name for device in _devices()}
    return [gpu_key(gpu.name, here.get(gpu.name, "")) for gpu in reversed(target.gpus)]


def find_any(
    log: TuningLog, workload: str, keys: Sequence[MachineKey], accept: Callable[[Record], bool]
) -> Found | None:
    """The record to schedule by: the first that one of ``keys`` has."""
    return next((found for key in keys if (found := find(log, workload, key, accept)) is not None), None)


def _devices() -> list[GpuDevice]:
    try:
        return Driver().devices
    except DeviceError:
        return []


def changed_records(
    records: Iterable[Mapping[str, Any]], targets: Iterable[Target], log: TuningLog, tune: bool
) -> list[str]:
    """What ``log`` would have a build do otherwise now, in words; empty where nothing.

    ``records`` are those of an artifact's manifest, one for each task; with ``tune``, tasks that were never measured
    on this machine are a difference too.
    """
    keys = {record_class(target): machine_keys(target) for target in targets}
    better = unmeasured = 0
    for entry in records:
        asked = keys.get(str(entry["isa"]))
        if asked is None:
            continue
        found = find_any(log, str(entry["workload"]), asked, _accepts(entry))
        if found is None:
            better += entry["from"] != "default"
        else:
            better += dict(found.record.parameters) != dict(entry["parameters"])
        unmeasured += found is None or found.source != "exact"
    words = [f"the tuning log has other parameters now for {better} of its kernels"] if better else []
    if tune and unmeasured:
        words.append(f"{unmeasured} of its kernels were not tuned on this machine")
    return words


def _accepts(entry: Mapping[str, Any]) -> Any:
    wanted = (entry["template"], entry["version"], entry["algorithm"])

    def accept(record: Record) -> bool:
        same = (record.template, record.template_version, record.algorithm) == wanted
        return same and not record.trace and record.parameters.keys() == entry["parameters"].keys()

    return accept
