"""From the user's feeds to the compiled function's arguments: checked, and copied only where the memory must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tvm_ffi

from ..contract import Contract, TensorSpec
from ..errors import InputError
from .dtypes import carrier, numpy_dtype

Convert = Callable[[Any], Any]


class InputBinder:
    """Binds feeds to one contract. ``view`` is the runtime's function (tensor, shape, dtype, offset) -> tensor.

    The common case, a writable C-contiguous array of the right dtype, costs a few comparisons and is passed as it
    is. Everything else goes through ``_convert``, which copies (strided, Fortran-ordered, byte-swapped, read-only,
    misaligned) or notes what is wrong; one InputError then lists all of it.
    """

    def __init__(self, contract: Contract, view: Callable[..., Any]):
        self._contract = contract
        self._view = view
        self._dtypes = [numpy_dtype(spec.dtype) for spec in contract.inputs]
        self._carriers = [carrier(spec.dtype) for spec in contract.inputs]
        self._plan = [
            # The dtype of None matches nothing: carried dtypes always take the slow way.
            (spec.name, dtype if carried is None else None, _static(spec), index)
            for index, (spec, dtype, carried) in enumerate(zip(contract.inputs, self._dtypes, self._carriers))
        ]
        # Where each symbolic dim appears: (name, input, axis).
        self._symbols = [
            (dim, index, axis)
            for index, spec in enumerate(contract.inputs)
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str)
        ]

    @property
    def is_dynamic(self) -> bool:
        """Whether any input has a symbolic dim."""
        return bool(self._symbols)

    def bind(self, feeds: Mapping[str, Any]) -> tuple[list[Any], tuple[int, ...]]:
        """The arguments in order, and the sizes of all symbolic dims; raises InputError."""
        arguments: list[Any] = []
        arrays: list[Any] = []
        try:
            for name, dtype, shape, index in self._plan:
                array = feeds[name]
                if (
                    type(array) is np.ndarray
                    and array.dtype is dtype
                    and array.flags.carray
                    and (array.shape == shape if shape is not None else self._fits(array, index))
                ):
                    arguments.append(array)
                    arrays.append(array)
                else:
                    array, argument = self._convert(array, index)
                    arguments.append(argument)
                    arrays.append(array)
            if len(feeds) != len(arguments):
                raise InputError("surplus")
            return arguments, self._sizes(arrays) if self._symbols else ()
        except (KeyError, InputError, TypeError):
            problems = self._problems(feeds)
            if not problems:
                raise
        expected = "; ".join(map(str, self._contract.inputs)) or "nothing"
        raise InputError(self._message(problems), hint=f"give {expected}") from None

    def _fits(self, array: np.ndarray, index: int) -> bool:
        shape = self._contract.inputs[index].shape
        return array.ndim == len(shape) and all(d == n for d, n in zip(shape, array.shape) if type(d) is int)

    def _sizes(self, arrays: list[np.ndarray]) -> tuple[int, ...]:
        """The size at each symbolic position; InputError (without words) when they disagree or leave their range."""
        first: dict[str, int] = {}
        sizes = []
        for name, index, axis in self._symbols:
            size = arrays[index].shape[axis]
            sizes.append(size)
            if first.setdefault(name, size) != size or size not in self._contract.dims.get(name, _ANY):
                raise InputError("dims")
        return tuple(sizes)

    def _convert(self, value: Any, index: int) -> tuple[np.ndarray, Any]:
        """The value as an array, and as an argument. InputError without words: ``_problems`` finds them."""
        spec, dtype, carried = self._contract.inputs[index], self._dtypes[index], self._carriers[index]
        array = as_array(value)
        if array is None or array.dtype.newbyteorder("=") != dtype or not self._fits(array, index):
            raise InputError("unfit")
        if not (array.flags.carray and array.dtype.isnative):
            array = np.array(array, dtype=dtype, order="C")
        if carried is None:
            return array, array
        raw = array.reshape(-1).view(carried).reshape(array.shape)
        return array, self._view(tvm_ffi.from_dlpack(raw), tvm_ffi.Shape(array.shape), tvm_ffi.dtype(spec.dtype), 0)

    def _problems(self, feeds: Any) -> list[str]:
        if not isinstance(feeds, Mapping):
            return [f"feeds must be a mapping from input names to arrays, found {type(feeds).__name__}"]
        names = [spec.name for spec in self._contract.inputs]
        problems = [f"missing input {name!r}" for name in names if name not in feeds]
        problems += [f"unknown input {name!r}" for name in feeds if name not in names]
        fitting: dict[str, np.ndarray] = {}
        for spec, dtype in zip(self._contract.inputs, self._dtypes):
            if spec.name in feeds:
                problem, array = _problem(spec, dtype, feeds[spec.name])
                if array is None:
                    problems.append(problem)
                else:
                    fitting[spec.name] = array
        return problems + self._dim_problems(fitting)

    def _dim_problems(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        problems = []
        first: dict[str, tuple[int, str]] = {}
        for dim, index, axis in self._symbols:
            name = self._contract.inputs[index].name
            if name not in arrays:
                continue
            size = arrays[name].shape[axis]
            place = f"axis {axis} of {name!r}"
            if dim not in first:
                first[dim] = size, place
                bounds = self._contract.dims.get(dim, _ANY)
                if size not in bounds:
                    problems.append(f"dim {dim!r} is {size} ({place}); the model was compiled for {bounds}")
            elif first[dim][0] != size:
                problems.append(f"dim {dim!r} is {first[dim][0]} ({first[dim][1]}) and {size} ({place})")
        return problems

    @staticmethod
    def _message(problems: list[str]) -> str:
        return problems[0] if len(problems) == 1 else "\n".join([f"{len(problems)} problems:", *problems])


class _Any:
    def __contains__(self, size: int) -> bool:
        return True


_ANY = _Any()


def as_array(value: Any) -> np.ndarray | None:
    """Arrays, NumPy scalars, and CPU tensors of other libraries (DLPack) as arrays; None for anything else."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            return None
    return None


def _static(spec: TensorSpec) -> tuple[int, ...] | None:
    return spec.shape if all(type(dim) is int for dim in spec.shape) else None  # type: ignore[return-value]


def _problem(spec: TensorSpec, dtype: np.dtype, value: Any) -> tuple[str, np.ndarray | None]:
    """What is wrong with one input, or the array."""
    array = as_array(value)
    if array is None:
        return f"input {spec.name!r} must be a NumPy array, found {type(value).__name__}", None
    if array.dtype.newbyteorder("=") != dtype:
        return f"input {spec.name!r} must have dtype {spec.dtype}, found {array.dtype}", None
    found = f"found {list(array.shape)}"
    wanted = f"[{', '.join(map(str, spec.shape))}]"
    if array.ndim != len(spec.shape):
        return f"input {spec.name!r} must have rank {len(spec.shape)}, shape {wanted}, {found}", None
    if any(type(dim) is int and dim != size for dim, size in zip(spec.shape, array.shape)):
        return f"input {spec.name!r} must have shape {wanted}, {found}", None
    return "", array
