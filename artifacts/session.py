"""A loaded model: ONNX Runtime's habits over a pool of virtual machines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import tvm_ffi

from ..contract import REFUSALS, Contract, TensorSpec
from ..errors import InputError, KilnError, UsageError
from . import forks, huge_pages
from .dtypes import carrier, numpy_dtype, onnx_type
from .huge_pages import FirstRun
from .inputs import InputBinder
from .manifest import Manifest
from .pool import PoolKeeper
from .profiling import FunctionTime, measure
from .runtime import function

_CPU, _POOLED = 1, 2


class Width(threading.local):
    """How many threads the calling thread's parallel loops use in one library; 0 before anybody said."""

    value = 0


@dataclass(frozen=True)
class NodeArg:
    """One input or output as ONNX Runtime describes it: ``type`` is "tensor(float)", open dims are names."""

    name: str
    shape: list[int | str]
    type: str


class Session:
    """One loaded artifact. Made by ``onnxkiln.load``; any number of threads may call ``run`` at once.

    ``module`` is the loaded library, ``weights`` its tensors' array, ``width`` the library's memory of thread counts.
    """

    def __init__(self, manifest: Manifest, library: str, module: Any, weights: Any, threads: int, width: Width):
        self._manifest = manifest
        self._library = library
        self._module = module
        self._weights = weights
        self._threads = threads
        self._width = width
        self._use_threads = module.get_function("onnxkiln_use_threads", True)
        self._item = function("ffi.ArrayGetItem")
        self._view = function("runtime.TVMTensorCreateView")
        self._inputs = InputBinder(manifest.contract, self._view)
        self._keeper = PoolKeeper(manifest.contract)
        outputs = manifest.contract.outputs
        self._convert = [self._converter(spec) for spec in outputs]
        self._output_index = {spec.name: index for index, spec in enumerate(outputs)}
        self._all = list(range(len(outputs)))
        # Machines that nobody uses; each caller takes one for its call. list.pop and append are atomic.
        self._idle: list[Callable[..., Any]] = [self._new_main()]

    @property
    def manifest(self) -> Manifest:
        """What the artifact says about itself."""
        return self._manifest

    @property
    def contract(self) -> Contract:
        """Inputs, outputs and the ranges of symbolic dims."""
        return self._manifest.contract

    @property
    def library(self) -> str:
        """The path, inside the artifact, of the library that was chosen for this machine."""
        return self._library

    @property
    def device(self) -> str:
        """What computes: "cpu", or the GPU that was taken."""
        return "cpu"

    @property
    def threads(self) -> int:
        """Threads that one call of ``run`` uses at most, the caller's included."""
        return self._threads

    def get_inputs(self) -> list[NodeArg]:
        """Names, shapes and types of the inputs, in order."""
        return [_node_arg(spec) for spec in self.contract.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """Names, shapes and types of the outputs, in order."""
        return [_node_arg(spec) for spec in self.contract.outputs]

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[Any]:
        """Run once; the named outputs (all, when None), as arrays that own their memory, sequences as lists of them.

        ``input_feed`` maps every input's name to an array of its dtype; the memory may lie anywhere and be strided,
        byte-swapped or read-only (it is then copied); a sequence's to a list of arrays. ``run_options`` is there for
        callers written for ONNX Runtime and must be None. Raises InputError when the feeds don't fit, KilnError when
        the compiled code refuses.
        """
        if run_options is not None:
            raise UsageError("run_options are not supported")
        wanted = self._all if output_names is None else self._indices(output_names)
        arguments, shapes = self._inputs.bind(input_feed)
        result = self._call(arguments, shapes)
        item, convert = self._item, self._convert
        return [convert[index](item(result, index)) for index in wanted]

    def run_dlpack(self, inputs: Sequence[Any]) -> list[Any]:
        """Run on tensors that speak DLPack, in the inputs' order, without a copy; outputs speak DLPack too.

        The tensors must be on the CPU, contiguous, and as the contract says: dtypes, ranks and fixed dims are checked
        by the compiled code.
        """
        self.contract.require_tensors("run_dlpack takes and gives tensors only")
        if len(inputs) != len(self.contract.inputs):
            raise InputError(f"expected {len(self.contract.inputs)} inputs, found {len(inputs)}")
        tensors = [tvm_ffi.from_dlpack(value) for value in inputs]
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        tensors = [
            self._view(tensor, tvm_ffi.Shape(shape), tensor.dtype, 0) if 0 in shape else tensor
            for tensor, shape in zip(tensors, shapes)
        ]
        result = self._call(tensors, shapes)
        return [self._item(result, index) for index in self._all]

    def profile(self, input_feed: Mapping[str, Any], runs: int = 10) -> list[FunctionTime]:
        """Mean time per run of each compiled function, slowest first, over ``runs`` runs after one to warm up.

        Timing costs about a microsecond per function called; the machine's own work is one entry of its own.
        """
        if runs < 1:
            raise UsageError(f"runs must be positive, found {runs}")
        arguments, _ = self._inputs.bind(input_feed)
        weights = self._weights
        machine = self._new_machine()
        self._set_width()
        return measure(machine, lambda main: _guarded(main, *arguments, weights), runs)

    def close(self) -> None:
        """Give back library and weights once the calls in progress end; ``run`` raises from now on."""
        # Weights first: a caller that still sees them holds on to all it needs.
        self._weights = self._module = self._use_threads = None
        self._width = Width()
        self._idle.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _call(self, arguments: list[Any], shapes: tuple[tuple[int, ...], ...]) -> Any:
        weights = self._weights
        if weights is None:
            raise _closed()
        try:
            machine = self._idle.pop()
        except IndexError:
            machine = self._new_main()
        self._set_width()
        result = _guarded(machine, *arguments, weights)
        # A machine that raised is dropped: it may be in any state.
        self._idle.append(machine.main if isinstance(machine, FirstRun) else machine)
        if self._weights is None:
            self._idle.clear()
        if shapes or self._keeper.counts_runs:
            self._keeper.note(shapes)
        return result

    def _set_width(self) -> None:
        width, use_threads = self._width, self._use_threads
        if width.value != self._threads:
            if use_threads is None:
                raise _closed()
            use_threads(self._threads)
            width.value = self._threads

    def _new_main(self) -> Callable[..., Any]:
        """A new machine's main function."""
        machine = self._new_machine()
        activations = self._manifest.activations
        size = activations.bytes if activations is not None else None
        is_small = size is not None and size < huge_pages.LEAST
        return machine["main"] if is_small else FirstRun(machine)

    def _new_machine(self) -> Any:
        module = self._module
        if module is None:
            raise _closed()
        machine = module["vm_load_executable"]()
        machine["vm_initialization"](_CPU, 0, _POOLED)
        return machine

    def _indices(self, names: Sequence[str]) -> list[int]:
        try:
            return [self._output_index[name] for name in names]
        except KeyError:
            unknown = [name for name in names if name not in self._output_index]
            raise InputError(
                f"unknown output(s) {', '.join(map(repr, unknown))}", hint=f"outputs: {', '.join(self._output_index)}"
            ) from None

    def _converter(self, spec: TensorSpec) -> Callable[[Any], Any]:
        if not spec.sequence:
            return self._tensor_converter(spec)
        size, item, convert = function("ffi.ListSize"), function("ffi.ListGetItem"), self._tensor_converter(spec)
        # Items may be inputs, weights or the same tensor twice.
        return lambda sequence: [convert(item(sequence, index)).copy() for index in range(size(sequence))]

    def _tensor_converter(self, spec: TensorSpec) -> Callable[[Any], np.ndarray]:
        carried, dtype = carrier(spec.dtype), numpy_dtype(spec.dtype)
        if carried is None:
            return np.from_dlpack

        def convert(tensor: Any) -> np.ndarray:
            raw = self._view(tensor, tvm_ffi.Shape(tensor.shape), tvm_ffi.dtype(carried.name), 0)
            return np.from_dlpack(raw).view(dtype)

        return convert


_RUN_HINT = "check shapes and values against the model; if they are right, report it with the message above"


def _guarded(main: Callable[..., Any], *arguments: Any) -> Any:
    if forks.forking:
        forks.wait()
    forks.running.append(None)
    try:
        return main(*arguments)
    except Exception as error:
        words = next((text for number, text in REFUSALS.items() if f"vs. {number})" in str(error)), _first_line(error))
        raise KilnError(f"the compiled model refused to run: {words}", hint=_RUN_HINT) from error
    finally:
        forks.running.pop()


def _closed() -> UsageError:
    return UsageError("the session is closed", hint="load the artifact again")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _node_arg(spec: TensorSpec) -> NodeArg:
    kind = onnx_type(spec.dtype)
    return NodeArg(spec.name, list(spec.shape), f"seq({kind})" if spec.sequence else kind)
