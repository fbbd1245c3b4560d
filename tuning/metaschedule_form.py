"""MetaSchedule's database in and out: a folder of two files of JSON lines, as TVM's ``JSONDatabase`` writes them.

A line of the one is [hash, module], of the other [line of the workload, [trace, seconds, target, arguments]].
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from ..errors import LogError
from ..schedules.blocks import anchor_of
from ..schedules.template import templates
from ..targets import ISAS, Target, parse
from ..versions import TVM_VERSION, VERSION
from .exchange import Arrival
from .log import TuningLog
from .log_file import translated
from .record import Record
from .workload import workload_of

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"

TEMPLATE = "metaschedule"
"""The template of records whose schedule is a trace."""

_FAILED = 1e9
"""Seconds from which on MetaSchedule means that a candidate failed."""


@dataclass(frozen=True)
class Departure:
    """How many records were written, and (task, why) of those that could not be."""

    written: int
    skipped: tuple[tuple[str, str], ...]


def is_database(path: Path) -> bool:
    return (path / WORKLOADS).is_file() and (path / RECORDS).is_file()


def export_database(log: TuningLog, records: Iterable[Record], folder: Path) -> Departure:
    """Write the good ones of ``records`` as a new ``folder``, whole or not at all.

    A record needs its workload's module (``TuningLog.keep_module``) and a schedule that TVM's traces can express;
    those without are named in the result. Raises LogError when the folder exists or can't be written.
    """
    if folder.exists():
        raise LogError(f"{folder} exists", hint="name a folder that doesn't")
    written, skipped = 0, []
    with translated(folder, "exported"), tempfile.TemporaryDirectory(dir=folder.absolute().parent) as scratch:
        database = ms.database.JSONDatabase(work_dir=scratch)
        for record in records:
            if record.status != "ok":
                continue
            try:
                database.commit_tuning_record(_to_tvm(log, database, record))
                written += 1
            except _Inexpressible as error:
                skipped.append((record.task, str(error)))
        for name in (WORKLOADS, RECORDS):
            (Path(scratch) / name).touch()
        made = Path(scratch) / "made"
        made.mkdir()
        for name in (WORKLOADS, RECORDS):
            shutil.move(Path(scratch) / name, made / name)
        os.replace(made, folder)
    return Departure(written, tuple(skipped))


class _Inexpressible(Exception):
    pass


def _to_tvm(log: TuningLog, database: Any, record: Record) -> Any:
    text = log.module(record.workload)
    if text is None:
        raise _Inexpressible("the log doesn't hold its function, only its digest")
    mod = tvm.ir.load_json(text)
    dims = [dim for param in mod["main"].params for dim in getattr(param, "shape", ())]
    if not all(isinstance(dim, tirx.IntImm | int) for dim in dims):
        raise _Inexpressible("it has open dims, and MetaSchedule's records say each argument's size")
    target = _target(record)
    trace = _trace(mod, record, target)
    workload = database.commit_workload(mod)
    arguments = ms.arg_info.ArgInfo.from_prim_func(mod["main"])
    return ms.database.TuningRecord(
        trace, workload, list(record.seconds), tvm.target.Target(target.tvm_json()), arguments
    )


def _target(record: Record) -> Target:
    if record.isa not in ISAS:
        raise _Inexpressible(f"instruction set {record.isa!r} is unknown")
    return replace(parse(f"cpu:{record.isa}")[0], threads=record.threads)


def _trace(mod: tvm.IRModule, record: Record, target: Target) -> Trace:
    """The trace that makes of ``mod`` what the record's candidate is, tried before it is believed."""
    schedule = Schedule(mod)
    try:
        if record.trace:
            Trace.apply_json_to_schedule(json.loads(record.trace), schedule)
        else:
            _apply_template(schedule, record, target)
        again = Schedule(mod)
        schedule.trace.apply_to_schedule(again, remove_postproc=False)
    except Exception as error:
        raise _Inexpressible(f"its schedule can't be replayed: {_last_line(error)}") from error
    if not tvm_ffi.structural_equal(again.mod, schedule.mod):
        raise _Inexpressible("its trace replays to another schedule")
    return schedule.trace


def _apply_template(schedule: Schedule, record: Record, target: Target) -> None:
    found = anchor_of(schedule)
    if found is None or found[1] != record.template:
        raise ValueError(f"its function is none for template {record.template!r}")
    block, name = found
    annotations = schedule.get(block).annotations
    own = next((int(annotations[key]) for key in ("rows", "pixels") if key in annotations), None)
    parameters = dict(record.parameters)
    if parameters.pop("tile", own) != own:
        raise ValueError("another register tile is another function, which a trace can't make")
    templates()[name].apply(schedule, block, parameters, target)


def import_database(log: TuningLog, path: Path) -> Arrival:
    """Add the records and modules of the database in the folder ``path`` to ``log``.

    What is not for a CPU, or can't be read (say a truncated last line, which TVM itself stumbles over), is left out
    and named. Modules are read by TVM: import only what you would have TVM load.
    """
    if not is_database(path):
        raise LogError(
            f"{path} is no database of MetaSchedule: it lacks {WORKLOADS} or {RECORDS}",
            hint="check the path",
        )
    modules: dict[int, tuple[str, tirx.PrimFunc]] = {}
    records: list[Record] = []
    skipped: list[tuple[str, str]] = []
    for number, values in _lines(path / WORKLOADS, skipped):
        try:
            mod = ms.database.Workload.from_json(values).mod
            if len(mod.functions) != 1 or not isinstance(mod["main"], tirx.PrimFunc):
                raise ValueError("not one function")
            function = mod["main"]
            workload = workload_of(function)
        except Exception as error:
            skipped.append((f"{WORKLOADS} line {number}", _last_line(error)))
            continue
        modules[number - 1] = (workload, function)
        log.keep_module(workload, tvm.ir.save_json(mod))
    for number, values in _lines(path / RECORDS, skipped):
        try:
            records.append(_from_tvm(values, modules))
        except (LogError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            skipped.append((f"{RECORDS} line {number}", _last_line(error)))
    return Arrival(path, len(records), log.extend(records), tuple(skipped))


def _lines(path: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[int, Any]]:
    with translated(path, "read"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                skipped.append((f"{path.name} line {number}", str(error)))


def _from_tvm(values: Any, modules: dict[int, tuple[str, tirx.PrimFunc]]) -> Record:
    index, (trace, seconds, target, _arguments) = values
    if index not in modules:
        raise ValueError(f"its workload, line {index + 1}, was not read")
    workload, function = modules[index]
    if not isinstance(target, dict) or target.get("kind") != "llvm":
        raise ValueError(f"its target is no CPU: {json.dumps(target)[:100]}")
    good = [float(one) for one in seconds or () if 0 < float(one) < _FAILED]
    return Record(
        workload=workload, task=_describe(function), template=TEMPLATE, template_version=1, algorithm="none",
        parameters={}, isa=_isa(target), threads=int(target.get("num-cores", 1)), cache="",
        machine=f"MetaSchedule, {json.dumps(target, sort_keys=True)}", status="ok" if good else "error",
        seconds=tuple(good), error="" if good else "MetaSchedule could not measure it", features={},
        versions=f"onnxkiln {VERSION}, tvm {TVM_VERSION}, imported",
        when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), trace=json.dumps(trace, separators=(",", ":")),
    )  # fmt: skip


def _describe(function: tirx.PrimFunc) -> str:
    """Names and shapes: ``main(float32[16, 32], float32[32, 64], float32[16, 64])``."""
    tensors = [param for param in function.params if hasattr(param, "shape")]
    shown = [f"{one.dtype}[{', '.join(map(str, one.shape))}]" for one in tensors]
    return f"main({', '.join(shown)})"


def _isa(target: dict[str, Any]) -> str:
    """The highest of our levels that the target's processor has all features of."""
    machine = tvm.target.Target(target)
    features = set(tvm.target.codegen.llvm_get_cpu_features(machine)) | {
        one[1:] for one in map(str, target.get("mattr", ())) if one.startswith("+")
    }
    fitting = [isa for isa in ISAS.values() if isa.features <= features]
    if not fitting:
        raise ValueError(f"its processor is none of {', '.join(ISAS)}: {json.dumps(target)[:100]}")
    return max(fitting, key=lambda isa: isa.rank).name


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
