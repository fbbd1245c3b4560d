"""``onnxkiln log``: what the tuning log knows, and moving records between logs and files."""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LogError, UsageError
from ..versions import check_compiler
from .output import format_bytes, format_table, print_json, print_section

if TYPE_CHECKING:
    from ..tuning.exchange import Arrival
    from ..tuning.log import TuningLog
    from ..tuning.summary import Known


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "log",
        allow_abbrev=False,
        help="show, merge, prune, export and import tuning logs",
        description="The tuning log keeps every measurement of every build. These commands show it and move records.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    log = argparse.ArgumentParser(add_help=False)
    log.add_argument("--log", metavar="FILE", help="the log (default: $ONNXKILN_LOG, else the user's)")

    def action(name: str, execute: Any, words: str, with_log: bool = True) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, parents=[log, common] if with_log else [common], help=words, description=words, allow_abbrev=False
        )
        made.set_defaults(execute=execute)
        return made

    show = action("show", _show, "the best known candidate of each workload, by class of machines")
    show.add_argument("--match", metavar="TEXT", help="only tasks, templates or workloads that contain TEXT")
    show.add_argument("--shipped", action="store_true", help="show the log that comes with onnxkiln instead")
    stats = action("stats", _stats, "records by status, template, class of machines, machine and version")
    stats.add_argument("--shipped", action="store_true", help="count the log that comes with onnxkiln instead")
    merge = action("merge", _merge, "add the records of other logs, or of JSON lines, to the log")
    merge.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="a log or JSON lines")
    prune = action("prune", _prune, "take records out of the log; only those that every option given leaves are kept")
    prune.add_argument("--keep", type=_count, metavar="N", help="of each workload and machine the N fastest candidates")
    prune.add_argument("--before", type=_day, metavar="DAY", help="take out what was measured before it (2026-01-31)")
    prune.add_argument("--failed", action="store_true", help="take out candidates that failed")
    prune.add_argument("--dry-run", action="store_true", help="only say how many records that would be")
    export = action("export", _export, "write the log's records as JSON lines, or as a database of TVM's MetaSchedule")
    export.add_argument("output", type=Path, metavar="OUT", help="a file, for metaschedule a new folder")
    export.add_argument(
        "--form", choices=["lines", "metaschedule"], default="lines", help="lines, or metaschedule (default: lines)"
    )
    export.add_argument("--best", action="store_true", help="only the best of each workload and class of machines")
    arrive = action("import", _import, "add records from JSON lines, or from a database of MetaSchedule, to the log")
    arrive.add_argument("source", type=Path, metavar="SOURCE", help="a file, or MetaSchedule's folder")
    repair = action("repair", _repair, "make a log of the intact records of a damaged one, and keep that", False)
    repair.add_argument("path", type=Path, metavar="FILE", help="the damaged log")


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text} is no count")
    return int(text)


def _day(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text} is no day such as 2026-01-31")
    return text


def _open(options: argparse.Namespace, write: bool = False) -> TuningLog:
    from ..tuned_records import LOG_VARIABLE, open_log
    from ..tuning.log import NO_LOG

    named = options.log or os.environ.get(LOG_VARIABLE)
    if named == NO_LOG:
        raise UsageError("the log none: there is nothing to show or change", hint="name a file with --log FILE")
    if not write and named and not Path(named).exists():
        raise LogError(f"there is no tuning log {named}", hint="check the path")
    return open_log(options.log, shipped=False, write=write)


def _records(options: argparse.Namespace) -> tuple[str, list[Any]]:
    """The records to show, and where they are from."""
    from ..tuning import shipped

    if options.shipped:
        if options.log is not None:
            raise UsageError("--shipped and --log exclude one another", hint="give one of them")
        return str(shipped.PATH), list(shipped.shipped_records())
    with _open(options) as log:
        return str(log.path or "the user's log, which is not there yet"), list(log.records())


def _show(options: argparse.Namespace) -> None:
    from ..tuning.summary import known_workloads

    where, records = _records(options)
    entries = known_workloads(records)
    if options.match:
        entries = [one for one in entries if options.match in _searchable(one)]
    if options.json:
        print_json({"log": where, "workloads": [one.to_json() for one in entries]})
        return
    print(f"{where}: {len(entries)} workload(s)")
    if entries:
        header = ("workload", "task", "class", "tried", "failed", "ms", "GFLOPS", "template", "parameters")
        print(format_table(header, [_cells(one) for one in entries]))


def _searchable(entry: Known) -> str:
    return f"{entry.workload} {entry.task} {entry.best.template if entry.best else ''}"


def _cells(entry: Known) -> tuple[object, ...]:
    record, rate = entry.best, entry.gflops
    machine_class = f"{entry.isa}/{entry.threads}/{entry.cache}"
    counts = (entry.workload[:8], entry.task, machine_class, entry.measured, entry.failed)
    if record is None:
        return (*counts, "-", "-", "none good", "")
    kernel = record.template + ("" if record.algorithm in ("", "none", "direct") else f" {record.algorithm}")
    parameters = " ".join(f"{name}={value}" for name, value in sorted(record.parameters.items()))
    return (*counts, f"{record.latency * 1e3:.4g}", "-" if rate is None else f"{rate:.1f}", kernel, parameters)


def _stats(options: argparse.Namespace) -> None:
    from ..tuning.summary import count

    where, records = _records(options)
    figures = count(records)
    size = Path(where).stat().st_size if Path(where).is_file() else 0
    if options.json:
        print_json({"log": where, "bytes": size, **figures})
        return
    print(f"{where}: {format_bytes(size)}, {figures['records']} record(s) of {figures['workloads']} workload(s)")
    if figures["first"]:
        print(f"measured from {figures['first']} to {figures['last']}")
    for name in ("statuses", "templates", "classes", "machines", "versions"):
        if figures[name]:
            print_section(name, format_table(("records", "of"), [(n, key) for key, n in figures[name].items()]))


def _merge(options: argparse.Namespace) -> int:
    from ..tuning.exchange import merge

    with _open(options, write=True) as log:
        arrivals = [merge(log, source) for source in options.sources]
        return _say_arrivals(log, arrivals, options)


def _import(options: argparse.Namespace) -> int:
    from ..tuning.exchange import import_lines

    arrive = import_lines
    if options.source.is_dir():
        check_compiler()
        from ..tuning.metaschedule_form import import_database

        arrive = import_database
    with _open(options, write=True) as log:
        return _say_arrivals(log, [arrive(log, options.source)], options)


def _say_arrivals(log: TuningLog, arrivals: list[Arrival], options: argparse.Namespace) -> int:
    """Exit code 1 when something was left out."""
    total = len(log)
    if options.json:
        print_json({"log": log.path, "records": total, "sources": [vars(one) for one in arrivals]})
    else:
        for one in arrivals:
            print(f"{one.source}: {one.read} record(s), {one.new} of them new")
            for where, why in one.skipped:
                print(f"  left out: {where}: {why}")
        print(f"{log.path}: {total} record(s)")
    return int(any(one.skipped for one in arrivals))


def _prune(options: argparse.Namespace) -> None:
    from ..tuning.exchange import to_prune

    if options.keep is None and options.before is None and not options.failed:
        raise UsageError("nothing says what to take out", hint="give --keep N, --before DAY or --failed")
    with _open(options) as log:  # says so where there is no log, and creates none
        removed = to_prune(log.records(), keep=options.keep, before=options.before, failed=options.failed)
        left = len(log) - len(removed)
    if not options.dry_run and removed:
        with _open(options, write=True) as log:
            log.remove(removed)
            log.compact()
            left = len(log)
    if options.json:
        print_json({"removed": len(removed), "records": left, "dry_run": options.dry_run})
    else:
        print(f"{'would take' if options.dry_run else 'took'} out {len(removed)} record(s); {left} left")


def _export(options: argparse.Namespace) -> None:
    from ..tuning.exchange import export_lines
    from ..tuning.summary import known_workloads

    skipped: Sequence[tuple[str, str]] = ()
    with _open(options) as log:
        records = list(log.records())
        if options.best:
            records = [one.best for one in known_workloads(records) if one.best is not None]
        if options.form == "metaschedule":
            check_compiler()
            from ..tuning.metaschedule_form import export_database

            done = export_database(log, records, options.output)
            written, skipped = done.written, done.skipped
        else:
            written = export_lines(records, options.output)
    if options.json:
        print_json({"output": options.output, "records": written, "skipped": skipped})
    else:
        print(f"{options.output}: {written} record(s)")
        for (task, why), count in Counter(skipped).items():
            print(f"  left out: {task}: {why}" + (f" ({count} times)" if count > 1 else ""))


def _repair(options: argparse.Namespace) -> None:
    from ..tuning.salvage import repair

    kept, old = repair(options.path)
    if options.json:
        print_json({"log": options.path, "records": kept, "damaged": old})
    else:
        print(f"{options.path}: {kept} intact record(s); the damaged file is now {old}")
