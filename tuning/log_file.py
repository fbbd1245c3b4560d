"""The file of a tuning log: one SQLite database, opened so that several processes can use it at once.

A record is kept as its text. It lies in one piece in its page, so that ``salvage`` can read what is intact of a
damaged file. Before SQLite is asked anything, the file's first bytes must say that it is a log: a foreign file is
never written to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import LogError

APPLICATION_ID = 0x4B494C4E  # "KILN", in the header's bytes 68 to 71
FORM = 1
"""Version of the tables, SQLite's user_version."""

BUSY_SECONDS = 60.0
"""How long a process waits for others; a write takes milliseconds."""

# Large enough that an ordinary record, some 1500 bytes, is never spread over pages.
_PAGE_BYTES = 8192
_JOURNAL_PAGES = 250
_MAGIC = b"SQLite format 3\0"

_TABLES = """
CREATE TABLE record (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, workload TEXT NOT NULL, template TEXT NOT NULL,
    isa TEXT NOT NULL, threads INTEGER NOT NULL, cache TEXT NOT NULL, machine TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX by_workload ON record (workload);
CREATE INDEX by_template ON record (template, isa);
CREATE TABLE module (workload TEXT PRIMARY KEY, body BLOB NOT NULL);
"""

# Write-ahead logs need memory that all processes share, which these don't give.
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "fuse.sshfs"}


def connect(path: Path, write: bool) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    """Open, or for writing create, the log at ``path``.

    Returns a connection and, where a read-only folder made a copy necessary, the folder of that copy, to be removed
    after the connection. Raises LogError.
    """
    is_new = is_absent(path)
    if not write:
        return _connect_to_read(path)
    with translated(path, "opened"):
        connection = _connect(f"{path.absolute().as_uri()}?mode=rwc")
        try:
            if is_new:
                _create_tables(connection)
            _check_form(connection, path)
            _choose_journal(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_JOURNAL_PAGES}")
            # What is removed is overwritten: ``salvage`` would find it.
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
    return connection, None


def connect_to_memory() -> sqlite3.Connection:
    """A log that lives as long as its connection."""
    connection = _connect(":memory:")
    _create_tables(connection)
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's statements, or none; waits for other writers."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # What failed for lack of room may have been rolled back already.
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(path: Path | None, done: str) -> Iterator[None]:
    """Turn SQLite's and the system's errors into LogErrors: the log at ``path`` can't be ``done``."""
    where = f"the tuning log {path}" if path else "the tuning log in memory"
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason, hint = _explain(error, path)
        raise LogError(f"{where} can't be {done}: {reason}", hint=hint) from error


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _connect_to_read(path: Path) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    with translated(path, "read"):
        try:
            return _checked(path, path), None
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
        # SQLite would have to create files beside a log that nobody has open, and may not.
        folder = tempfile.TemporaryDirectory(prefix="onnxkiln-log-")
        copy = Path(folder.name) / "copy"
        shutil.copyfile(path, copy)
        journal = path.with_name(path.name + "-wal")
        if journal.is_file():
            shutil.copyfile(journal, copy.with_name(copy.name + "-wal"))
        return _checked(copy, path), folder


def _checked(file: Path, path: Path) -> sqlite3.Connection:
    # Not mode=ro: files that SQLite makes beside the log would stay there. Where it may not write, it doesn't.
    connection = _connect(f"{file.absolute().as_uri()}?mode=rw")
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_form(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def is_absent(path: Path) -> bool:
    """Whether there is no log at ``path`` yet: nothing, or an empty file. Raises LogError when something else is."""
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise LogError(f"the tuning log {path} can't be read: {error.strerror}", hint=_OTHER) from error
    if not header:
        return True
    what = None
    if not header.startswith(_MAGIC[: len(header)]):
        what = "it is no SQLite file"
    elif len(header) == 100 and header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        what = "it is an SQLite file of another program"
    if what:
        raise LogError(
            f"{path} is not a tuning log: {what}; it was left as it is",
            hint="name another file with --log FILE; JSON lines are read with `onnxkiln log import`",
        )
    if _ends_inside_a_page(path, header):
        raise LogError(f"the tuning log {path} is damaged: its end is missing", hint=how_to_repair(path))
    return False


def _ends_inside_a_page(path: Path, header: bytes) -> bool:
    """SQLite would take what is missing of a last page for zeros. What a journal lies beside, it completes itself."""
    page = int.from_bytes(header[16:18], "big") or _PAGE_BYTES
    for _ in range(20):
        journals = [path.with_name(path.name + ending) for ending in ("-wal", "-journal")]
        if path.stat().st_size % page == 0 or any(one.exists() and one.stat().st_size for one in journals):
            return False
        time.sleep(0.01)  # another process may be writing that page
    return True


def _create_tables(connection: sqlite3.Connection) -> None:
    # In a rollback journal's mode, so that the file's own header, and not a write-ahead log, says what it is.
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    with transaction(connection):
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return  # another process was faster
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORM}")


def _check_form(connection: sqlite3.Connection, path: Path) -> None:
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    form = connection.execute("PRAGMA user_version").fetchone()[0]
    if identity != APPLICATION_ID:
        raise LogError(f"{path} is not a tuning log; it was left as it is", hint=_OTHER)
    if form != FORM:
        raise LogError(
            f"the tuning log {path} is of form {form}, and this version of onnxkiln uses form {FORM}",
            hint="use the version of onnxkiln that wrote it, or name another file with --log FILE",
        )


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    """A write-ahead log, under which readers never wait, where the file system allows; else a rollback journal."""
    wanted = "DELETE" if file_system(path) in _NETWORK else "WAL"
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_BUSY and time.monotonic() < deadline:
                time.sleep(0.05)  # SQLite does not wait here itself
            elif code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL) and wanted == "WAL":
                wanted = "DELETE"
            else:
                raise


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the file system that ``path`` lies in, such as "ext4"; "" where the system doesn't say."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    real = Path(os.path.realpath(path))
    found = [
        (len(fields[1]), index, fields[2])
        for index, fields in enumerate(lines)
        if len(fields) > 2 and real.is_relative_to(fields[1].replace("\\040", " "))
    ]
    return max(found)[2] if found else ""


_OTHER = "check the path, or name another file with --log FILE (--log none: no log)"


def how_to_repair(path: Path | None) -> str:
    """What to do about a damaged log."""
    return f"`onnxkiln log repair {path}` keeps all intact records, and the damaged file beside them"


def _explain(error: Exception, path: Path | None) -> tuple[str, str]:
    """What an error means, and what to do about it."""
    if not isinstance(error, sqlite3.Error):
        return str(error), _OTHER
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode" in str(error):  # text that is no UTF-8
        return "it is damaged (truncated or overwritten)", how_to_repair(path)
    if code == sqlite3.SQLITE_FULL:
        return "no room on the disk; the records in it are safe", "make room and run again: it goes on from there"
    if code == sqlite3.SQLITE_IOERR:
        name = getattr(error, "sqlite_errorname", "")
        return f"{error} ({name}); the records in it are safe", "check the disk's room and health, and run again"
    if code == sqlite3.SQLITE_READONLY:
        return "it, or its folder, may only be read", _OTHER
    if code == sqlite3.SQLITE_CANTOPEN:
        return "it, or its folder, may not be written or doesn't exist", _OTHER
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another process has held it for {BUSY_SECONDS:.0f} s", "end that process, or use another --log FILE"
    return str(error), _OTHER
