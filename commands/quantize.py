"""``onnxkiln quantize``: calibrate a model, and show what int8 does to each of its layers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..shapes import parse_shapes
from .options import add_quantization_options
from .output import format_table, print_json

if TYPE_CHECKING:
    from ..layer_report import LayerRow


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "quantize",
        parents=[common],
        allow_abbrev=False,
        help="calibrate a model and show what int8 does to each layer",
        description="Find the ranges of MODEL's values on calibration data, write them (--save-calibration), and print "
        "a line for each layer: the range of its data, its largest weight, its own signal-to-quantization-noise ratio "
        "in decibels, and its time in fp32 and in int8 on this machine.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=DIMS", help="as for onnxkiln compile (repeatable)"
    )
    add_quantization_options(parser)
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="write the quantized model as ONNX too (QDQ)")
    parser.add_argument("--no-times", action="store_true", help="measure no times, which takes two builds a layer")
    parser.set_defaults(execute=execute, quantize="int8")


def execute(options: argparse.Namespace) -> int:
    from ..versions import check_compiler

    check_compiler()
    from ..compiler import Workbench
    from ..layer_report import layer_rows
    from ..quantization.settings import settings_of
    from ..quantizer import quantize, write_onnx

    settings = settings_of(
        options.quantize,
        options.calibrate,
        options.calibrator,
        options.exclude,
        options.max_drop,
        options.metric,
        options.improve,
        options.prefer,
    )
    assert settings is not None
    bench = Workbench(options.model, parse_shapes(options.shape) or None)
    show = _progress(options)
    quantized = quantize(settings, bench, show)
    rows = layer_rows(quantized, bench, show, not options.no_times)
    if options.save_calibration is not None:
        quantized.save(options.save_calibration)
    if options.onnx is not None:
        write_onnx(quantized, bench, options.onnx)
    assert quantized.calibration is not None
    if options.json:
        print_json({"layers": [row.to_json() for row in rows], "notes": list(quantized.calibration.notes)})
    else:
        print(table(rows))
        print("\n".join(quantized.calibration.notes))
    return 0


def _progress(options: argparse.Namespace) -> Any:
    """A line on standard error for each stage, where somebody reads it."""
    if options.json or not sys.stderr.isatty():
        return lambda _stage, _done, _total: None
    return lambda stage, done, total: print(f"\r{stage} {done}/{total}", end="", file=sys.stderr)


def table(rows: list[LayerRow]) -> str:
    """The rows under a header; "-" is what was not measured."""
    header = ("layer", "operator", "weight", "data", "weight max", "SQNR dB", "fp32 ms", "int8 ms", "arithmetic")
    return format_table(header, [_cells(row) for row in rows])


def _cells(row: LayerRow) -> tuple[str, ...]:
    return (
        row.name,
        row.op_type,
        "x".join(map(str, row.weight)),
        "-" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}",
        f"{row.largest:.4g}",
        "-" if row.decibels is None else f"{row.decibels:.1f}",
        "-" if row.ms_float is None else f"{row.ms_float:.3f}",
        "-" if row.ms_int8 is None else f"{row.ms_int8:.3f}",
        row.arithmetic,
    )
