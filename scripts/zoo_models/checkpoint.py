"""Weights out of checkpoint files, without the frameworks that wrote them."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = dict[str, npt.NDArray[Any]]


class _TorchReader(pickle.Unpickler):
    """Reads only what a state dict consists of; any other class in the pickle is refused."""

    _storages = {"FloatStorage": np.float32, "LongStorage": np.int64}

    def find_class(self, module: str, name: str) -> Any:
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, size, stride, *_: (storage, offset, size, stride)
        if name == "OrderedDict":
            return collections.OrderedDict
        if name in self._storages:
            return self._storages[name]
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a state dict")

    def persistent_load(self, pid: Any) -> Any:
        return pid[2], pid[1]  # the storage's key and its dtype


def read_torch(data: bytes) -> Weights:
    """The tensors of a legacy (not zipped) torch checkpoint."""
    file = io.BytesIO(data)
    for _ in range(3):  # magic number, protocol version, system information
        _TorchReader(file).load()
    tensors, keys = _TorchReader(file).load(), _TorchReader(file).load()
    dtypes = {key: np.dtype(dtype) for (key, dtype), *_ in tensors.values()}
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    return {
        name: np.lib.stride_tricks.as_strided(
            storages[key][offset:], size, [step * dtypes[key].itemsize for step in stride]
        ).copy()
        for name, ((key, _), offset, size, stride) in tensors.items()
    }


def read_safetensors(data: bytes) -> Weights:
    """The tensors of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    dtypes = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
    weights = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            weights[name] = np.frombuffer(data[start:end], dtypes[entry["dtype"]]).reshape(entry["shape"])
    return weights
