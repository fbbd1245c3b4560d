#!/usr/bin/env python3
"""``scripts/compile.py MODEL.onnx -o OUT`` is ``onnxkiln compile`` from a checkout, with no installation."""

from __future__ import annotations

import sys

import checkout  # noqa: F401  (makes the next import work)
from onnxkiln.cli import program

if __name__ == "__main__":
    raise SystemExit(program(["compile", *sys.argv[1:]]))
