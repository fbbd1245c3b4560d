"""Open an artifact's files and check them against the manifest; afterwards only the open files are used.

So nothing that happens to the folder between the check and the use, such as being replaced by a newer artifact,
can mix one build's code with another's weights.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from ..errors import ArtifactError, IntegrityError
from . import manifest as format_
from .manifest import FileEntry, Manifest

_REMAKE = "copy the artifact again, or compile it anew"
_UNPACK = "give the folder's path; archives are not opened, unpack one with a tool that you trust"
_MAX_DEPTH = 8
_STEP = 1 << 21
_names = itertools.count()


class OpenArtifact:
    """The folder, its manifest and, after ``verify``, a descriptor of every file; a context manager."""

    def __init__(self, path: Path):
        """Read the manifest. Raises ArtifactError (no such folder), IntegrityError or VersionError."""
        self.path = path
        self._files: dict[str, int] = {}
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            self._folders = [self._folder]
        except FileNotFoundError:
            raise ArtifactError(f"no artifact at {path}", hint="check the path") from None
        except NotADirectoryError:
            raise ArtifactError(f"{path} is a file; an artifact is a folder", hint=_UNPACK) from None
        except OSError as error:
            raise ArtifactError(f"the artifact {path} can't be opened: {error}") from error
        try:
            self.manifest = self._read_manifest()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> OpenArtifact:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor; what was mapped or loaded from them stays."""
        descriptors = [*self._files.values(), *self._folders]
        self._files, self._folders = {}, []
        for descriptor in descriptors:
            os.close(descriptor)

    def descriptor(self, path: str) -> int:
        """The open file, positioned anywhere."""
        return self._files[path]

    def loadable(self, path: str) -> str:
        """A name of the *open* file for ``dlopen``, never used before.

        The linker takes an equal name for the library it has already loaded, and descriptors' numbers come again:
        so each name spells the same place differently (slashes and dots don't change where a path leads).
        """
        serial = next(_names)
        spelling = "".join("/." if serial >> bit & 1 else "//" for bit in range(max(1, serial.bit_length())))
        return f"/proc/self/fd{spelling}/{self._files[path]}"

    def verify(self, full: bool) -> None:
        """Open every listed file; compare what is there, its size and, if ``full``, its digest with the manifest.

        Raises IntegrityError, naming the file.
        """
        listed = {entry.path: entry for entry in self.manifest.files}
        present = set(_walk(self._folder)) - {format_.FILE_NAME}
        if missing := sorted(listed.keys() - present):
            raise IntegrityError(f"{self.path}: missing file(s) {', '.join(missing)}", hint=_REMAKE)
        if surplus := sorted(present - listed.keys()):
            raise IntegrityError(
                f"{self.path}: file(s) that the manifest doesn't list: {', '.join(surplus)}",
                hint="remove them if you know where they come from, else compile the artifact anew",
            )
        for entry in listed.values():
            self._files[entry.path] = _open_plain(self._folder, entry.path)
            self._compare(entry, full)

    def read(self, path: str) -> bytes | None:
        """A small file's content, its digest checked; None where the manifest lists no such file."""
        entry = next((entry for entry in self.manifest.files if entry.path == path), None)
        if entry is None:
            return None
        if path not in self._files:
            try:
                self._files[path] = _open_plain(self._folder, path)
            except FileNotFoundError:
                raise IntegrityError(f"{self.path}: missing file(s) {path}", hint=_REMAKE) from None
        self._compare(entry, full=True)
        return os.pread(self._files[path], entry.size, 0)

    def _compare(self, entry: FileEntry, full: bool) -> None:
        descriptor = self._files[entry.path]
        size = os.fstat(descriptor).st_size
        if size != entry.size:
            raise IntegrityError(
                f"{self.path}: {entry.path} has {size} bytes, the manifest says {entry.size}", hint=_REMAKE
            )
        if full and (found := _digest(descriptor)) != entry.sha256:
            raise IntegrityError(
                f"{self.path}: {entry.path} is not the file that was written: its sha256 is {found[:16]}..., "
                f"the manifest says {entry.sha256[:16]}...",
                hint=_REMAKE,
            )

    def _read_manifest(self) -> Manifest:
        try:
            descriptor = _open_plain(self._folder, format_.FILE_NAME)
        except FileNotFoundError:
            raise ArtifactError(
                f"{self.path} has no {format_.FILE_NAME}: it is not an artifact, or an incomplete copy", hint=_REMAKE
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(format_.MAX_BYTES + 1)
        if len(data) > format_.MAX_BYTES:
            raise IntegrityError(f"{self.path}: {format_.FILE_NAME} is longer than {format_.MAX_BYTES} bytes")
        return format_.from_bytes(data)


def _digest(descriptor: int) -> str:
    """In steps that fit the cache, and are few: after each one this thread waits for the interpreter again."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_STEP, os.fstat(descriptor).st_size) or 1))
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _open_plain(folder: int, path: str) -> int:
    """Open a regular file below ``folder`` for reading, following no symbolic link on the way."""
    *parents, name = path.split("/")
    current = os.dup(folder)
    try:
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = inner
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=current)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IntegrityError(f"{path} can't be opened as a plain file: {error.strerror}", hint=_REMAKE) from error
    finally:
        os.close(current)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(f"{path} is not a plain file", hint=_REMAKE)
    return descriptor


def _walk(folder: int, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Every name below ``folder`` that isn't a real folder, links included, as POSIX paths."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        if not is_folder:
            yield prefix + name
            continue
        if depth == _MAX_DEPTH:
            raise IntegrityError(f"{prefix}{name}: folders nested deeper than any artifact's", hint=_REMAKE)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            yield from _walk(inner, f"{prefix}{name}/", depth + 1)
        finally:
            os.close(inner)
