"""The tuning log: every measurement that was finished, on whatever model, to be used by later builds.

Several processes may read and write one log at once. ``append`` returns when the record is on disk: a process that is
killed at any moment loses none that it appended.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import LogError, ToolchainError
from .log_file import BUSY_SECONDS, connect, connect_to_memory, how_to_repair, transaction, translated
from .record import Record, from_text
from .selection import best
from .shipped import shipped_records

NO_LOG = "none"
"""As a path: nothing is read from disk or written there."""

MAX_MODULE = 256 << 20
"""Bytes of one workload's module, unpacked: past it, a log is taken for damaged."""

Accept = Callable[[Record], bool]
"""Whether a record may be used: its template still exists in that version, say."""


def default_path() -> Path:
    """``tuning.sqlite`` in the user's cache folder."""
    try:
        from platformdirs import user_cache_path
    except ImportError as error:
        raise ToolchainError(
            "the default place of the tuning log needs the package platformdirs",
            hint="pip install 'onnxkiln[compile]', or name a file with --log FILE",
        ) from error
    return user_cache_path("onnxkiln", appauthor=False) / "tuning.sqlite"


class TuningLog:
    """A log on disk or in memory; a context manager. All methods raise LogError when the file can't be used.

    ``shipped``: whether the records that come with the package serve, behind the file's own, as class defaults and for
    ranking.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None = None,
        *,
        copy: tempfile.TemporaryDirectory[str] | None = None,
        shipped: bool = True,
    ):
        self.path = path
        self._connection = connection
        self._copy = copy
        self._has_shipped = shipped
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | Path | None = None, *, write: bool = True, shipped: bool = True) -> TuningLog:
        """Open the log at ``path``, by default the user's; ``"none"`` is a log in memory.

        For reading alone (``write=False``) a log that doesn't exist is an empty one, and nothing is created.
        """
        if path is not None and str(path) == NO_LOG:
            return cls(connect_to_memory(), shipped=shipped)
        place = default_path() if path is None else Path(path)
        with translated(place, "read"):
            exists = place.exists()
        if not write and not exists:
            return cls(connect_to_memory(), shipped=shipped)
        if not exists:
            with translated(place, "created"):
                place.parent.mkdir(parents=True, exist_ok=True)
        connection, copy = connect(place, write)
        return cls(connection, place, copy=copy, shipped=shipped)

    def __enter__(self) -> TuningLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._connection.close()
        if self._copy:
            self._copy.cleanup()

    def append(self, record: Record) -> None:
        """Add one record; it is on disk when this returns. One that the log has already is not added again."""
        self.extend([record])

    def extend(self, records: Iterable[Record]) -> int:
        """Add records, all or none; how many of them were new."""
        rows = [_row(record) for record in records]
        with self._lock, translated(self.path, "written"), transaction(self._connection):
            before = self._connection.total_changes
            self._connection.executemany("INSERT OR IGNORE INTO record VALUES (NULL,?,?,?,?,?,?,?,?)", rows)
            return self._connection.total_changes - before

    def exact(self, workload: str, machine: str, accept: Accept | None = None) -> Record | None:
        """The best record of this workload on this very machine: it wins, and needs no measurement."""
        found = self.records({"workload": workload, "machine": machine})
        return best(record for record in found if accept is None or accept(record))

    def class_best(
        self, workload: str, isa: str, threads: int, cache: str, accept: Accept | None = None
    ) -> Record | None:
        """The best record of this workload on machines of the class: a default. The shipped ones stand behind."""
        key = {"workload": workload, "isa": isa, "threads": threads, "cache": cache}
        for records in (self.records(key), self._shipped(key)):
            chosen = best(record for record in records if accept is None or accept(record))
            if chosen is not None:
                return chosen
        return None

    def similar(self, template: str, isa: str | None = None, threads: int | None = None) -> list[Record]:
        """All records of a template, on one ISA and number of threads if given: what ranking learns from."""
        key: dict[str, Any] = {"template": template}
        key |= {} if isa is None else {"isa": isa}
        key |= {} if threads is None else {"threads": threads}
        return [*self.records(key), *self._shipped(key)]

    def records(self, equal: Mapping[str, Any] | None = None) -> Iterator[Record]:
        """The file's records in the order they came, those alone whose fields ``equal`` these values if given.

        Fields: workload, template, isa, threads, cache, machine. What is appended meanwhile is not among them.
        """
        equal = equal or {}
        unknown = equal.keys() - {"workload", "template", "isa", "threads", "cache", "machine"}
        if unknown:
            raise LogError(f"a tuning log isn't searched by {sorted(unknown)}")
        where = " AND ".join(f"{name} = ?" for name in equal) or "1"
        with self._lock, translated(self.path, "read"):
            rows = self._connection.execute(
                f"SELECT digest, body FROM record WHERE {where} ORDER BY id", tuple(equal.values())
            ).fetchall()
        return (self._read(digest, body) for digest, body in rows)

    def _read(self, digest: Any, body: Any) -> Record:
        """A record whose digest fits: a byte that was altered may leave a record that is none of ours."""
        if isinstance(body, str) and hashlib.sha256(body.encode()).hexdigest() == digest:
            return from_text(body)
        raise LogError(f"the tuning log {self.path} is damaged: a record was altered", hint=how_to_repair(self.path))

    def _shipped(self, equal: Mapping[str, Any]) -> list[Record]:
        if not self._has_shipped:
            return []
        return [one for one in shipped_records() if all(getattr(one, name) == value for name, value in equal.items())]

    def __len__(self) -> int:
        with self._lock, translated(self.path, "read"):
            return int(self._connection.execute("SELECT count(*) FROM record").fetchone()[0])

    def remove(self, records: Iterable[Record]) -> int:
        """Take records out, all or none; how many were there."""
        digests = [(record.digest,) for record in records]
        with self._lock, translated(self.path, "written"), transaction(self._connection):
            before = self._connection.total_changes
            self._connection.executemany("DELETE FROM record WHERE digest = ?", digests)
            return self._connection.total_changes - before

    def compact(self) -> None:
        """Give back the room of what was removed; waits for nobody, and leaves it for later while others write."""
        with self._lock, contextlib.suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("VACUUM")
        with self._lock, translated(self.path, "written"):
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")

    def keep_module(self, workload: str, module: str) -> None:
        """Keep a workload's unscheduled function as TVM's JSON: exports to MetaSchedule's form need it."""
        packed = zlib.compress(module.encode())
        with self._lock, translated(self.path, "written"), transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO module VALUES (?, ?)", (workload, packed))

    def module(self, workload: str) -> str | None:
        """What ``keep_module`` was given for a workload, or None."""
        with self._lock, translated(self.path, "read"):
            row = self._connection.execute("SELECT body FROM module WHERE workload = ?", (workload,)).fetchone()
        if row is None:
            return None
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(row[0], MAX_MODULE).decode()
        except (zlib.error, UnicodeDecodeError, TypeError) as error:
            raise LogError(
                f"the tuning log {self.path} is damaged: a module can't be unpacked: {error}",
                hint=how_to_repair(self.path),
            ) from error
        return text

    def modules(self) -> list[str]:
        """The workloads whose modules are kept."""
        with self._lock, translated(self.path, "read"):
            return [row[0] for row in self._connection.execute("SELECT workload FROM module ORDER BY workload")]


def _row(record: Record) -> tuple[Any, ...]:
    key = (record.workload, record.template, record.isa, record.threads, record.cache, record.machine)
    return (record.digest, *key, record.to_text())

