#!/usr/bin/env python3
"""Twelve models for GPUs: compile each for four architectures and PTX; where there is a GPU, run it too.

    scripts/gpu_check.py [NAME...] [--target cuda] [--limit 300]

Compiling needs no GPU; code that is missing, and a model that takes longer than the limit (in seconds), fail. Where a
driver sees a GPU, outputs are compared with ONNX Runtime's on a processor, and the latency is measured; elsewhere the
table says why nothing ran.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

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
HEADS = ("model", "compile s", "code", "kernels", "in one thread", "with a stack", "GPU", "ms", "result")
_RUNS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the models; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models (default: all twelve)")
    parser.add_argument("--target", default="cuda", help="as for onnxkiln compile (default: cuda)")
    parser.add_argument("--limit", type=float, default=300, help="seconds that compiling one model may take")
    options = parser.parse_args(arguments)
    gpu = why_no_gpu()
    rows = [check(model, options.target, options.limit, gpu) for model in load_models(options.names)]
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


def check(model: BenchModel, target: str, limit: float, no_gpu: str) -> tuple[str, ...]:
    """One row of the table."""
    path, artifact = model.path(), FOLDER / model.name
    FOLDER.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    onnxkiln.compile(path, artifact, target=target, force=True)
    seconds = time.perf_counter() - start
    described = describe(artifact)
    used, ms, result = ("-", "-", "passed") if no_gpu else run(model, path, artifact)
    if seconds > limit:
        result = f"took longer than {limit:g} s"
    return (model.name, f"{seconds:.1f}", *described, used, ms, result)


def describe(artifact: Path) -> tuple[str, ...]:
    """Code, number of kernels, how many of them have one thread, how many spill."""
    with OpenArtifact(artifact) as opened:
        device = opened.manifest.device
    assert device is not None
    names = " ".join(Path(code.path).name for code in device.codes)
    alone = sum(kernel.threads == 1 for kernel in device.kernels)
    spilled = max((sum(use.stack_bytes > 0 for use in code.uses) for code in device.codes), default=0)
    return names, str(len(device.kernels)), str(alone), str(spilled)


def run(model: BenchModel, path: Path, artifact: Path) -> tuple[str, str, str]:
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
    problems = [compare(*triple).problem for triple in zip(names, expected, found, strict=True)]
    return used, f"{statistics.median(times):.2f}", next(filter(None, problems), "passed")


if __name__ == "__main__":
    raise SystemExit(main())
