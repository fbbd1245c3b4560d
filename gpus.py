"""What NVIDIA's GPUs can do, by compute capability: what schedules must keep to and what compiled code is held against.

Limits: CUDA C++ Programming Guide, section "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import UsageError

THREADS_PER_BLOCK = 1024
REGISTERS_PER_BLOCK = 64 * 1024
REGISTERS_PER_THREAD = 255
STATIC_SHARED_BYTES = 48 * 1024
"""Shared memory that a kernel may declare without asking the driver, on every GPU."""

_TEGRA = {53, 62, 72, 87, 88, 101, 110}


@dataclass(frozen=True)
class Gpu:
    """One architecture. ``number`` is its compute capability times ten; ``shared_bytes`` what one block may use."""

    number: int
    shared_bytes: int

    @property
    def name(self) -> str:
        """NVIDIA's name of its machine code, such as "sm_90"."""
        return f"sm_{self.number}"

    @property
    def virtual_name(self) -> str:
        """The name of the PTX that the driver of this and of every later GPU can compile, such as "compute_90"."""
        return f"compute_{self.number}"

    def runs_on(self, number: int) -> bool:
        """Whether its machine code runs on a GPU of capability ``number``: the same major, and no older minor.

        Boards with Tegra processors are no part of that promise; they can take PTX.
        """
        return number // 10 == self.number // 10 and number >= self.number and number not in _TEGRA


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(75, 64 * 1024), Gpu(80, 163 * 1024), Gpu(86, 99 * 1024), Gpu(89, 99 * 1024),
        Gpu(90, 227 * 1024), Gpu(100, 227 * 1024), Gpu(103, 227 * 1024), Gpu(120, 99 * 1024), Gpu(121, 99 * 1024),
    )
}  # fmt: skip

DEFAULT = ("sm_80", "sm_86", "sm_89", "sm_90")


def parse_gpus(names: Sequence[str], text: str) -> tuple[Gpu, ...]:
    """The GPUs of a target such as ``cuda:sm_80,sm_90``, oldest first; ``text`` is all that the user wrote.

    Raises UsageError for one that isn't known, or that is named twice.
    """
    for name in names:
        if name not in GPUS:
            wanted = "is no GPU architecture" if not re.fullmatch(r"sm_\d+", name) else "is not known"
            raise UsageError(f"target {text!r}: {name!r} {wanted}", hint=f"name some of {', '.join(GPUS)}")
        if names.count(name) > 1:
            raise UsageError(f"target {text!r}: {name} occurs twice", hint="name each architecture once")
    return tuple(sorted((GPUS[name] for name in names), key=lambda gpu: gpu.number))


@dataclass(frozen=True)
class DeviceKernel:
    """How the host starts a kernel: dtypes of its arguments ("handle" is a pointer), then ``launch``, the names of the
    sizes that follow them. ``threads`` are those of one block."""

    name: str
    arguments: tuple[str, ...]
    launch: tuple[str, ...]
    threads: int
