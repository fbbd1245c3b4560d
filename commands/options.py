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
    group.add_argument("--quantize", choices=["int8"], help="compute layers in integers of 8 bits")
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
