"""Calibration data: samples of what a model will see, read one at a time.

From an ``.npz`` file (arrays by input name, samples along the first axis), a folder of ``.npy`` or ``.npz`` files, a
function that yields samples, or such samples themselves.
"""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Contract, TensorSpec
from ..errors import InputError, UsageError

Feeds = dict[str, np.ndarray]

FORMS = "an .npz file, a folder of .npy or .npz files, or module:function"


def samples(data: Any, contract: Contract) -> Iterator[Feeds]:
    """Every sample of ``data``, checked against what the model takes.

    Raises UsageError where the data can't be found or read as one of the forms, InputError where names, dtypes or
    shapes don't fit the model, where a float isn't finite, and where there is no sample at all.
    """
    empty = True
    for where, sample in _raw(data, contract):
        empty = False
        yield {spec.name: _checked(spec, sample, contract, where) for spec in _specs(contract, sample, where)}
    if empty:
        raise InputError("the calibration data holds no samples", hint="some hundred typical inputs are a good measure")


def _raw(data: Any, contract: Contract) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if path.is_dir():
            yield from _of_folder(path, contract)
        elif path.is_file():
            yield from _of_file(path, contract)
        else:
            yield from _of_items(load_function(os.fspath(data), "calibration data", FORMS)(), contract, os.fspath(data))
    elif callable(data):
        yield from _of_items(data(), contract, "the calibration function")
    elif isinstance(data, Mapping):
        yield from _split(data, contract, "the calibration arrays")
    else:
        yield from _of_items(data, contract, "the calibration data")


def load_function(text: str, what: str, otherwise: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; modules are also looked for in the current folder."""
    module, separator, name = text.partition(":")
    if not separator or not module or not name:
        raise UsageError(f"{what} {text}: no such file or folder", hint=f"give {otherwise}")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{what} {text}: {error}", hint=f"give {otherwise}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise UsageError(f"{what} {text}: {name} is a {type(found).__name__}, not a function")
    return found


def _of_folder(folder: Path, contract: Contract) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".npy", ".npz"))
    for path in files:
        yield from _of_file(path, contract)


def _of_file(path: Path, contract: Contract) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    try:
        content = np.load(path, allow_pickle=False)
        arrays = content if isinstance(content, np.ndarray) else dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable .npy or .npz file: {error}") from error
    if isinstance(arrays, np.ndarray):
        arrays = {_only_input(contract, str(path)): arrays}
    yield from _split(arrays, contract, str(path))


def _only_input(contract: Contract, where: str) -> str:
    if len(contract.inputs) == 1:
        return contract.inputs[0].name
    names = ", ".join(spec.name for spec in contract.inputs)
    raise InputError(f"{where}: which input is it? the model has {names}", hint="give arrays by name (.npz)")


def _of_items(items: Any, contract: Contract, where: str) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes)):
        raise UsageError(f"{where} gives a {type(items).__name__}, not samples", hint="yield dicts of arrays by name")
    for number, item in enumerate(items):
        here = f"{where}, sample {number}"
        if isinstance(item, np.ndarray):
            item = {_only_input(contract, here): item}
        if not isinstance(item, Mapping):
            raise InputError(f"{here}: a {type(item).__name__}, not a dict of arrays by input name")
        yield here, {str(name): np.asarray(value) for name, value in item.items()}


def _split(arrays: Mapping[str, Any], contract: Contract, where: str) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    """Samples along the first axis. An input that has just one serves all."""
    pieces = {
        spec.name: list(_pieces(spec, np.asarray(arrays[spec.name]), contract, where))
        for spec in _specs(contract, arrays, where)
    }
    counts = {name: len(found) for name, found in pieces.items()}
    count = max(counts.values(), default=0)
    uneven = {name: n for name, n in counts.items() if n not in (1, count)}
    if uneven:
        raise InputError(f"{where}: inputs have unequal numbers of samples: {counts}")
    for number in range(count):
        yield f"{where}, sample {number}", {name: x[number if len(x) > 1 else 0] for name, x in pieces.items()}


def _pieces(spec: TensorSpec, array: np.ndarray, contract: Contract, where: str) -> Iterator[np.ndarray]:
    """An array of the input's rank is cut along the first axis, into pieces of its fixed (or least) size; one more axis
    in front counts the samples."""
    rank = len(spec.shape)
    if array.ndim == rank + 1:
        yield from array
        return
    if array.ndim != rank or not rank:
        yield array  # the check of the sample says what is wrong, if anything is
        return
    first = spec.shape[0]
    size = first if isinstance(first, int) else max(contract.dims[first].minimum, 1) if first in contract.dims else 1
    if size == 0 or array.shape[0] % size:
        raise InputError(f"{where}: {spec.name!r} has {array.shape[0]} rows, no multiple of the model's {size}")
    yield from (array[start : start + size] for start in range(0, array.shape[0], size))


def _specs(contract: Contract, sample: Mapping[str, Any], where: str) -> Sequence[TensorSpec]:
    contract.require_tensors("calibration takes models of tensors")
    names = [spec.name for spec in contract.inputs]
    missing, unknown = [n for n in names if n not in sample], [n for n in sample if n not in names]
    if missing or unknown:
        problems = [f"{what} {', '.join(map(repr, x))}" for what, x in (("lacks", missing), ("has", unknown)) if x]
        raise InputError(f"{where}: {' and '.join(problems)}", hint=f"the model's inputs: {', '.join(names)}")
    return contract.inputs


def _checked(spec: TensorSpec, sample: Mapping[str, np.ndarray], contract: Contract, where: str) -> np.ndarray:
    array = sample[spec.name]
    here = f"{where}: {spec.name!r}"
    if array.dtype.name != spec.dtype:
        # Of another width, never of another kind: pixels from 0 to 255 are not what a float input expects.
        if spec.dtype == "bfloat16" or array.dtype.kind != np.dtype(spec.dtype).kind:
            raise InputError(f"{here} is {array.dtype.name}, the model takes {spec.dtype}")
        array = array.astype(spec.dtype)
    if array.ndim != len(spec.shape) or not all(_fits(n, dim, contract) for n, dim in zip(array.shape, spec.shape)):
        expected = [f"{contract.dims[d]} ({d})" if isinstance(d, str) and d in contract.dims else d for d in spec.shape]
        raise InputError(f"{here} has shape {list(array.shape)}, the model takes {expected}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{here} holds NaN or infinities", hint="leave such samples out: ranges can't come of them")
    return array


def _fits(size: int, dim: int | str, contract: Contract) -> bool:
    if isinstance(dim, int):
        return size == dim
    return dim not in contract.dims or size in contract.dims[dim]
