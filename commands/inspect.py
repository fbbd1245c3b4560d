"""``onnxkiln inspect``: what is in an artifact folder, or in an ONNX file before it is compiled."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from . import describe_artifact, describe_model
from .explain import explanations_of, show_explanations
from .output import print_json


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "inspect",
        parents=[common],
        allow_abbrev=False,
        help="show what an artifact or a model holds",
        description="Show an artifact's interface, targets, passes, kernels and sizes (no code of it is run), "
        "or an ONNX file's interface, operators and those that can't be compiled.",
    )
    parser.add_argument("path", type=Path, metavar="ARTIFACT|MODEL", help="an artifact folder or an ONNX file")
    parser.add_argument("--explain", action="store_true", help="say why passes and templates did or didn't apply")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> None:
    kind = describe_artifact if options.path.is_dir() else describe_model
    description = kind.describe(options.path)
    if options.explain and kind is describe_artifact:
        description["explanations"] = explanations_of(options.path)
    if options.json:
        print_json(description)
    else:
        kind.show(description)
        if "explanations" in description:
            show_explanations(description["explanations"])
