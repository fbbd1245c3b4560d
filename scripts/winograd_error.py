#!/usr/bin/env python3
"""Prints how far Winograd's 3x3 convolutions are from exact ones: on random weights, and on those of models.

Each line: the error of float32's direct sums and of Winograd's, as shares of the largest output, and the largest share
of the bound (``schedules/winograd_error.py``) that an element uses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx

import checkout  # noqa: F401  (makes onnxkiln importable)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="ONNX files")
    options = parser.parse_args(arguments)
    from winograd_cases import measure

    worst = 0.0
    print("channels  outputs  transform   direct  Winograd  of bound  weights")
    for name, weight in [*random_weights(), *(found for model in options.models for found in real_weights(model))]:
        for label, found in measure(weight):
            worst = max(worst, found.used)
            print(f"{weight.shape[1]:8}  {weight.shape[0]:7}  {label:9}  {found.direct:.1e}   {found.error:.1e}"
                  f"  {found.used:8.3f}  {name}")  # fmt: skip
    print(f"largest share of the bound: {worst:.3f}")
    return 0 if worst <= 1 else 1


def random_weights() -> Iterator[tuple[str, np.ndarray]]:
    data = np.random.default_rng(0)
    for out, channels in ((32, 32), (64, 128), (256, 256)):
        yield "random", (data.standard_normal((out, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)


def real_weights(model: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Those of the 3x3 convolutions of stride 1 that Winograd could serve."""
    graph = onnx.load(model).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "Conv" else None
        strides = next((list(a.ints) for a in node.attribute if a.name == "strides"), [1, 1])
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        if tensor is not None and list(tensor.dims[2:]) == [3, 3] and strides == [1, 1] and groups == 1:
            yield f"{model.stem}: {node.input[1]}", onnx.numpy_helper.to_array(tensor).astype(np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
