"""A folder that appears whole or not at all: written beside its place, then renamed over it.

The temporary folder is also the lock: its name follows from the output's, and its writer holds ``flock`` on it.
So a second writer is refused, and what a killed writer left behind is recognised (no one locks it) and cleared.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@contextlib.contextmanager
def staged_folder(output: Path, force: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``output`` when the block ends, and vanishes when it raises.

    Raises UsageError when ``output`` exists and ``force`` is not given, or another process is writing it. With
    ``force`` the old folder stays until the new one takes its name in one step.
    """
    refuse_existing(output, force)
    made = _make_parents(output.parent)
    try:
        staging, lock = _lock_staging(output)
        try:
            yield staging
            sync_tree(staging)
            refuse_existing(output, force)
            _publish(staging, output)
            made = []
        finally:
            # Whatever bears the name now is ours to delete: nothing, a failed attempt, or the folder replaced.
            shutil.rmtree(staging, ignore_errors=True)
            os.close(lock)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def refuse_existing(output: Path, force: bool) -> None:
    """Raise UsageError when ``output`` may not be written: it exists without ``force``, or is no artifact."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UsageError(f"output {output} exists and is not a folder", hint="choose another output")
    if not output.exists():
        return
    if not force:
        raise UsageError(f"output {output} exists", hint="choose another output, or replace it with --force")
    if any(output.iterdir()) and not (output / "manifest.json").is_file():
        # --force is for artifacts: it must not be able to delete somebody's home folder.
        raise UsageError(f"output {output} is not an artifact, so it is not replaced", hint="choose another output")


def _make_parents(folder: Path) -> list[Path]:
    """Create ``folder`` and what it needs; return those created, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _lock_staging(output: Path) -> tuple[Path, int]:
    """Create or take over the temporary folder; return it, empty, with the descriptor that holds its lock."""
    staging = output.parent / f".{output.name}.partial"
    while True:
        with contextlib.suppress(FileExistsError):
            staging.mkdir()
        try:
            lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise UsageError(
                f"another process is writing {output}", hint="wait for it, or choose another output"
            ) from None
        if _is_same(staging, lock):
            _empty(staging)
            return staging, lock
        os.close(lock)  # The other writer finished and renamed it between our open and our lock.


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to the disk, itself last."""
    for path in sorted(folder.rglob("*"), key=lambda item: -len(item.parts)):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(staging: Path, output: Path) -> None:
    if output.exists() and not _exchange(staging, output):
        # No atomic exchange on this file system: for a moment there is no folder, never a wrong one.
        old = output.parent / f".{output.name}.replaced"
        shutil.rmtree(old, ignore_errors=True)
        output.rename(old)
        try:
            staging.rename(output)
        except BaseException:
            old.rename(output)
            raise
        shutil.rmtree(old, ignore_errors=True)
    elif not output.exists():
        staging.rename(output)
    _sync(output.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (Linux's renameat2); False where the system can't."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(other))
