#!/usr/bin/env python3
"""Three models of the zoo as ONNX Runtime's quantizer and transformer optimizer rewrite them, against ONNX Runtime.

    scripts/quantized_zoo.py [MODEL...] [--forms qdq,qoperator,dynamic,transformer] [--keep DIR]

Each model is rewritten by onnxruntime.quantization (quantize_static in both formats, quantize_dynamic), the encoder
also by onnxruntime.transformers.optimizer; compiled; and run on a realistic input and two random ones. Three things
must hold of a model that rounds while it runs: each part, on ONNX Runtime's own integers, is at most one quantum away
(zoo_check/segments.py); the whole is no further away than ONNX Runtime from itself (zoo_check/spread.py); and what is
read off it, text, class or vector, is the same (zoo_check/meaning.py). Exit code 1 where one doesn't.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  (makes onnxkiln importable)
import onnxkiln
from onnxkiln.commands.output import format_table
from zoo_check.cases import Feeds, Input, listed_sizes, random_feeds
from zoo_check.meaning import MEANINGS
from zoo_check.quantized_forms import FORMS, operators, prepare
from zoo_check.realistic import MAKERS
from zoo_check.segments import check_parts
from zoo_check.spread import Reference, Run, judge, session, worst
from zoo_models.catalog import Entry, load_catalog
from zoo_models.fetch import fetch

MODELS = ("efficientnet_lite0", "ppocr_rec", "minilm_l3")
TRANSFORMERS = ("minilm_l3",)
HEADER = ("model", "form", "operators of the form", "compile s", "parts", "worst", "ORT's own", "meaning", "result")
LEGEND = (
    "parts: integer tensors compared, each computed from ONNX Runtime's own, share of elements one quantum away; "
    "worst: largest difference of the whole model from ONNX Runtime's answer, over all outputs and inputs; "
    "ORT's own: that between its own answers; meaning: what is read off the answers to a realistic input"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check each model in each form; 1 if one is not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--forms", default=",".join(FORMS), help="comma-separated (default: all)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the rewritten models and artifacts in DIR")
    options = parser.parse_args(arguments)
    rows, problems = [], []
    for entry in load_catalog(options.models or MODELS):
        with tempfile.TemporaryDirectory(prefix="onnxkiln-quantized-") as scratch:
            folder = options.keep or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            for row, found in check(entry, options.forms.split(","), folder):
                print(" ".join(row), *found, sep="\n", flush=True)
                rows.append(row)
                problems += found
    print(format_table(HEADER, rows), LEGEND, *problems, sep="\n")
    return 1 if problems else 0


def check(entry: Entry, forms: Sequence[str], folder: Path) -> Any:
    """Yields a row of the table and the problems of each form that the model has."""
    source, prepared = fetch(entry), folder / f"{entry.name}.float.onnx"
    prepare(source, prepared)
    feeds = inputs_of(entry, source)
    for form in forms:
        if form == "transformer" and entry.name not in TRANSFORMERS:
            continue
        model = folder / f"{entry.name}.{form}.onnx"
        FORMS[form](source if form == "transformer" else prepared, model, feeds[:1])  # noise would stretch the ranges
        yield compare_form(entry.name, form, model, feeds, folder)


def inputs_of(entry: Entry, path: Path) -> list[Feeds]:
    """The realistic input and two random ones of the listed sizes."""
    reference = session(path)
    inputs = [Input(item.name, _dtype(item.type), _dims(item.name, item.shape)) for item in reference.get_inputs()]
    sizes = listed_sizes(entry, inputs)
    realistic = MAKERS[entry.realistic](inputs, lambda feeds: reference.run(None, feeds))
    return [realistic, *(random_feeds(entry, inputs, sizes, seed) for seed in (0, 1))]


def _dtype(kind: str) -> str:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def _dims(name: str, shape: Sequence[int | str | None]) -> list[int | str]:
    """Unnamed dims get a name of their own."""
    return [dim if isinstance(dim, int | str) and dim != "?" else f"{name}.{axis}" for axis, dim in enumerate(shape)]


def compare_form(
    name: str, form: str, model: Path, feeds: Sequence[Feeds], folder: Path
) -> tuple[tuple[str, ...], list[str]]:
    """Compile the rewritten model and run it on each input."""
    start = time.perf_counter()
    artifact = onnxkiln.compile(model, folder / f"{name}.{form}", force=True)
    seconds = time.perf_counter() - start
    reference = Reference(model)
    problems, away, own = [], 0.0, 0.0
    with onnxkiln.load(artifact) as compiled:
        names = [output.name for output in compiled.get_outputs()]
        for number, feed in enumerate(feeds):
            expected, spreads = reference.run(feed)
            found = compiled.run(None, dict(feed))
            away, own = max(away, worst(found, expected)), max(own, *spreads)
            for output, ours, theirs, spread in zip(names, found, expected, spreads, strict=True):
                problem = judge(output, ours, theirs, spread)
                if problem:
                    problems.append(f"{name} {form}, input {number}: {problem}")
        said, wrong = _meaning(name, model, feeds[0], lambda feed: compiled.run(None, dict(feed)), reference.runs())
    counts = ", ".join(f"{count} {operator}" for operator, count in sorted(operators(model).items()))
    parts, apart = _parts(form, model, feeds, folder)
    problems += [f"{name} {form}: {problem}" for problem in (*wrong, *apart)]
    result = "FAILED" if problems else "right"
    return (name, form, counts, f"{seconds:.0f}", parts, f"{away:.3g}", f"{own:.3g}", said, result), problems


def _meaning(name: str, model: Path, feeds: Feeds, ours: Run, theirs: Sequence[Run]) -> tuple[str, list[str]]:
    """Words for the table, and what is wrong."""
    return MEANINGS[name](model, feeds, ours, theirs) if name in MEANINGS else ("", [])


def _parts(form: str, model: Path, feeds: Sequence[Feeds], folder: Path) -> tuple[str, list[str]]:
    """Words for the table, and what is wrong; the optimizer's form rounds nothing."""
    if form == "transformer":
        return "", []
    parts = check_parts(model, feeds, folder)
    return f"{parts.tensors}, {parts.apart / max(1, parts.elements):.2%}", parts.problems


if __name__ == "__main__":
    raise SystemExit(main())
