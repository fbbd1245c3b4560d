"""What a machine can do: instruction sets, vector lanes, cores and caches, and TVM's name for it.

Feature names are LLVM's ("avx512vnni"); ``host_features`` translates the kernel's ("avx512_vnni").
The levels are those of the x86-64 psABI, https://gitlab.com/x86-psABIs/x86-64-ABI.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import UsageError
from .gpus import DEFAULT, STATIC_SHARED_BYTES, THREADS_PER_BLOCK, Gpu, parse_gpus

_V1 = frozenset({"cmov", "cx8", "fxsr", "mmx", "sse", "sse2"})
_V2 = _V1 | {"cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"}
_V3 = _V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}


@dataclass(frozen=True)
class Isa:
    """An instruction-set level: LLVM's CPU name for it, every feature it implies, fp32 lanes of a vector register.

    ``rank`` orders the levels of one architecture; of several libraries that a host can run, the highest serves.
    ``extras`` are features outside the level that kernels profit from, used when the target is this very host.
    """

    name: str
    architecture: str
    rank: int
    features: frozenset[str]
    vector_lanes: int
    extras: tuple[str, ...] = ()


ISAS = {
    isa.name: isa
    for isa in (
        Isa("x86-64-v1", "x86_64", 1, _V1, 4),
        Isa("x86-64-v2", "x86_64", 2, _V2, 4),
        Isa("x86-64-v3", "x86_64", 3, _V3, 8, ("avxvnni",)),
        Isa("x86-64-v4", "x86_64", 4, _V4, 16, ("avx512bf16", "avx512vbmi", "avx512vbmi2", "avx512vnni")),
        Isa("aarch64", "aarch64", 1, frozenset({"fp-armv8", "neon"}), 4),
    )
}

_LLVM_CPU = {"x86-64-v1": "x86-64", "aarch64": "generic"}
_TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}

# Names of /proc/cpuinfo that aren't LLVM's after dropping underscores.
_KERNEL_NAMES = {
    "abm": "lzcnt", "asimd": "neon", "bmi1": "bmi", "fp": "fp-armv8", "lahf_lm": "sahf", "pni": "sse3",
    "sse4_1": "sse4.1", "sse4_2": "sse4.2", "amx_tile": "amx-tile", "amx_int8": "amx-int8", "amx_bf16": "amx-bf16",
}  # fmt: skip

# Assumed where the target isn't the host (or sysfs is silent); sizes in bytes: small members of each class.
_DEFAULT_THREADS = 4
_DEFAULT_L1 = 32 * 1024
_DEFAULT_L2 = {"x86-64-v1": 256 * 1024, "x86-64-v2": 256 * 1024, "x86-64-v3": 256 * 1024, "x86-64-v4": 1024 * 1024}
_DEFAULT_L2_OTHER = 512 * 1024


@dataclass(frozen=True)
class Target:
    """One kind of machine to compile for.

    ``name`` is the user's word; ``features`` are those beyond the level ``isa``; ``threads`` the physical cores;
    ``l1`` and ``l2`` the data caches of one core, in bytes. With ``gpus``, oldest first, the model is compiled for each
    of them, and the rest describes the host that starts the kernels. ``precision`` is what products on a GPU compute
    with: "fp32", or on tensor cores "tf32" or "fp16", sums in float32.
    """

    name: str
    isa: Isa
    threads: int
    l1: int
    l2: int
    features: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    precision: str = "fp32"
    run_threads: int = 1
    """Threads of a run that kernels are chosen for: by what tuning measured with as many."""

    @property
    def mcpu(self) -> str:
        """LLVM's CPU name."""
        return _LLVM_CPU.get(self.isa.name, self.isa.name)

    @property
    def vector_lanes(self) -> int:
        """fp32 elements of one vector register."""
        return self.isa.vector_lanes

    @property
    def required_features(self) -> tuple[str, ...]:
        """Every feature that the generated code may use, sorted: what a host must have to run it."""
        return tuple(sorted({*self.isa.features, *self.features}))

    @property
    def is_native(self) -> bool:
        """Whether this machine's architecture is the target's (it may still lack features)."""
        return self.isa.architecture == host_architecture()

    @property
    def is_gpu(self) -> bool:
        """Whether the model's tensors live and are computed on a GPU."""
        return bool(self.gpus)

    def tvm_json(self) -> dict[str, Any]:
        """The dict that ``tvm.target.Target`` takes: for GPUs the oldest, as one source serves them all."""
        if self.gpus:
            host = replace(self, gpus=()).tvm_json()
            limits = {"max_threads_per_block": THREADS_PER_BLOCK, "max_shared_memory_per_block": STATIC_SHARED_BYTES}
            return {"kind": "cuda", "arch": self.gpus[0].name, **limits, "host": host}
        attributes = [f"+{feature}" for feature in self.features]
        if self.vector_lanes == 16:
            # LLVM's own vectorisers stay at 256 bits on this level unless told otherwise.
            attributes.append("-prefer-256-bit")
        result: dict[str, Any] = {"kind": "llvm", "mcpu": self.mcpu, "num-cores": self.threads}
        if attributes:
            result["mattr"] = attributes
        if not self.is_native:
            result["mtriple"] = _TRIPLES[self.isa.architecture]
        return result


def parse(text: str) -> list[Target]:
    """Read ``cpu``, ``cpu:x86-64-v3``, ``cpu:aarch64`` or several with commas, in the user's order.

    ``threads=2`` among these says for how many threads of a run kernels are chosen (default: 1).
    ``cuda`` means the GPUs of ``gpus.DEFAULT``, ``cuda:sm_80,sm_90`` the named ones; ``host=aarch64`` among these names
    what starts the kernels (default: any processor of this machine's architecture).
    Raises UsageError for an unknown, empty or repeated target, and for kinds that aren't built yet.
    """
    names = [name.strip() for name in text.split(",")]
    if names[0].split(":")[0] == "cuda":
        return [_parse_cuda(names, text)]
    threads = _parse_threads([name for name in names if name.startswith("threads=")], text)
    names = [name for name in names if not name.startswith("threads=")]
    targets = [replace(_parse_one(name, text), run_threads=threads) for name in names or [""]]
    seen: dict[str, str] = {}
    for target in targets:
        if target.isa.name in seen:
            raise UsageError(
                f"target {text!r}: {target.name} and {seen[target.isa.name]} both mean {target.isa.name}",
                hint="name each instruction set once",
            )
        seen[target.isa.name] = target.name
    return targets


PRECISIONS = ("fp16", "tf32")


def with_precision(targets: list[Target], precision: str | None) -> list[Target]:
    """The targets, whose GPUs multiply in ``precision`` on tensor cores; None changes nothing.

    Raises UsageError for processors, for an unknown precision, and for tf32 on GPUs before sm_80, which have none.
    """
    if precision is None:
        return targets
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", hint=f"use one of {', '.join(PRECISIONS)}")
    if not all(target.is_gpu for target in targets):
        raise UsageError(f"precision {precision} is for GPUs only", hint="leave it out, or compile for --target cuda")
    old = [gpu.name for target in targets for gpu in target.gpus if gpu.number < 80]
    if precision == "tf32" and old:
        raise UsageError(f"{', '.join(old)} has no tf32", hint="leave it out of the target, or use --precision fp16")
    return [replace(target, precision=precision) for target in targets]


def _parse_threads(words: list[str], text: str) -> int:
    numbers = [word.removeprefix("threads=") for word in words] or ["1"]
    if len(numbers) > 1 or not numbers[0].isascii() or not numbers[0].isdigit() or not 1 <= int(numbers[0][:9]) <= 256:
        raise UsageError(f"target {text!r}: threads= takes one number from 1 to 256", hint="write cpu,threads=2")
    return int(numbers[0])


def _parse_one(name: str, text: str) -> Target:
    choices = ", ".join(["cpu (this machine)", *(f"cpu:{isa}" for isa in ISAS), "cuda", "cuda:sm_90"])
    if name == "cpu":
        return host()
    if name.split(":")[0] == "cuda":
        raise UsageError(
            f"target {text!r}: one artifact holds code for processors or for GPUs",
            hint=f"compile twice: for cuda, and for {choices}",
        )
    if name.startswith("{"):
        raise UsageError("targets in TVM's JSON form are not built yet", hint=f"use one of {choices}")
    kind, _, level = name.partition(":")
    if kind != "cpu" or level not in ISAS:
        shown = repr(name) if name == text else f"{name!r} (in {text!r})"
        raise UsageError(f"unknown target {shown}", hint=f"use one of {choices}, or several with commas")
    isa = ISAS[level]
    # Nothing of this machine: the same target gives the same artifact wherever it is compiled.
    return Target(name, isa, _DEFAULT_THREADS, _DEFAULT_L1, _DEFAULT_L2.get(level, _DEFAULT_L2_OTHER))


def _parse_cuda(names: list[str], text: str) -> Target:
    first = names[0].partition(":")
    words = [first[2], *names[1:]] if first[1] else names[1:]
    others = [word for word in words if word.split(":")[0] in ("cpu", "cuda")]
    if others:
        raise UsageError(
            f"target {text!r}: one artifact holds code for processors or for GPUs, and each once",
            hint="name GPUs as cuda:sm_80,sm_90; compile a second artifact for processors",
        )
    hosts = [word.removeprefix("host=") for word in words if word.startswith("host=")]
    gpus = [word for word in words if not word.startswith("host=")]
    if len(hosts) > 1 or any(host not in ISAS for host in hosts):
        raise UsageError(f"target {text!r}: host= takes one of {', '.join(ISAS)}", hint="leave host= out for this one")
    own = next((isa.name for isa in ISAS.values() if isa.architecture == host_architecture()), "x86-64-v1")
    isa = ISAS[hosts[0] if hosts else own]
    threads, l2 = _DEFAULT_THREADS, _DEFAULT_L2.get(isa.name, _DEFAULT_L2_OTHER)
    return Target(text, isa, threads, _DEFAULT_L1, l2, gpus=parse_gpus(gpus or DEFAULT, text))


def host() -> Target:
    """This machine: the highest level whose every feature the kernel reports, and the extras it really has."""
    features = host_features()
    runnable = [isa for isa in ISAS.values() if isa.architecture == host_architecture() and isa.features <= features]
    if not runnable:
        raise UsageError(
            f"this machine ({host_architecture()}) is none that onnxkiln can compile for",
            hint=f"name a target: {', '.join(f'cpu:{isa}' for isa in ISAS)}",
        )
    isa = max(runnable, key=lambda candidate: candidate.rank)
    caches = host_caches()
    return Target(
        "cpu",
        isa,
        host_cores(),
        caches.get(1, _DEFAULT_L1),
        caches.get(2, _DEFAULT_L2.get(isa.name, _DEFAULT_L2_OTHER)),
        tuple(feature for feature in isa.extras if feature in features),
    )


def missing_features(required: Iterable[str]) -> list[str]:
    """Those of ``required`` that this machine lacks, sorted; empty when code that needs them runs here."""
    return sorted(set(required) - host_features())


def host_architecture() -> str:
    """The processor family, such as "x86_64" or "aarch64"."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


@functools.cache
def host_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Features that *every* processor of this machine has, under LLVM's names; empty when the kernel doesn't say."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return frozenset()
    common: set[str] | None = None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            names = {_KERNEL_NAMES.get(flag, flag.replace("_", "")) for flag in value.split()}
            common = names if common is None else common & names
    return frozenset(common or ())


@functools.cache
def host_caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[int, int]:
    """Size in bytes of one core's data (or unified) cache by level, as sysfs tells it; levels it hides are absent."""
    sizes: dict[int, int] = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        units = {"K": 1024, "M": 1024**2, "G": 1024**3}
        if kind in ("Data", "Unified") and size and size[:-1].isdigit() and size[-1] in units and level.isdigit():
            sizes[int(level)] = int(size[:-1]) * units[size[-1]]
    return sizes


def host_cpus() -> list[int]:
    """The logical CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


def host_cores(folder: Path = Path("/sys/devices/system/cpu"), quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Physical cores that this process may use: hyper-threads count once, a container's CPU quota is respected."""
    cores = set()
    for cpu in host_cpus():
        try:
            cores.add((folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, min(len(cores), _quota(quota)))


def _quota(path: Path) -> int:
    """Whole CPUs of a cgroup's quota, "200000 100000" being 2; a large number where there is none."""
    try:
        limit, period = path.read_text().split()
        return max(1, int(limit) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return 1 << 16
