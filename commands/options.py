"""Options that several commands share."""

from __future__ import annotations

import argparse


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
