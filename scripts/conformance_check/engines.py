"""What is tested: onnxkiln, and beside it ONNX Runtime and tract, each through its public Python interface.

ONNX Runtime gets types that NumPy lacks as OrtValues, sequences as lists; tract gets arrays.
"""

from __future__ import annotations

import ctypes
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx


class Refused(Exception):
    """The engine says in words that it can't take the model or the inputs."""


class NotSupported(Refused):
    """An operator is absent."""


class Prepared(ABC):
    """A model that is ready to run."""

    @abstractmethod
    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """All outputs, in order."""

    def external(self) -> list[str]:
        """Functions that the compiled model calls and that are neither in it nor in its runtime."""
        return []


class Engine(ABC):
    """Made in the server, with all that is slow to import; used in the children."""

    @abstractmethod
    def prepare(self, model: onnx.ModelProto, folder: Path) -> Prepared:
        """Compile or load ``model``; ``folder`` is for files. Raises NotSupported and Refused."""


class Kiln(Engine):
    """``onnxkiln.compile`` at the default level, ``onnxkiln.load``, ``Session.run``: nothing more than a user has.

    The artifact carries no copy of TVM's runtime: the process has one already.
    """

    def __init__(self) -> None:
        import checkout  # noqa: F401  (makes onnxkiln importable)
        import onnxkiln
        import onnxkiln.artifacts.loader
        import onnxkiln.compiler
        from conformance_check.external import ExternalFunctions

        self._kiln = onnxkiln
        self._external = ExternalFunctions()

    def prepare(self, model: onnx.ModelProto, folder: Path) -> Prepared:
        from onnxkiln.errors import KilnError, UnsupportedOperators

        onnx.save(model, folder / "model.onnx")
        try:
            artifact = self._kiln.compile(folder / "model.onnx", folder / "artifact", include_runtime=False)
            return _Artifact(self._kiln.load(artifact), artifact, self._external)
        except UnsupportedOperators as error:
            raise NotSupported(str(error)) from error
        except KilnError as error:
            raise Refused(str(error).replace(f"{folder}/", "")) from error


class _Artifact(Prepared):
    def __init__(self, session: Any, artifact: Path, functions: Any):
        self._session = session
        self._path = artifact
        self._functions = functions

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        from onnxkiln.errors import KilnError

        try:
            return self._session.run(None, feeds)
        except KilnError as error:
            raise Refused(f"when run: {error}") from error

    def external(self) -> list[str]:
        return self._functions.of(self._path, self._session.library)


class OnnxRuntime(Engine):
    """The CPU provider with default options."""

    def __init__(self) -> None:
        import onnxruntime

        self._package = onnxruntime

    def prepare(self, model: onnx.ModelProto, folder: Path) -> Prepared:
        options = self._package.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = self._package.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise _peer_refusal(error, ("NOT_IMPLEMENTED", "is not a registered function")) from error
        return _OrtSession(session, self._package.OrtValue)


class _OrtSession(Prepared):
    def __init__(self, session: Any, value_class: Any):
        self._session = session
        self._value = value_class

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        given = {name: np.asarray(value) if isinstance(value, np.generic) else value for name, value in feeds.items()}
        types = [item.type for item in [*self._session.get_inputs(), *self._session.get_outputs()]]
        try:
            if not any(kind.startswith("tensor(") and any(word in kind for word in _NOT_OF_NUMPY) for kind in types):
                return self._session.run(None, given)
            values = {name: self._ort_value(value) for name, value in given.items()}
            return [_array(value) for value in self._session.run_with_ort_values(None, values)]
        except Exception as error:
            raise Refused(f"when run: {error}") from error

    def _ort_value(self, array: np.ndarray) -> Any:
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if array.dtype.isbuiltin == 1:
            return self._value.ortvalue_from_numpy(array)
        # Elements of less than a byte are packed at the beginning of memory that has a byte for each.
        raw = onnx.numpy_helper.from_array(array).raw_data
        carrier = np.zeros(array.shape, np.uint16 if array.dtype.itemsize == 2 else np.uint8)
        carrier.reshape(-1).view(np.uint8)[: len(raw)] = np.frombuffer(raw, np.uint8)
        return self._value.ortvalue_from_numpy_with_onnx_type(carrier, element)


_NOT_OF_NUMPY = ("bfloat16", "float8", "float4", "int4", "int2)")
"""Types, as ONNX Runtime spells them, that its Python interface doesn't exchange as arrays."""


def _array(value: Any) -> Any:
    """An OrtValue as an array, read from its memory where ONNX Runtime has no NumPy type for it."""
    element, shape = value.element_type(), value.shape()
    bits = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.get(onnx.TensorProto.DataType.Name(element))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
    if bits is None and dtype.isbuiltin == 1:
        return value.numpy()
    size = -(-math.prod(shape) * (bits or 8 * dtype.itemsize) // 8)
    raw = ctypes.string_at(value.data_ptr(), size)
    return onnx.numpy_helper.to_array(onnx.TensorProto(data_type=element, dims=shape, raw_data=raw))


class Tract(Engine):
    """tract's ONNX importer, declutter and optimizer."""

    def __init__(self) -> None:
        import tract

        self._package = tract

    def prepare(self, model: onnx.ModelProto, folder: Path) -> Prepared:
        onnx.save(model, folder / "model.onnx")
        try:
            loaded = self._package.onnx().load(str(folder / "model.onnx"))
            runnable = loaded.into_model().into_runnable()
        except Exception as error:
            raise _peer_refusal(error, ("Unimplemented", "No parser")) from error
        return _TractModel(runnable)


class _TractModel(Prepared):
    def __init__(self, runnable: Any):
        self._runnable = runnable

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        try:
            given = [np.asarray(value) if isinstance(value, np.generic) else value for value in feeds.values()]
            return [value.to_numpy() for value in self._runnable.run(given)]
        except Exception as error:
            raise Refused(f"when run: {error}") from error


def _peer_refusal(error: Exception, absent: tuple[str, ...]) -> Refused:
    kind = NotSupported if any(word in str(error) for word in absent) else Refused
    return kind(str(error))


ENGINES: dict[str, Callable[[], Engine]] = {"onnxkiln": Kiln, "onnxruntime": OnnxRuntime, "tract": Tract}
