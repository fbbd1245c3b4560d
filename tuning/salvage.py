"""What is intact of a damaged log, and a new log from it.

Records are found by their bytes, in the file and in its write-ahead log, whatever became of the pages around them.
One counts as intact when the digest that was stored before it is that of its text.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..errors import LogError
from .log import TuningLog
from .log_file import is_absent, translated
from .record import FORM_KEY, MAX_TEXT, Record, from_text, from_values

_START = f'{{"{FORM_KEY}":'.encode()
_REACH = 4096
"""Bytes before a record's text in which its row has the digest."""

# Where SQLite's processes lock a database file: https://www.sqlite.org/src/file?name=src/os.h
_LOCKS_START, _LOCKS_LENGTH = 0x40000000, 512


def salvage(path: Path) -> list[Record]:
    """Every intact record of the file at ``path``, which is only read. Raises LogError when it can't be."""
    found: dict[str, Record] = {}
    for file in (path, _beside(path, "-wal")):
        if file == path or file.is_file():
            with translated(path, "read"):
                data = file.read_bytes()
            found |= {record.digest: record for record in _scan(data)}
    # A text of more than a page lies in pieces; SQLite reads it if these are whole.
    found |= {record.digest: record for record in _readable(path)}
    return list(found.values())


def _scan(data: bytes) -> Iterator[Record]:
    decoder = json.JSONDecoder()
    start = data.find(_START)
    while start >= 0:
        # Texts are ASCII: what follows one in its page, or lies across it, mostly isn't.
        end = data.find(b"\0", start, start + MAX_TEXT)
        with contextlib.suppress(ValueError, RecursionError, LogError):
            values, _ = decoder.raw_decode(data[start : end if end >= 0 else start + MAX_TEXT].decode("latin-1"))
            record = from_values(values)
            if record.digest.encode() in data[max(0, start - _REACH) : start]:
                yield record
        start = data.find(_START, start + 1)


def _readable(path: Path) -> Iterator[Record]:
    """What SQLite still reads, from the first record on and from the last one back."""
    with tempfile.TemporaryDirectory(prefix="onnxkiln-log-") as folder:
        copy = Path(folder) / "copy"
        for ending in ("", "-wal"):
            if _beside(path, ending).is_file():
                shutil.copyfile(_beside(path, ending), _beside(copy, ending))
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            for order in ("ASC", "DESC"):
                with contextlib.suppress(sqlite3.Error):
                    for digest, body in connection.execute(f"SELECT digest, body FROM record ORDER BY id {order}"):
                        with contextlib.suppress(LogError, TypeError):
                            record = from_text(body)
                            if record.digest == digest:
                                yield record


def repair(path: Path) -> tuple[int, Path]:
    """Replace the log at ``path`` by one of its intact records; how many those are, and where the old file is now.

    Raises LogError when another process has the log open, or it can't be read or written.
    """
    with translated(path, "repaired"):
        _check_unused(path)
        records = salvage(path)
        if not records and not _is_log(path):
            raise LogError(f"there is nothing of a tuning log in {path}; it was left as it is", hint="check the path")
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        old = _beside(path, f".damaged-{stamp}")
        new = _beside(path, f".repaired-{stamp}")
        with TuningLog.open(new, shipped=False) as log:
            log.extend(records)
        for ending in ("", "-wal"):
            if _beside(path, ending).is_file():
                shutil.copyfile(_beside(path, ending), _beside(old, ending))
        # A write-ahead log left beside the new file would be taken for that one's.
        for ending in ("-wal", "-shm"):
            _beside(path, ending).unlink(missing_ok=True)
        os.replace(new, path)
    return len(records), old


def _check_unused(path: Path) -> None:
    with open(path, "rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKS_LENGTH, _LOCKS_START)
        except BlockingIOError as error:
            raise LogError(f"the tuning log {path} is in use by another process", hint="end that process") from error


def _is_log(path: Path) -> bool:
    try:
        return not is_absent(path)
    except LogError:
        return False


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
