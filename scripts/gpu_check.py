#!/usr/bin/env python3
"""Twelve models for GPUs: compile each for four architectures and PTX; where there is a GPU, run it too.

    scripts/gpu_check.py [NAME...] [--target cuda] [--precision fp16|tf32] [--limit 300]

Compiling needs no GPU. What fails: code that is missing; a host function that computes, seen here by a walk of its own;
a kernel that takes more than its GPU has; and a model that takes longer than the limit, in seconds of processors, which
don't depend on what else a machine does. Where a driver sees a GPU, outputs are compared with ONNX Runtime's on a
processor, and the latency is measured; elsewhere the table says why nothing ran.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import checkout
import onnxkiln
from bench_models.artifacts import listed_feeds
from bench_models.catalog import BenchModel, load_models
from onnxkiln.artifacts.driver import Driver
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.commands.output import format_table
from onnxkiln.compare import compare
from onnxkiln.errors import DeviceError

FOLDER = checkout.ROOT / "build" / "gpu"
HEADS = (
    "model", "wall s", "cpu s", "code", "kernels", "tensor cores", "one thread", "registers", "shared", "stack",
    "host", "GPU", "ms", "result",
)  # fmt: skip
"""Of registers (a thread's), shared memory (a block's) and stack (a thread's; bytes) the most that a kernel takes;
``host`` counts functions that start kernels, and the loops in them, which computing would need."""

_RUNS = 20
_LOW_PRECISION = 100
"""Times the tolerance of fp32 that operands with eleven bits may use up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the models; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models (default: all twelve)")
    parser.add_argument("--target", default="cuda", help="as for onnxkiln compile (default: cuda)")
    parser.add_argument("--precision", choices=["fp16", "tf32"], help="as for onnxkiln compile")
    parser.add_argument("--limit", type=float, default=300, help="processor seconds that compiling one model may take")
    options = parser.parse_args(arguments)
    gpu = why_no_gpu()
    rows = []
    for model in load_models(options.names):
        rows.append(check(model, options.target, options.precision, options.limit, gpu))
        print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    print(format_table(HEADS, rows))
    if gpu:
        print(f"\nnothing ran: {gpu}")
    return 0 if all(row[-1] == "passed" for row in rows) else 1


def why_no_gpu() -> str:
    """Why kernels can't be run here; empty where they can."""
    try:
        return "" if Driver().devices else "the driver sees no GPU"
    except DeviceError as error:
        return error.message


def check(model: BenchModel, target: str, precision: str | None, limit: float, no_gpu: str) -> tuple[str, ...]:
    """One row of the table."""
    path, artifact = model.path(), FOLDER / model.name
    FOLDER.mkdir(parents=True, exist_ok=True)
    start, before, host = time.perf_counter(), processor_seconds(), HostFunctions()
    with host.watched():
        onnxkiln.compile(path, artifact, target=target, precision=precision, force=True)
    wall, spent = time.perf_counter() - start, processor_seconds() - before
    described = describe(artifact)
    used, ms, result = ("-", "-", "passed") if no_gpu else run(model, path, artifact, precision)
    if spent > limit:
        result = f"took longer than {limit:g} processor seconds"
    if host.loops or not host.count:
        result = "the host computes"
    shown = f"{host.count}, {host.loops} loops"
    return (model.name, f"{wall:.1f}", f"{spent:.1f}", *described, shown, used, ms, result)


def processor_seconds() -> float:
    """Of this process, its threads and the children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class HostFunctions:
    """How many functions start kernels, and how many loops are in them: what computes elements needs one."""

    def __init__(self) -> None:
        self.count = self.loops = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Counts what is compiled meanwhile."""
        from onnxkiln.passes import lower_gpu

        with mock.patch.object(lower_gpu, "refuse_host_loops", self._look):
            yield

    def _look(self, host: Any) -> None:
        import tvm_ffi
        from tvm import tirx

        loops: list[object] = []
        for function in host.functions.values():
            self.count += 1
            for kind in (tirx.For, tirx.While):
                tvm_ffi.structural_walk(function.body, (kind, loops.append), order="post")
        self.loops += len(loops)


def describe(artifact: Path) -> tuple[str, ...]:
    """Code, number of kernels, how many are on tensor cores or have one thread, the most that one takes."""
    with OpenArtifact(artifact) as opened:
        device, rules = opened.manifest.device, [kernel.template for kernel in opened.manifest.kernels]
    assert device is not None
    names = " ".join(Path(code.path).name for code in device.codes)
    alone = sum(kernel.threads == 1 for kernel in device.kernels)
    uses = [use for code in device.codes for use in code.uses]
    most = [max((getattr(use, of) for use in uses), default=0) for of in ("registers", "shared_bytes", "stack_bytes")]
    cores = rules.count("gpu_tensor_cores")
    return names, str(len(device.kernels)), str(cores), str(alone), *map(str, most)


def run(model: BenchModel, path: Path, artifact: Path, precision: str | None) -> tuple[str, str, str]:
    """On this machine's GPU: which, the median latency, and the first output that differs from ONNX Runtime's."""
    import onnxruntime

    feeds = listed_feeds(model.listed, artifact)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(feeds))
    times = []
    with onnxkiln.load(artifact) as session:
        found = session.run(None, feeds)
        for _ in range(_RUNS):
            start = time.perf_counter()
            session.run(None, feeds)
            times.append(1000 * (time.perf_counter() - start))
        names, used = [spec.name for spec in session.contract.outputs], session.device
    compared = [compare(*triple) for triple in zip(names, expected, found, strict=True)]
    problems = [one.problem for one in compared if not (precision and one.used < _LOW_PRECISION)]
    return used, f"{statistics.median(times):.2f}", next(filter(None, problems), "passed")


if __name__ == "__main__":
    raise SystemExit(main())
