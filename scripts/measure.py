#!/usr/bin/env python3
"""Measures what an artifact costs besides its kernels, and says whether that keeps what is promised.

    scripts/measure.py sharing       memory of two processes that run one artifact (SmolLM2)
    scripts/measure.py loading       import and load, against ONNX Runtime's
    scripts/measure.py deployment    what lies on the disk beside weights, Python and NumPy (--keep DIR leaves it there)
    scripts/measure.py overhead      a run of an empty graph, against the bare call and ONNX Runtime's
    scripts/measure.py open_dims     one artifact with open dims against artifacts of fixed sizes (compiles twelve)
    scripts/measure.py greedy        64 tokens that SmolLM2 goes on with after three prompts, against ONNX Runtime's
    scripts/measure.py convolutions  ResNet's, as a share of what AVX2 can do (a target: of what that one can)
    scripts/measure.py depthwise     what fusing depthwise and pointwise convolutions could save in MobileNetV2, at most
    scripts/measure.py networks      convolutional ones of many kinds, against ONNX Runtime's times and answers
    scripts/measure.py sequences     transformers, recurrent and small ones of many kinds, likewise
    scripts/measure.py quantized     8-bit models: time and answers, against ONNX Runtime's own quantized ones
    scripts/measure.py prepare       only fetch and compile what the others need

Exits with 1 when a promise isn't kept. Artifacts are kept in build/bench; a quiet machine gives the truest figures.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import checkout  # noqa: F401  (makes onnxkiln importable)
from onnxkiln.commands.output import print_json

MEASURES = (
    "sharing", "loading", "deployment", "overhead", "open_dims", "greedy", "convolutions", "depthwise", "networks",
    "sequences", "quantized",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measure; 1 if a promise isn't kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=[*MEASURES, "prepare"])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models (default: those of the promise)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="deployment: make the folder here")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.measure == "prepare":
        return _prepare(options.models)
    module = importlib.import_module(f"measures.{options.measure}")
    if options.measure == "deployment":
        found = module.measure(*options.models, keep=options.keep)
    elif options.measure == "loading":
        found = module.measure(tuple(options.models) or module.MODELS)
    else:
        found = module.measure(*options.models)
    if options.json:
        print_json(found)
    else:
        print(module.show(found))
    return 0 if all(item["passed"] for item in (found if isinstance(found, list) else [found])) else 1


def _prepare(names: Sequence[str]) -> int:
    from measures.loading import MODELS
    from measures.models import prepare

    with tempfile.TemporaryDirectory() as scratch:
        for name in names or (*MODELS, "ppocr_rec"):
            print(f"{name}: {prepare(name, Path(scratch)).artifact}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
