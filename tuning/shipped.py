"""The log that comes with the package: records of common shapes, defaults for their classes of machines.

``shipped.jsonl`` lies beside this file, one record's text a line; ``scripts/ship_log.py`` makes it.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ..errors import LogError
from .record import Record, from_text

PATH = Path(__file__).with_name("shipped.jsonl")


@functools.cache
def shipped_records(path: Path = PATH) -> tuple[Record, ...]:
    """All records that come with the package, read when they are first asked for; none where there is no such file."""
    if not path.is_file():
        return ()
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(from_text(line))
        except LogError as error:
            raise LogError(
                f"the log that comes with onnxkiln is damaged, {path} line {number}: {error.message}",
                hint="reinstall onnxkiln, or go without that log (--no-shipped-log)",
            ) from error
    return tuple(records)
