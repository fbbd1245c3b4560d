"""The weights file: tensors one after another, each at a multiple of 64 bytes, written streaming and mapped shared."""

from __future__ import annotations

import hashlib
import itertools
import math
import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import CompileError
from .manifest import ALIGNMENT, ITEM_BYTES, FileEntry, Weight, Weights

_CHUNK = 1 << 24


def write_weights(folder: Path, path: str, tensors: Iterable[tuple[str, np.ndarray]]) -> tuple[Weights, FileEntry]:
    """Write ``tensors`` in order to ``folder/path``, padded with zeros; little-endian, C order.

    At most one tensor is copied at a time, and only if its memory isn't in that form already. Raises
    CompileError for a dtype that an artifact can't hold.
    """
    entries: list[Weight] = []
    digest = hashlib.sha256()
    offset = 0
    with open(folder / path, "wb") as file:
        for name, array in tensors:
            padding = -offset % ALIGNMENT
            for piece in itertools.chain([memoryview(bytes(padding))], _pieces(array)):
                file.write(piece)
                digest.update(piece)
            nbytes = math.prod(array.shape) * array.dtype.itemsize
            entries.append(Weight(name, _dtype_name(name, array), tuple(array.shape), offset + padding, nbytes))
            offset += padding + nbytes
    return Weights(path, tuple(entries)), FileEntry(path, digest.hexdigest(), offset)


def _dtype_name(name: str, array: np.ndarray) -> str:
    if array.dtype.name not in ITEM_BYTES:
        raise CompileError(f"weight {name!r} has dtype {array.dtype}, which an artifact can't hold")
    return array.dtype.name


def _pieces(array: np.ndarray) -> Iterable[memoryview]:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else None)
    data = plain.reshape(-1).view(np.uint8).data
    return (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))


def map_weights(descriptor: int, size: int, weights: Weights) -> list[np.ndarray]:
    """The tensors as byte arrays over one private mapping of the open file; the arrays keep it alive.

    DLPack takes no read-only memory, so the mapping is copy-on-write: nothing writes, and so every process that
    maps the file shares its pages.
    """
    if size == 0:
        return [np.zeros(0, np.uint8) for _ in weights.tensors]
    mapping = np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY), np.uint8)
    return [mapping[weight.offset : weight.offset + weight.nbytes] for weight in weights.tensors]
