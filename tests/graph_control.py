"""Random nodes with a body or a state: If, Loop, Scan, LSTM, GRU, RNN, Einsum, Resize to sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
from graph_nodes import exact, picture
from graph_selections import at_run_time
from graphs import ASSIGNMENTS, Builder, Value

EQUATIONS = ("ij,jk->ik", "bij,bjk->bik", "bij,bkj->bik", "ij->ji", "ij,ij->", "bij->bi", "i,j->ij", "ii->i")
FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def _info(name: str, element: int, shape: Any = None) -> onnx.ValueInfoProto:
    return oh.make_tensor_value_info(name, element, shape)


def _dims(value: Value) -> list[int | None]:
    return [value.axes[i][0] if value.fixed(i) else None for i in range(value.rank)]


def branch(b: Builder) -> None:
    x = b.operand(("float32", "int64"), (0, 1, 2, 3))
    if x is None:
        return
    taken = [np.array(b.chance(0.5)) for _ in range(ASSIGNMENTS)]
    condition = at_run_time(b, taken) if b.chance(0.8) else b.constant(taken[0])
    element = oh.np_dtype_to_tensor_dtype(x.arrays[0].dtype)

    def body(op: str, name: str) -> onnx.GraphProto:
        return oh.make_graph([oh.make_node(op, [x.name], [name])], name, [], [_info(name, element)])

    first, second = b.rng.sample(["Neg", "Abs", "Relu", "Identity", "Sign"], 2)
    fresh = b.name("b")
    b.node("If", condition, captures=[x], then_branch=body(first, f"{fresh}t"), else_branch=body(second, f"{fresh}e"))


def loop(b: Builder) -> None:
    """A state that grows, an output collected at each step; ends by count or by condition."""
    x = b.operand(("float32",), (0, 1, 2), accept=exact)
    if x is None:
        return
    p = b.name("l")
    # Of no iterations ONNX Runtime makes an open dim of what is collected 0, we its size: ONNX says neither.
    least = 0 if all(x.fixed(i) for i in range(x.rank)) else 1
    counts = [np.array(b.choice([least, 1, 2, 3, 6]), np.int64) for _ in range(ASSIGNMENTS)]
    trip = at_run_time(b, counts) if b.chance(0.6) else b.constant(counts[0])
    limit = oh.make_tensor(f"{p}k", INT64, [], [b.choice([0, 2, 99])])
    nodes = [
        oh.make_node("Mul", [f"{p}s", f"{p}h"], [f"{p}m"]),
        oh.make_node("Add", [f"{p}m", x.name], [f"{p}o"]),
        oh.make_node("Less", [f"{p}i", f"{p}k"], [f"{p}d"]),
        oh.make_node(b.choice(["Neg", "Tanh", "Relu"]), [f"{p}o"], [f"{p}y"]),
    ]
    half = oh.make_tensor(f"{p}h", FLOAT, [], [0.5])
    ins = [_info(f"{p}i", INT64, []), _info(f"{p}c", BOOL, []), _info(f"{p}s", FLOAT, _dims(x))]
    outs = [_info(f"{p}d", BOOL, []), _info(f"{p}o", FLOAT, _dims(x)), _info(f"{p}y", FLOAT, _dims(x))]
    body = oh.make_graph(nodes, f"{p}body", ins, outs, [limit, half])
    keep = b.constant(np.array(True)) if b.chance(0.7) else None
    b.node("Loop", trip, keep, x, outputs=2, captures=[x], body=body)


def scan(b: Builder) -> None:
    x = b.operand(("float32",), (2, 3), accept=lambda v: exact(v) and all(a.size for a in v.arrays))
    if x is None or not all(x.fixed(i) for i in range(1, x.rank)):
        return
    p, shape = b.name("s"), [axis[0] for axis in x.axes[1:]]
    nodes = [
        oh.make_node(b.choice(["Add", "Max", "Min"]), [f"{p}s", f"{p}x"], [f"{p}o"]),
        oh.make_node(b.choice(["Identity", "Relu", "Tanh"]), [f"{p}o"], [f"{p}y"]),
    ]
    names = ([f"{p}s", f"{p}x"], [f"{p}o", f"{p}y"])
    ins, outs = ([_info(name, FLOAT, shape) for name in some] for some in names)
    start = b.constant(np.zeros(shape, np.float32))
    body = oh.make_graph(nodes, f"{p}body", ins, outs)
    extra = {"scan_input_directions": [1], "scan_output_directions": [b.choice([0, 1])]} if b.chance(0.4) else {}
    b.node("Scan", start, x, outputs=2, body=body, num_scan_inputs=1, **extra)


def _length(b: Builder, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """An axis, open as often as not."""
    return tuple(b.choice(sizes) for _ in range(ASSIGNMENTS)) if b.chance(0.5) else (b.choice(sizes),) * ASSIGNMENTS


def recurrent(b: Builder) -> None:
    kind = b.choice(["LSTM", "GRU", "RNN"])
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    direction = b.choice(["forward", "reverse", "bidirectional"])
    both = 2 if direction == "bidirectional" else 1
    width, hidden = b.choice([1, 3, 8]), b.choice([1, 4, 7, 16])
    steps, batch = _length(b, (1, 2, 5, 7)), _length(b, (1, 2, 3))
    x = b.input("float32", [steps, batch, (width,) * ASSIGNMENTS])
    for array in x.arrays:
        array[~np.isfinite(array)] = 1.0
    inputs: list[Value | None] = [
        x,
        b.constant(b.array("float32", [both, gates * hidden, width], -1, 1)),
        b.constant(b.array("float32", [both, gates * hidden, hidden], -1, 1)),
    ]
    bias = b.constant(b.array("float32", [both, 2 * gates * hidden], -1, 1)) if b.chance(0.7) else None
    extra: dict[str, Any] = {"linear_before_reset": b.choice([0, 1])} if kind == "GRU" else {}
    first = b.input("float32", [(both,) * ASSIGNMENTS, batch, (hidden,) * ASSIGNMENTS]) if b.chance(0.4) else None
    for array in first.arrays if first is not None else []:
        array[~np.isfinite(array)] = 1.0
    inputs += [bias, None, first] if first is not None or bias is not None else []
    while inputs and inputs[-1] is None:
        inputs.pop()
    outputs = 3 if kind == "LSTM" else 2
    b.node(kind, *inputs, outputs=outputs, hidden_size=hidden, direction=direction, **extra)


def einsum(b: Builder) -> None:
    equation = b.choice(EQUATIONS)
    known: dict[str, tuple[int, ...]] = {}
    operands = []
    for letters in equation.split("->")[0].split(","):
        axes = [known.setdefault(letter, b.axis(0.3)) for letter in letters]
        operands.append(b.input("float32", axes))
    b.node("Einsum", *operands, equation=equation)


def resize_to_sizes(b: Builder) -> None:
    x = picture(b, 2)
    if not x.exact or not (x.fixed(2) and x.fixed(3)) or not x.axes[0][0] or not x.fixed(0):
        return
    sizes = [x.axes[0][0], x.axes[1][0], b.choice([1, 4, 7, 12]), b.choice([1, 5, 9, 16])]
    target = np.array(sizes, np.int64)
    value = at_run_time(b, [target]) if b.chance(0.5) else b.constant(target)
    mode = b.choice(["nearest", "linear", "cubic"])
    where = b.choice(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    extra: dict[str, Any] = {}
    if mode == "nearest":
        extra["nearest_mode"] = b.choice(["floor", "ceil", "round_prefer_ceil"])
    b.node("Resize", x, None, None, value, mode=mode, coordinate_transformation_mode=where, **extra)


def rarer(b: Builder) -> None:
    """Operators of one tensor that the other families leave out."""
    op = b.choice(["PRelu", "Shrink", "Hardmax", "LpPool", "EyeLike", "MeanVarianceNormalization"])
    if op in ("LpPool", "MeanVarianceNormalization"):
        x = picture(b, 2)
        if not x.exact:
            return
        if op == "LpPool":
            b.node(op, x, kernel_shape=[1, 1], strides=[b.choice([1, 2])] * 2, p=b.choice([1, 2]))
        elif op == "MeanVarianceNormalization":
            b.node(op, x, axes=b.choice([[0, 2, 3], [2, 3]]))
        return
    x = b.operand(("float32",), (1, 2, 3), accept=exact)
    if x is None:
        return
    if op == "PRelu":
        b.node(op, x, b.constant(b.array("float32", [x.axes[-1][0]] if x.fixed(x.rank - 1) else [1])))
    elif op == "Shrink":
        b.node(op, x, lambd=b.choice([0.5, 1.0]), bias=b.choice([0.0, 0.25]))
    elif op == "Hardmax" and all(len(np.unique(a)) == a.size for a in x.arrays):
        b.node(op, x, axis=b.rng.randrange(x.rank))
    elif op == "EyeLike" and x.rank == 2:
        b.node(op, x, k=b.choice([-1, 0, 2]), dtype=FLOAT)


CONTROL: list[Callable[[Builder], None]] = [branch, loop, scan, recurrent, recurrent, einsum, resize_to_sizes, rarer]
