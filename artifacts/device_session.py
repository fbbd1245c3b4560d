"""A session whose tensors live on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm_ffi

from ..errors import DeviceError, InputError, KilnError, UsageError
from .device_graph import Recording, obstacle_of, record
from .device_loading import Gpu
from .profiling import FunctionTime
from .runtime import function
from .session import _CPU, _POOLED, Session

_CUDA = 2
_ALIGNMENT = 16
"""Bytes: kernels read vectors of up to four floats."""


class GpuSession(Session):
    """``run`` copies inputs to the GPU and outputs back; ``run_dlpack`` takes and gives tensors that are there."""

    def __init__(self, *parts: Any, gpu: Gpu):
        self._gpu = gpu
        self._device = tvm_ffi.device("cuda", gpu.device.index)
        self._allocate = function("runtime.TVMTensorAllocWithScope")
        self._copy = function("runtime.TVMTensorCopyFromTo")
        self._synchronize = function("runtime.Device_StreamSync")
        # Buffers for inputs, by index, that nobody uses; each caller takes a set for its call.
        self._buffers: list[dict[int, Any]] = []
        self._owner: object = None
        open_dims = [dim for spec in parts[0].contract.inputs for dim in spec.shape if not isinstance(dim, int)]
        self.use_graphs = True
        """Whether runs with NumPy arrays are recorded as a CUDA graph, where sizes are fixed, then started whole."""
        self._obstacle = f"size {open_dims[0]} is open" if open_dims else ""
        self._recordings: list[Recording] = []  # that nobody uses; one at most, made by the second run
        self._runs = 0
        self._recording = threading.Lock()
        with self._stream():
            super().__init__(*parts)

    @property
    def device(self) -> str:
        """The GPU in use, and which of the artifact's code it runs."""
        code = f", {self._gpu.code.path}" if self._gpu.code else ""
        return f"cuda:{self._gpu.device.index} ({self._gpu.device.name}, sm_{self._gpu.device.architecture}{code})"

    @property
    def graphs(self) -> str:
        """Whether runs are one CUDA graph: "recorded", "off", "not yet", or why they can't be."""
        if not self.use_graphs:
            return "off"
        return self._obstacle or ("recorded" if self._runs > 1 else "not yet")

    def run_dlpack(self, inputs: Sequence[Any]) -> list[Any]:
        """Run on tensors on this GPU that speak DLPack, in the inputs' order, without a copy; outputs are there too.

        What their producer has queued is waited for, and the results are ready when they are returned. Dtypes, ranks
        and fixed dims are checked by the compiled code. Raises InputError for tensors that are elsewhere, aren't
        contiguous or don't start at a multiple of 16 bytes.
        """
        if len(inputs) != len(self.contract.inputs):
            raise InputError(f"expected {len(self.contract.inputs)} inputs, found {len(inputs)}")
        tensors = [self._taken(value, spec.name) for value, spec in zip(inputs, self.contract.inputs)]
        result = self._on_gpu(tensors, tuple(tuple(tensor.shape) for tensor in tensors))
        self._synchronize(self._device, self._gpu.stream)
        return [self._item(result, index) for index in self._all]

    def profile(self, input_feed: Any, runs: int = 10) -> list[FunctionTime]:
        """Not for GPUs: kernels run on while the host's clock stops."""
        raise UsageError("profile() measures functions on processors only", hint="use NVIDIA's Nsight Systems")

    def keep(self, owner: object) -> None:
        """Hold on to ``owner`` until the session is closed."""
        self._owner = owner

    def close(self) -> None:
        """Give back library, weights and buffers once the calls in progress end; ``run`` raises from now on."""
        super().close()
        self._buffers.clear()
        self._recordings.clear()
        self._owner = None

    def _call(self, arguments: list[Any], shapes: tuple[tuple[int, ...], ...]) -> Any:
        if self.use_graphs and not self._obstacle and self._weights is not None:
            try:
                recording = self._recordings.pop()
            except IndexError:
                return self._launched(arguments, shapes)
            return self._replayed(recording, arguments)
        return self._launched(arguments, shapes)

    def _launched(self, arguments: list[Any], shapes: tuple[tuple[int, ...], ...]) -> Any:
        """Kernel by kernel. The second such run is followed by a recording: by then kernels are loaded."""
        buffers = self._buffers.pop() if self._buffers else {}
        with self._stream():
            moved = [self._moved(argument, index, buffers) for index, argument in enumerate(arguments)]
            back = self._fetched(self._on_gpu(moved, shapes))
            if self.use_graphs and not self._obstacle and self._recording.acquire(blocking=False):
                try:
                    self._runs += 1
                    if self._runs == 2:
                        self._record(moved)
                        buffers = {}  # they are the recording's now
                finally:
                    self._recording.release()
        self._buffers.append(buffers)
        return back

    def _replayed(self, recording: Recording, arguments: list[Any]) -> Any:
        with self._stream():
            for argument, target in zip(arguments, recording.inputs, strict=True):
                self._copy(_tensor(argument), target)
            recording.start(self._gpu.stream)
            back = self._fetched(recording.result)
        self._recordings.append(recording)
        if self._weights is None:
            self._recordings.clear()
        return back

    def _record(self, inputs: list[Any]) -> None:
        """Make the recording, or note why there can be none: the model runs without as well."""
        weights = self._weights

        def run(main: Any) -> Any:
            return main(*inputs, weights)

        try:
            self._obstacle = obstacle_of(self._new_machine(), run)
            self._synchronize(self._device, self._gpu.stream)
            if not self._obstacle:
                self._recordings.append(record(self._gpu.cudart, self._device, self._new_machine(), inputs, run))
        except Exception as error:
            self._obstacle = str(error).strip().splitlines()[0]

    def _fetched(self, result: Any) -> Any:
        back = [self._returned(self._item(result, index)) for index in self._all]
        # The copies go through the default stream, which waits for ours.
        self._synchronize(self._device, 0)
        return tvm_ffi.Array(back)

    def _on_gpu(self, tensors: list[Any], shapes: tuple[tuple[int, ...], ...]) -> Any:
        try:
            with self._stream():
                return super()._call(tensors, shapes)
        except KilnError as error:
            raise _explained(error, self.device) from error

    def _moved(self, argument: Any, index: int, buffers: dict[int, Any]) -> Any:
        source = _tensor(argument)
        target = buffers.get(index)
        if target is None or tuple(target.shape) != tuple(source.shape):
            target = buffers[index] = self._empty(source.shape, source.dtype)
        self._copy(source, target)
        return target

    def _returned(self, tensor: Any) -> Any:
        # A view: the runtime's tensors are of other classes than the array that is to own their memory.
        result = self._allocate(tvm_ffi.Shape(tensor.shape), tensor.dtype, tvm_ffi.device("cpu", 0), None)
        self._copy(tensor, result)
        return result

    def _empty(self, shape: Any, dtype: Any) -> Any:
        try:
            return self._allocate(tvm_ffi.Shape(shape), dtype, self._device, None)
        except Exception as error:
            raise _explained(error, self.device) from error

    def _taken(self, value: Any, name: str) -> Any:
        stream = self._gpu.stream
        try:
            tensor = tvm_ffi.from_dlpack(_OnStream(value, stream), require_alignment=_ALIGNMENT)
        except Exception as error:
            raise InputError(
                f"input {name!r} can't be taken over by DLPack: {error}",
                hint="give a contiguous tensor on this GPU, starting at a multiple of 16 bytes (clone() makes one)",
            ) from error
        if tensor.device != self._device:
            raise InputError(f"input {name!r} is on {tensor.device}; the session runs on {self._device}")
        if not tensor.is_contiguous():
            raise InputError(f"input {name!r} is not contiguous", hint="give contiguous tensors")
        return tensor

    def _stream(self) -> Any:
        return tvm_ffi.use_raw_stream(self._device, self._gpu.stream)

    def _new_main(self) -> Any:
        return self._new_machine()["main"]

    def _new_machine(self) -> Any:
        module = self._module
        if module is None:
            return super()._new_machine()  # which says that the session is closed
        machine = module["vm_load_executable"]()
        machine["vm_initialization"](_CUDA, self._gpu.device.index, _POOLED, _CPU, 0, _POOLED)
        return machine


def _tensor(argument: Any) -> Any:
    return tvm_ffi.from_dlpack(argument) if isinstance(argument, np.ndarray) else argument


class _OnStream:
    """Asks a tensor's producer to make it ready for our stream, as DLPack's consumers are to do."""

    def __init__(self, value: Any, stream: int):
        self._value, self._on = value, stream

    def __dlpack__(self, **options: Any) -> Any:
        return self._value.__dlpack__(stream=self._on)

    def __dlpack_device__(self) -> Any:
        return self._value.__dlpack_device__()


def _explained(error: Exception, device: str) -> KilnError:
    text = str(error)
    if "out of memory" in text or "cudaErrorMemoryAllocation" in text:
        return DeviceError(
            f"the memory of {device} is used up", hint="close other sessions and programs, or run smaller batches"
        )
    return error if isinstance(error, KilnError) else DeviceError(f"{device}: {text.strip().splitlines()[-1]}")
