"""Moving records between logs and files: merge, prune, JSON lines out and in."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import LogError
from .log import TuningLog
from .log_file import translated
from .record import FORM_KEY, MAX_TEXT, Record, from_text
from .selection import Candidate, ranked

_BATCH = 1000


@dataclass(frozen=True)
class Arrival:
    """What came in from one file: records read, how many the log didn't have, and (where, why) of what was left out."""

    source: Path
    read: int
    new: int
    skipped: Sequence[tuple[str, str]] = ()


def is_json_lines(path: Path) -> bool:
    """Whether a file begins as JSON lines of records do."""
    with translated(path, "read"), open(path, "rb") as file:
        return file.read(64).lstrip().startswith(f'{{"{FORM_KEY}"'.encode())


def merge(log: TuningLog, source: Path) -> Arrival:
    """Add to ``log`` what the log at ``source``, or its JSON lines, holds. Raises LogError; then nothing was added."""
    if not source.exists():
        raise LogError(f"there is no log {source} to merge", hint="check the path")
    if is_json_lines(source):
        return import_lines(log, source)
    with TuningLog.open(source, write=False, shipped=False) as other:
        if log.path is not None and source.samefile(log.path):
            raise LogError(f"{source} is the log to merge into", hint="name another one")
        read = len(other)
        new = log.extend(other.records())
        for workload in other.modules():
            log.keep_module(workload, other.module(workload) or "")
    return Arrival(source, read, new)


def export_lines(records: Iterable[Record], path: Path) -> int:
    """Write records as JSON lines, whole or not at all; how many. Raises LogError when the file can't be written."""
    count = 0
    with translated(path, "written"):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                for record in records:
                    file.write(record.to_text() + "\n")
                    count += 1
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return count


def import_lines(log: TuningLog, path: Path) -> Arrival:
    """Add JSON lines to ``log``; lines that are no records, say a truncated last one, are left out and named."""
    read, new = 0, 0
    skipped: list[tuple[str, str]] = []
    batch: list[Record] = []
    for number, line in _lines(path):
        try:
            batch.append(from_text(line))
            read += 1
        except LogError as error:
            skipped.append((f"line {number}", error.message))
        if len(batch) == _BATCH:
            new += log.extend(batch)
            batch = []
    new += log.extend(batch)
    return Arrival(path, read, new, tuple(skipped))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with translated(path, "read"), open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        number = 0
        while line := file.readline(MAX_TEXT + 2):
            number += 1
            if line.strip():
                yield number, line.rstrip("\n")


def to_prune(
    records: Iterable[Record], *, keep: int | None = None, before: str | None = None, failed: bool = False
) -> list[Record]:
    """The records to take out of a log.

    ``keep``: of each workload on each machine, the measurements of all but that many of the fastest candidates;
    ``before``: those of before that day (2026-01-31); ``failed``: those of candidates that failed. A failure stays as
    long as a good measurement of the same candidate does, lest that be chosen again.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for one in records:
        groups[one.workload, one.machine].append(one)
    everything = [one for group in groups.values() for one in group]
    wrong = {(one.workload, one.candidate) for one in everything if one.status == "wrong"}
    kept = {key: _fastest(group, keep or 0, wrong) for key, group in groups.items()}
    removed = []
    for key, group in groups.items():
        for one in group:
            is_slow = keep is not None and one.status == "ok" and one.candidate not in kept[key]
            is_old = before is not None and one.when[: len(before)] < before
            if is_slow or is_old or (failed and one.status != "ok"):
                removed.append(one)
    gone = {one.digest for one in removed}
    good = {(one.workload, one.candidate) for one in everything if one.status == "ok" and one.digest not in gone}
    return [one for one in removed if one.status == "ok" or (one.workload, one.candidate) not in good]


def _fastest(group: Sequence[Record], count: int, wrong: Collection[tuple[str, Candidate]]) -> set[Candidate]:
    """The fastest candidates of one machine, and those that are left without what was found wrong elsewhere."""
    refuted = {candidate for workload, candidate in wrong if workload == group[0].workload}
    kept: set[Candidate] = set()
    for known in (ranked(group), ranked(group, refuted)):
        kept |= set(list(known)[:count])
    return kept
