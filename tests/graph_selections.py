"""Random nodes that pick, scatter, order and stretch by indices and sizes, constant or known at run time only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from graph_nodes import ANY, an_axis, fit
from graphs import ASSIGNMENTS, Array, Builder, Value


def at_run_time(b: Builder, arrays: Sequence[Array]) -> Value:
    """An input that holds these numbers: one array for all assignments, or one for each."""
    given = list(arrays) * (ASSIGNMENTS if len(arrays) == 1 else 1)
    value = b.input(str(given[0].dtype), list(zip(*(array.shape for array in given), strict=True)))
    value.arrays[:] = given
    # What counts the axes or the places of another tensor must have a known length.
    value.names = tuple(sizes[0] if value.fixed(i) else value.names[i] for i, sizes in enumerate(value.axes))
    b.pool.remove(value)
    return value


def numbers(b: Builder, *each: int, run_time: float = 0.4) -> Value:
    """int64 numbers: a constant, or an input."""
    array = np.array(each, np.int64)
    return at_run_time(b, [array]) if b.chance(run_time) else b.constant(array)


def _data(b: Builder, ranks: tuple[int, ...] = (1, 2, 3)) -> Value | None:
    return b.operand(ANY, ranks, accept=fit)


def _indices(b: Builder, limit: int, shape: Sequence[int]) -> Value:
    array = b.data.integers(-limit, limit, shape).astype(np.int64)
    return at_run_time(b, [array]) if b.chance(0.4) else b.constant(array)


def top_k(b: Builder) -> None:
    x = b.operand(("float32", "float64", "float16", "int64", "int32"), (1, 2, 3), accept=lambda v: v.exact)
    if x is None or not all(len(np.unique(a)) == a.size for a in x.arrays):
        return  # equal numbers: which comes first is the runtime's choice
    axis = an_axis(b, x)
    if min(x.axes[axis]):
        k = numbers(b, b.rng.randrange(0, min(x.axes[axis]) + 1))
        b.node("TopK", x, k, outputs=2, axis=axis, largest=b.choice([0, 1]), moves=True)


def scatter_elements(b: Builder) -> None:
    x = b.operand((*ANY, "float32", "int32"), (1, 2, 3), accept=fit)
    if x is None or not all(min(sizes) for sizes in x.axes):
        return
    axis = an_axis(b, x) % x.rank
    reduction = b.choice(["none", "add", "mul", "max", "min"])
    if x.dtype == "bool" and reduction != "none":
        return
    shape = [b.choice([1, min(sizes)]) for sizes in x.axes]
    limit = min(x.axes[axis])
    if reduction == "none":  # each place at most once: which of two writes wins is open
        shape[axis] = min(shape[axis], limit)
        line = b.data.permutation(limit)[: shape[axis]].reshape([-1 if i == axis else 1 for i in range(x.rank)])
        array = np.broadcast_to(line, shape).astype(np.int64)
        indices = at_run_time(b, [array]) if b.chance(0.4) else b.constant(array)
    else:
        indices = _indices(b, limit, shape)
    updates = b.input(x.dtype, [(n,) * ASSIGNMENTS for n in shape])
    moves = reduction in ("none", "max", "min")
    extra = {} if reduction == "none" else {"reduction": reduction}
    b.node("ScatterElements", x, indices, updates, axis=axis, moves=moves, **extra)


def scatter_nd(b: Builder) -> None:
    x = _data(b)
    if x is None or not all(min(sizes) for sizes in x.axes):
        return
    depth = b.rng.randrange(1, x.rank + 1)
    rows = b.choice([1, 2, 3])
    reduction = b.choice(["none", "add", "mul", "max", "min"])
    if x.dtype == "bool" and reduction != "none":
        return
    places = np.stack([b.data.integers(0, min(sizes), rows) for sizes in x.axes[:depth]], axis=-1)
    if reduction == "none":
        places = np.unique(places, axis=0)
    rows = len(places)
    indices = at_run_time(b, [places]) if b.chance(0.4) else b.constant(places)
    updates = b.input(x.dtype, [(rows,) * ASSIGNMENTS, *x.axes[depth:]])
    extra = {} if reduction == "none" else {"reduction": reduction}
    b.node("ScatterND", x, indices, updates, moves=reduction in ("none", "max", "min"), **extra)


def gather_nd(b: Builder) -> None:
    x = _data(b)
    if x is None or not all(min(sizes) for sizes in x.axes):
        return
    batch = 1 if b.chance(0.3) and x.rank > 1 and x.fixed(0) else 0
    depth = b.rng.randrange(1, x.rank - batch + 1)
    outer = [x.axes[0][0]] if batch else []
    limits = [min(sizes) for sizes in x.axes[batch : batch + depth]]
    rows = b.choice([1, 3])
    places = np.stack([b.data.integers(-n, n, [*outer, rows]) for n in limits], axis=-1)
    indices = at_run_time(b, [places]) if b.chance(0.4) else b.constant(places)
    b.node("GatherND", x, indices, batch_dims=batch, moves=True)


def choosing(b: Builder) -> None:
    """Outputs whose sizes depend on the data."""
    x = b.operand(("float32", "int64", "bool", "int32"), (1, 2, 3), accept=lambda v: v.exact)
    if x is None:
        return
    kind = b.choice(["NonZero", "Compress", "Unique"])
    if kind == "NonZero":
        b.node("NonZero", x)
    elif kind == "Compress":
        axis = an_axis(b, x)
        keep = b.array("bool", [min(x.axes[axis])])
        condition = at_run_time(b, [keep]) if b.chance(0.5) else b.constant(keep)
        b.node("Compress", x, condition, axis=axis, moves=True)
    elif x.dtype != "bool" and all(array.size and not np.isnan(array).any() for array in x.arrays):
        extra = {"axis": an_axis(b, x)} if b.chance(0.3) else {}
        b.node("Unique", x, outputs=b.choice([1, 2, 3, 4]), sorted=1, moves=True, **extra)


def reverse_sequence(b: Builder) -> None:
    x = b.operand(ANY, (2, 3), accept=fit)
    if x is None or not (x.fixed(0) and x.fixed(1) and x.axes[0][0] and x.axes[1][0]):
        return
    time = b.choice([0, 1])
    lengths = b.data.integers(1, x.axes[time][0] + 1, x.axes[1 - time][0]).astype(np.int64)
    value = at_run_time(b, [lengths]) if b.chance(0.5) else b.constant(lengths)
    b.node("ReverseSequence", x, value, time_axis=time, batch_axis=1 - time, moves=True)


def run_time_shapes(b: Builder) -> None:
    """Slice, Expand, Tile, Pad, Reshape and Range whose numbers are inputs."""
    kind = b.choice(["Slice", "Expand", "Tile", "Pad", "Reshape", "Range"])
    if kind == "Range":
        dtype = b.choice(["int64", "int32", "float32"])
        ends = [np.array(b.choice([0, 1, 5, 9]), dtype) for _ in range(ASSIGNMENTS)]
        b.node("Range", b.constant(np.array(0, dtype)), at_run_time(b, ends), b.constant(np.array(2, dtype)))
        return
    x = _data(b)
    if x is None:
        return
    if kind == "Slice":
        axis, step = an_axis(b, x), b.choice([1, 1, 2, -1])
        start, end = (b.choice([0, 1, -2]), b.choice([3, 1 << 31, -1])) if step > 0 else (b.choice([-1, 5]), -99)
        b.node("Slice", x, *[numbers(b, n, run_time=0.7) for n in (start, end, axis, step)], moves=True)
    elif kind == "Expand":
        dims = [1 if b.chance(0.5) or not x.fixed(i) else sizes[0] for i, sizes in enumerate(x.axes)]
        b.node("Expand", x, numbers(b, *[b.choice([1, 2]), *dims], run_time=1), moves=True)
    elif kind == "Tile":
        b.node("Tile", x, numbers(b, *[b.choice([1, 1, 2]) for _ in range(x.rank)], run_time=1), moves=True)
    elif kind == "Pad" and x.dtype in ("float32", "int64", "int32", "float64"):
        amounts = [b.choice([0, 0, 1, 2]) for _ in range(2 * x.rank)]
        b.node("Pad", x, numbers(b, *amounts, run_time=1), mode=b.choice(["constant", "edge"]), moves=True)
    elif kind == "Reshape" and all(min(sizes) for sizes in x.axes):
        b.node("Reshape", x, numbers(b, 1, -1, run_time=1), moves=True)


SELECTIONS: list[Callable[[Builder], None]] = [
    top_k, scatter_elements, scatter_nd, gather_nd, choosing, reverse_sequence, run_time_shapes, run_time_shapes,
]  # fmt: skip
