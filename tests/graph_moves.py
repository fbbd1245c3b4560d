"""Random nodes that move data without changing it: shapes, slices, gathers, pads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from graph_nodes import ANY, an_axis, fit
from graphs import ASSIGNMENTS, Builder, Value


def _any(b: Builder, ranks: tuple[int, ...] = (1, 2, 3, 4)) -> Value | None:
    return b.operand(ANY, ranks, accept=fit)


def reshape(b: Builder) -> None:
    x = _any(b, (1, 2, 3, 4))
    if x is None:
        return
    kind = b.choice(["flatten", "merge", "merge", "zero", "split", "run_time"])
    if kind == "flatten":
        b.node("Flatten", x, axis=b.rng.randrange(-x.rank, x.rank + 1), moves=True)
    elif kind == "merge":
        at = b.rng.randrange(x.rank)
        dims = [0 if i < at else -1 for i in range(at + 1)]
        b.node("Reshape", x, b.ints(*dims), moves=True)
    elif kind == "zero":
        dims = [0] * x.rank
        dims[b.rng.randrange(x.rank)] = -1
        b.node("Reshape", x, b.ints(*dims), moves=True)
    elif kind == "split":
        axis = b.rng.randrange(x.rank)
        sizes = x.axes[axis]
        factor = b.choice([f for f in (1, 2, 3, 5, 7) if all(size % f == 0 for size in sizes)])
        dims = [0] * axis + ([-1, factor] if b.chance(0.5) else [factor, -1])
        if axis == x.rank - 1:
            b.node("Reshape", x, b.ints(*dims), moves=True)
        elif len(set(sizes)) == 1 and all(x.fixed(i) for i in range(axis + 1, x.rank)):
            rest = [x.axes[i][0] for i in range(axis + 1, x.rank)]
            b.node("Reshape", x, b.ints(*dims, *rest), moves=True)
    else:
        _reshape_at_run_time(b, x)


def _reshape_at_run_time(b: Builder, x: Value) -> None:
    """What PyTorch exports for ``x.view(x.shape[i], -1)``."""
    shape = b.node("Shape", x)
    if not shape:
        return
    index = b.rng.randrange(x.rank)
    if b.chance(0.5):
        one = b.node("Gather", shape[0], b.constant(np.array(index, np.int64)), axis=0)
        one = one and b.node("Unsqueeze", one[0], b.ints(0))
    else:
        one = b.node("Slice", shape[0], b.ints(index), b.ints(index + 1), b.ints(0))
    parts = one and b.node("Concat", *([one[0], b.ints(-1)] if b.chance(0.5) else [b.ints(-1), one[0]]), axis=0)
    if parts:
        b.node("Reshape", x, parts[0], moves=True)


def transpose(b: Builder) -> None:
    x = _any(b, (0, 1, 2, 3, 4))
    if x is not None:
        perm = b.rng.sample(range(x.rank), x.rank)
        b.node("Transpose", x, **({} if b.chance(0.2) or not perm else {"perm": perm}), moves=True)


def concat(b: Builder) -> None:
    x = _any(b)
    if x is None:
        return
    axis = an_axis(b, x)
    parts = [x]
    for _ in range(b.choice([0, 1, 1, 2])):
        axes = list(x.axes)
        axes[axis] = b.axis()
        if all(len(set(sizes)) == 1 for sizes in axes) and b.chance(0.3):
            parts.append(b.constant(b.array(x.dtype, [sizes[0] for sizes in axes])))
        else:
            parts.append(x if b.chance(0.2) else b.input(x.dtype, axes))
    b.rng.shuffle(parts)
    b.node("Concat", *parts, axis=axis, moves=True)


def slice_(b: Builder) -> None:
    x = _any(b)
    if x is None:
        return
    axes = b.rng.sample(range(x.rank), b.rng.randrange(1, x.rank + 1))
    starts, ends, steps = [], [], []
    for _ in axes:
        step = b.choice([1, 1, 1, 2, 3, -1, -2])
        start, end = b.choice([0, 0, 1, 2, -1, -3]), b.choice([1, 3, 5, -1, 1 << 31, (1 << 63) - 1])
        if step < 0:
            start, end = b.choice([-1, 5, 1 << 31, -2]), b.choice([0, -(1 << 31), -(1 << 63), 1])
        starts.append(start), ends.append(end), steps.append(step)
    inputs = [b.ints(*starts), b.ints(*ends), b.ints(*axes)]
    if any(step != 1 for step in steps) or b.chance(0.2):
        inputs.append(b.ints(*steps))
    b.node("Slice", x, *inputs, moves=True)


def split(b: Builder) -> None:
    x = _any(b)
    if x is None:
        return
    axis = b.rng.randrange(x.rank)
    sizes = x.axes[axis]
    if len(set(sizes)) == 1 and sizes[0] > 1 and b.chance(0.6):
        first = b.rng.randrange(0, sizes[0] + 1)
        b.node("Split", x, b.ints(first, sizes[0] - first), outputs=2, axis=axis, moves=True)
    else:
        parts = b.choice([1, 2, 3])
        b.node("Split", x, outputs=parts, axis=axis, num_outputs=parts, moves=True)


def gather(b: Builder) -> None:
    x = _any(b)
    if x is None:
        return
    axis = an_axis(b, x)
    least = min(x.axes[axis])
    if not least:
        return
    op = b.choice(["Gather", "Gather", "GatherElements"])
    if op == "Gather":
        shape = [b.choice([1, 2, 3, 5]) for _ in range(b.choice([0, 1, 1, 2]))]
    else:
        shape = [b.choice([1, min(sizes)]) for sizes in x.axes]
    indices = b.data.integers(-least, least, shape).astype(b.choice(["int64", "int32"]))
    value = b.constant(indices)
    if b.chance(0.4):
        value = b.input(str(indices.dtype), [(n,) * ASSIGNMENTS for n in shape])
        value.arrays[:] = [indices] * ASSIGNMENTS
        b.pool.remove(value)
    b.node(op, x, value, axis=axis, moves=True)


def pad(b: Builder) -> None:
    x = b.operand(("float32", "float32", "int64", "float64", "bool"), (1, 2, 3, 4))
    if x is None:
        return
    mode = b.choice(["constant", "constant", "reflect", "edge", "wrap"])
    if mode != "constant" and x.dtype == "bool":
        return
    amounts = [b.choice([0, 0, 1, 2]) for _ in range(2 * x.rank)]
    if b.chance(0.2):
        amounts[b.rng.randrange(2 * x.rank)] = -1
    if mode == "reflect" and any(min(sizes) <= max(amounts) for sizes in x.axes):
        return
    inputs = [x, b.ints(*amounts)]
    if mode == "constant" and b.chance(0.5):
        inputs.append(b.constant(b.array(x.dtype, [])))
    b.node("Pad", *inputs, mode=mode, moves=True)


def stretch(b: Builder) -> None:
    x = _any(b)
    if x is None:
        return
    if b.chance(0.5):
        b.node(
            "Tile", x, b.ints(*[b.choice([1, 1, 2, 3, 0]) if b.chance(0.5) else 1 for _ in range(x.rank)]), moves=True
        )
        return
    dims = [
        b.choice([1, 2, 5]) if set(sizes) == {1} else 1 if b.chance(0.5) or len(set(sizes)) > 1 else sizes[0]
        for sizes in x.axes
    ]
    dims = [b.choice([1, 2]), *dims] if b.chance(0.3) else dims[b.rng.randrange(x.rank) :]
    b.node("Expand", x, b.ints(*dims), moves=True)


def ones(b: Builder) -> None:
    x = _any(b, (0, 1, 2, 3))
    if x is None:
        return
    if b.chance(0.5):
        axis = b.rng.randrange(-x.rank - 1, x.rank + 1)
        b.node("Unsqueeze", x, b.ints(axis), moves=True)
        return
    axes = [i for i, sizes in enumerate(x.axes) if set(sizes) == {1}]
    if axes:
        b.node("Squeeze", x, *([] if b.chance(0.1) else [b.ints(b.choice(axes))]), moves=True)


def shapes(b: Builder) -> None:
    x = _any(b, (0, 1, 2, 3, 4))
    if x is None:
        return
    if b.chance(0.3):
        b.node("Size", x)
        return
    made = b.node("Shape", x, **({"start": b.choice([0, 1, -1])} if b.chance(0.4) else {}))
    if made and b.chance(0.5):
        value = b.array(b.choice(["float32", "int64", "bool"]), [1])
        b.node("ConstantOfShape", made[0], value=onnx.numpy_helper.from_array(value))


def sequences(b: Builder) -> None:
    x = b.operand(("float32", "float32", "int64"), (1, 2, 3), accept=lambda v: v.exact)
    if x is None:
        return
    kind = b.choice(["CumSum", "TopK", "Trilu", "ScatterElements", "OneHot"])
    if kind == "CumSum":
        axis = b.constant(np.array(an_axis(b, x), np.int64))
        b.node("CumSum", x, axis, exclusive=b.choice([0, 1]), reverse=b.choice([0, 1]))
    elif kind == "TopK":
        axis = an_axis(b, x)
        distinct = x.dtype == "float32" and all(len(np.unique(a)) == a.size for a in x.arrays)
        if distinct and min(x.axes[axis]):
            k = b.ints(b.rng.randrange(1, min(x.axes[axis]) + 1))
            b.node("TopK", x, k, outputs=2, axis=axis, largest=b.choice([0, 1]), moves=True)
    elif kind == "Trilu" and x.rank >= 2:
        b.node("Trilu", x, *([b.constant(np.array(b.choice([-1, 0, 1, 2]), np.int64))] if b.chance(0.5) else []),
               upper=b.choice([0, 1]), moves=True)  # fmt: skip
    elif kind == "ScatterElements" and all(min(sizes) for sizes in x.axes):
        shape = [1] * x.rank
        axis = an_axis(b, x)
        indices = b.constant(np.full(shape, b.rng.randrange(min(x.axes[axis])), np.int64))
        b.node("ScatterElements", x, indices, b.constant(b.array(x.dtype, shape)), axis=axis, moves=True)
    elif kind == "OneHot" and x.dtype == "int64":
        values = b.constant(np.array([0.5, 2], np.float32))
        b.node("OneHot", x, b.constant(np.array(4, np.int64)), values, axis=b.choice([-1, 0]), moves=True)


MOVES: list[Callable[[Builder], None]] = [
    reshape, reshape, reshape, transpose, transpose, concat, concat, slice_, slice_, split, gather, pad, stretch,
    ones, shapes, sequences,
]  # fmt: skip
