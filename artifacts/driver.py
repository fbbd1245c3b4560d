"""What the CUDA driver says of this machine, asked through ctypes before any of its code computes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from ..errors import DeviceError

NAME = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
_NO_DEVICE = 100
_MINIMUM = (13, 0)
"""The driver's CUDA version that libcudart 13 asks for: NVIDIA's driver 580 on Linux."""


@dataclass(frozen=True)
class GpuDevice:
    """One GPU. ``architecture`` is its compute capability times ten."""

    index: int
    name: str
    architecture: int


class Driver:
    """The driver, initialised. Raises DeviceError: there is none, it sees no GPU, it is too old."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(NAME, ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise DeviceError(
                f"there is no NVIDIA driver on this machine: {error}",
                hint="install it, or compile the model for cpu; in a container, start it with access to the GPUs",
            ) from error
        status = self._library.cuInit(0)
        if status not in (0, _NO_DEVICE):
            raise DeviceError(
                f"NVIDIA's driver can't start: {self._words(status)}", hint="nvidia-smi says more; reboot after updates"
            )
        version = ctypes.c_int()
        self._check(self._library.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
        self.version = version.value // 1000, version.value % 1000 // 10
        if self.version < _MINIMUM:
            raise DeviceError(
                "NVIDIA's driver is for CUDA {}.{}; {}.{} is needed".format(*self.version, *_MINIMUM),
                hint="install driver 580 or later",
            )
        self.devices = [] if status == _NO_DEVICE else self._find_devices()

    def _find_devices(self) -> list[GpuDevice]:
        count = ctypes.c_int()
        self._check(self._library.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
        return [self._describe(index) for index in range(count.value)]

    def _describe(self, index: int) -> GpuDevice:
        device, number = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
        name = ctypes.create_string_buffer(256)
        self._check(self._library.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
        parts = []
        for attribute in (_MAJOR, _MINOR):
            call = self._library.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
            self._check(call, "cuDeviceGetAttribute")
            parts.append(number.value)
        return GpuDevice(index, name.value.decode(errors="replace"), parts[0] * 10 + parts[1])

    def _check(self, status: int, call: str) -> None:
        if status != 0:
            raise DeviceError(f"{call} failed: {self._words(status)}", hint="nvidia-smi says whether the GPU is well")

    def _words(self, status: int) -> str:
        words = ctypes.c_char_p()
        if self._library.cuGetErrorString(status, ctypes.byref(words)) != 0 or words.value is None:
            return f"error {status}"
        return words.value.decode(errors="replace")


def choose_device(driver: Driver, wanted: str) -> GpuDevice:
    """The GPU that "auto" (the first) or "cuda:N" names. Raises DeviceError when there is none such."""
    index = 0 if wanted == "auto" else int(wanted.removeprefix("cuda:"))
    if not driver.devices:
        raise DeviceError(
            "NVIDIA's driver sees no GPU on this machine", hint="nvidia-smi -L lists them; check CUDA_VISIBLE_DEVICES"
        )
    if index >= len(driver.devices):
        found = ", ".join(f"cuda:{device.index} ({device.name})" for device in driver.devices)
        raise DeviceError(f"there is no GPU {wanted}", hint=f"found {found}")
    return driver.devices[index]
