"""What is tested: onnxkiln, and beside it ONNX Runtime and tract, each through its public Python interface.

ONNX Runtime gets types that NumPy lacks as OrtValues, sequences as lists; tract gets arrays.
"""

from __future__ import annotations

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
        try:
            if not any(_is_extra(value) for value in feeds.values()):
                plain = [output.type for output in self._session.get_outputs()]
                if not any("float8" in kind or "bfloat16" in kind or "int4" in kind for kind in plain):
                    return self._session.run(None, dict(feeds))
            values = {name: self._ort_value(value) for name, value in feeds.items()}
            return [_numpy(value) for value in self._session.run_with_ort_values(None, values)]
        except Exception as error:
            raise Refused(f"when run: {error}") from error

    def _ort_value(self, value: Any) -> Any:
        if not _is_extra(value):
            return self._value.ortvalue_from_numpy(value)
        element = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        carrier = value.view(np.uint16 if value.dtype.itemsize == 2 else np.uint8)
        return self._value.ortvalue_from_numpy_with_onnx_type(carrier, element)


def _numpy(value: Any) -> Any:
    """An OrtValue as an array; types that NumPy lacks come as the integers of their bits."""
    element = value.element_type()
    array = value.numpy()
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))
    return array.view(dtype) if array.dtype != dtype and array.dtype.itemsize == dtype.itemsize else array


def _is_extra(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "V"


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
            return [value.to_numpy() for value in self._runnable.run(list(feeds.values()))]
        except Exception as error:
            raise Refused(f"when run: {error}") from error


def _peer_refusal(error: Exception, absent: tuple[str, ...]) -> Refused:
    kind = NotSupported if any(word in str(error) for word in absent) else Refused
    return kind(str(error))


ENGINES: dict[str, Callable[[], Engine]] = {"onnxkiln": Kiln, "onnxruntime": OnnxRuntime, "tract": Tract}
