"""ddddocr's YOLOX detector with what its users run after it made part of the graph: grid decoding and NMS."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from .graph import Graph

SIZE = 416
STRIDES = (8, 16, 32)
MOST_BOXES = 100
LIMITS = {"overlap": 0.45, "score": 0.1}
"""Boxes that overlap more than this, or score less, go: the ddddocr package's own numbers."""


def build_yolox_nms(data: bytes) -> onnx.ModelProto:
    """``data`` gives float32 [1, 3549, 6]: dx, dy, log w, log h, objectness, one class score.

    Outputs: ``boxes`` float32 [n, 4] as corners, ``scores`` float32 [n], n as many as NonMaxSuppression keeps.
    """
    model = onnx.load_from_string(data)
    (raw,) = (output.name for output in model.graph.output)
    graph = Graph(prefix="nms_")
    boxes = _boxes(graph, raw)
    scores = graph.node("Mul", _columns(graph, raw, 4, 5), _columns(graph, raw, 5, 6))
    limits = [graph.indices("most_boxes", MOST_BOXES)]
    limits += [graph.constant(name, np.array([value], np.float32)) for name, value in LIMITS.items()]
    kept = graph.node("NonMaxSuppression", boxes, graph.node("Transpose", scores, perm=[0, 2, 1]), *limits)
    places = graph.node("Gather", kept, graph.constant("third", np.int64(2)), axis=1)
    flat_boxes = graph.node("Reshape", boxes, graph.indices("rows_of_4", -1, 4))
    flat_scores = graph.node("Reshape", scores, graph.indices("one_row", -1))
    graph.node("Gather", flat_boxes, places, axis=0, output="boxes")
    graph.node("Gather", flat_scores, places, axis=0, output="scores")
    outputs = [("boxes", TensorProto.FLOAT, ("n", 4)), ("scores", TensorProto.FLOAT, ("n",))]
    return graph.append_to(model, outputs)


def _boxes(graph: Graph, raw: str) -> str:
    """Corners [1, 3549, 4]: centres are offsets within a grid cell, sizes logs of multiples of its width."""
    cells, widths = [], []
    for stride in STRIDES:
        y, x = np.mgrid[0 : SIZE // stride, 0 : SIZE // stride]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        widths.append(np.full((x.size, 1), stride))
    stride_of = graph.constant("strides", np.concatenate(widths)[None].astype(np.float32))
    grid = graph.constant("grid", np.concatenate(cells)[None].astype(np.float32))
    centres = graph.node("Mul", graph.node("Add", _columns(graph, raw, 0, 2), grid), stride_of)
    sizes = graph.node("Mul", graph.node("Exp", _columns(graph, raw, 2, 4)), stride_of)
    half = graph.node("Mul", sizes, graph.constant("half", np.float32(0.5)))
    return graph.node("Concat", *(graph.node(op_type, centres, half) for op_type in ("Sub", "Add")), axis=2)


def _columns(graph: Graph, value: str, start: int, end: int) -> str:
    names = [graph.indices(f"{name}_{start}", number) for name, number in (("from", start), ("to", end), ("axis", 2))]
    return graph.node("Slice", value, *names)
