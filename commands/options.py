"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_feed_options(parser: argparse.ArgumentParser) -> None:
    """``--input`` and ``--dim`` of commands that make random inputs where none are given."""
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="FILE",
        help="x.npy (the only input), NAME=x.npy, or feeds.npz (arrays by input name); default: random inputs",
    )
    parser.add_argument(
        "--dim", action="append", default=[], metavar="NAME=SIZE", help="size of an open dim of random inputs"
    )


def add_quantization_options(parser: argparse.ArgumentParser) -> None:
    """What ``compile`` and ``quantize`` share."""
    group = parser.add_argument_group("quantization")
    group.add_argument("--quantize", choices=["int8", "int8-dynamic"], help="compute layers in integers")
    group.add_argument(
        "--calibrate",
        metavar="DATA",
        help="where ranges come from: an .npz file, a folder of .npy or .npz files, module:function, or a calibration "
        "file that --save-calibration wrote",
    )
    group.add_argument("--calibrator", metavar="NAME", help="how ranges are chosen (default: min-max)")
    group.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NODE",
        help="leave nodes in floating point: a name (* and ? match), or op:NAME for an operator (repeatable)",
    )
    group.add_argument(
        "--max-drop",
        metavar="DROP",
        help="how far the metric may fall: 1%% of fp32's value, or a difference such as 0.01; layers stay in floating "
        "point, worst first, until it holds",
    )
    group.add_argument(
        "--metric",
        metavar="NAME",
        help="agreement or cosine with fp32 on the calibration data, or module:function, which gets a session and "
        "returns a number, the larger the better (default: agreement)",
    )
    group.add_argument(
        "--improve",
        action="append",
        default=[],
        choices=["equalize", "smooth", "bias"],
        help="equalize: ranges across layers; smooth: SmoothQuant, for transformers; bias: correct biases (repeatable)",
    )
    group.add_argument(
        "--prefer",
        choices=["speed", "size"],
        help="size: embeddings become int8 too, for a smaller file (default: speed)",
    )
    group.add_argument("--save-calibration", type=Path, metavar="FILE", help="write what calibration found, for later")


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Which tuning logs a build reads, and what decides among equals."""
    parser.add_argument(
        "--log",
        metavar="FILE",
        help='the tuning log, or "none" (default: $ONNXKILN_LOG, else the one in your cache folder)',
    )
    parser.add_argument(
        "--no-shipped-log", action="store_true", help="leave out the tuning log that comes with onnxkiln"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the candidates tried by chance (default: 0)"
    )
    parser.add_argument(
        "--report", type=Path, metavar="OUT.html", help="write a page about the tuned kernels: roofline, table, ..."
    )
