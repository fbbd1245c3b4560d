"""Random layers of newer opsets, losses, spectra, regions of pictures, sequences inside of a branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx.helper as oh
from graph_nodes import an_axis, exact, fit, picture
from graph_selections import at_run_time
from graphs import ASSIGNMENTS, Axis, Builder, Value

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def _same(*sizes: int) -> list[Axis]:
    return [(size,) * ASSIGNMENTS for size in sizes]


def finite(b: Builder, axes: Sequence[Axis], dtype: str = "float32") -> Value:
    """An input without NaN and infinities, whose fixed axes are known: heads, frames and channels have to be."""
    value = b.input(dtype, axes)
    for array in value.arrays:
        array[~np.isfinite(array)] = 1.0
    value.names = tuple(sizes[0] if value.fixed(i) else value.names[i] for i, sizes in enumerate(value.axes))
    return value


def newer_norms(b: Builder) -> None:
    if b.chance(0.4):
        x = picture(b, b.choice([1, 2]))
        channels = x.axes[1][0]
        if x.exact:
            scale, bias = (b.constant(b.array("float32", [channels])) for _ in range(2))
            groups = b.choice([g for g in (1, 2, 3, channels) if channels % g == 0])
            b.node("GroupNormalization", x, scale, bias, num_groups=groups, epsilon=1e-3)
        return
    dtype = b.choice(["float32", "float32", "float64", "float16"])
    x = b.operand((dtype,), (1, 2, 3), accept=lambda v: v.fixed(v.rank - 1) and v.exact)
    if x is not None:
        scale = b.constant(b.array(dtype, [x.axes[-1][0]]))
        b.node("RMSNormalization", x, scale, axis=-1, epsilon=1e-3)


def small(b: Builder) -> None:
    """Operators of one tensor that no other family draws."""
    op = b.choice(["Swish", "BitwiseNot", "CastLike", "Det", "Dropout", "GlobalLpPool", "ReduceLogSum"])
    if op == "Swish":
        x = b.operand(("float32", "float64"))
        if x is not None:
            b.node(op, x, alpha=b.choice([1.0, 1.702, 0.5]))
    elif op == "BitwiseNot":
        x = b.operand(("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
        if x is not None:
            b.node(op, x)
    elif op == "CastLike":
        x = b.operand(("float32", "int64", "int32", "uint8", "bool"), accept=fit)
        like = b.operand(("float32", "float64", "float16"))
        if x is not None and like is not None:
            b.node(op, x, like, moves=like.dtype != "float16")
    elif op == "Det":
        side, outer = b.choice([1, 2, 3]), [b.axis()] if b.chance(0.5) else []
        b.node(op, finite(b, [*outer, *_same(side, side)]))
    elif op == "Dropout":
        x = b.operand(("float32", "float64"), accept=fit)
        if x is not None:
            b.node(op, x, outputs=b.choice([1, 2]), moves=True)
    elif op == "GlobalLpPool":
        x = picture(b, b.choice([1, 2]))
        if x.exact:
            b.node(op, x, p=b.choice([1, 2]))
    elif op == "ReduceLogSum":
        x = b.operand(("float32",), (1, 2, 3), accept=lambda v: exact(v) and all((a > 0.1).all() for a in v.arrays))
        if x is not None:
            b.node(op, x, b.ints(an_axis(b, x)), keepdims=b.choice([0, 1]))


def losses(b: Builder) -> None:
    classes, rest = b.choice([1, 3, 5, 17]), [b.axis()] if b.chance(0.4) else []
    scores = finite(b, [b.axis(), *_same(classes), *rest])
    shape = [scores.axes[0], *rest]
    target = b.input(b.choice(["int64", "int32"]), shape)
    target.arrays[:] = [b.data.integers(0, classes, a.shape).astype(a.dtype) for a in target.arrays]
    b.pool.remove(target)
    weight = [b.constant(b.array("float32", [classes], 0.2, 2))] if b.chance(0.4) else []
    extra = {"ignore_index": b.rng.randrange(classes)} if b.chance(0.3) else {}
    reduction = b.choice(["none", "mean", "sum"])
    if b.chance(0.5):
        b.node("NegativeLogLikelihoodLoss", scores, target, *weight, reduction=reduction, **extra)
    else:
        outputs = b.choice([1, 2])
        b.node("SoftmaxCrossEntropyLoss", scores, target, *weight, outputs=outputs, reduction=reduction, **extra)


def spectra(b: Builder) -> None:
    if b.chance(0.5):
        length, step = b.choice([4, 8, 15, 16]), b.choice([2, 5, 8])
        signal = finite(b, [b.axis(), *_same(length + b.choice([0, 3, 17]), 1)])
        window = b.constant(b.array("float32", [length], 0.2, 1))
        steps, size = (b.constant(np.array(n, np.int64)) for n in (step, length))
        b.node("STFT", signal, steps, window, size, onesided=b.choice([0, 1]))
        return
    axes = [b.axis(), *_same(b.choice([1, 2, 5, 8, 12]), b.choice([1, 2]))]
    inverse = b.choice([0, 0, 1])
    one_sided = b.choice([0, 1]) if axes[-1][0] == 1 and not inverse else 0
    b.node("DFT", finite(b, axes), None, b.constant(np.array(1, np.int64)), inverse=inverse, onesided=one_sided)


def attention(b: Builder) -> None:
    heads, head, width = b.choice([1, 2, 4]), b.choice([1, 4, 8, 17]), b.choice([4, 8, 16])
    batch, rows, keys = b.axis(), b.axis(), b.axis()
    groups = b.choice([h for h in (1, heads) if heads % h == 0])
    if b.chance(0.3):
        x = finite(b, [batch, *_same(heads), rows, *_same(width)])
        if len(set(rows)) == 1:
            cos, sin = (b.constant(b.array("float32", [rows[0] + 3, width // 2], -1, 1)) for _ in range(2))
            at = b.input("int64", [batch, rows])
            at.arrays[:] = [b.data.integers(0, rows[0] + 3, a.shape) for a in at.arrays]
            b.pool.remove(at)
            b.node("RotaryEmbedding", x, cos, sin, at, interleaved=b.choice([0, 1]))
        return
    q = finite(b, [batch, *_same(heads), rows, *_same(head)])
    k = finite(b, [batch, *_same(groups), keys, *_same(head)])
    v = finite(b, [batch, *_same(groups), keys, *_same(width)])
    if not all(array.size for value in (q, k, v) for array in value.arrays):
        return
    mask = [finite(b, [rows, keys])] if b.chance(0.4) else []
    extra = {"softcap": 2.0} if b.chance(0.2) else {"scale": 0.3} if b.chance(0.3) else {}
    b.node("Attention", q, k, v, *mask, is_causal=0 if mask else b.choice([0, 1]), **extra)


def regions(b: Builder) -> None:
    kind = b.choice(["RoiAlign", "MaxRoiPool", "GridSample", "AffineGrid", "Col2Im", "NonMaxSuppression", "DeformConv"])
    if kind == "AffineGrid":
        sides = b.ints(2, 1, b.choice([1, 3, 5]), b.choice([2, 4]))
        b.node(kind, finite(b, _same(2, 2, 3)), sides, align_corners=b.choice([0, 1]))
    elif kind == "Col2Im":
        x = finite(b, [b.axis(), *_same(2 * 4, 12)])
        b.node(kind, x, b.ints(4, 5), b.ints(2, 2))
    elif kind == "NonMaxSuppression":
        _boxes(b)
    else:
        x = picture(b, 2)
        if not x.exact or not x.fixed(0) or not x.axes[0][0]:
            return
        if kind == "GridSample":
            grid = finite(b, [x.axes[0], b.axis(), *_same(b.choice([1, 3]), 2)])
            mode, padding = b.choice(["linear", "nearest", "cubic"]), b.choice(["zeros", "border", "reflection"])
            b.node(kind, x, grid, mode=mode, padding_mode=padding, align_corners=b.choice([0, 1]))
        elif kind == "DeformConv":
            _deformed(b, x)
        elif x.fixed(2) and x.fixed(3):
            _rois(b, x, kind)


def _rois(b: Builder, x: Value, kind: str) -> None:
    count, images = b.choice([0, 1, 4]), x.axes[0][0]
    corners = np.sort(b.data.uniform(0, min(x.axes[2][0], x.axes[3][0]), (count, 2, 2)), axis=1)
    rois = corners.reshape(count, 4).astype(np.float32)
    which = b.data.integers(0, images, count)
    if kind == "MaxRoiPool":
        whole = np.concatenate([which[:, None], np.round(rois)], axis=1).astype(np.float32)
        b.node(kind, x, at_run_time(b, [whole]), pooled_shape=[2, 1], moves=True)
        return
    transform = b.choice(["half_pixel", "output_half_pixel"])
    b.node(kind, x, at_run_time(b, [rois]), at_run_time(b, [which]), mode="avg", output_height=2, output_width=3,
           sampling_ratio=b.choice([0, 1, 2]), coordinate_transformation_mode=transform)  # fmt: skip


def _deformed(b: Builder, x: Value) -> None:
    channels, (height, width) = x.axes[1][0], (x.axes[2], x.axes[3])
    if not (len(set(height)) == len(set(width)) == 1) or min(height[0], width[0]) < 2:
        return
    sides = (height[0] - 1, width[0] - 1)
    offset = finite(b, _same(x.axes[0][0], 8, *sides))
    weight = b.constant(b.array("float32", [b.choice([1, 3]), channels, 2, 2], -1, 1))
    b.node("DeformConv", x, weight, offset, kernel_shape=[2, 2])


def _boxes(b: Builder) -> None:
    count, classes = b.choice([1, 2, 7, 17]), b.choice([1, 3])
    low = b.data.integers(0, 8, (1, count, 2))
    boxes = np.concatenate([low, low + b.data.integers(1, 6, (1, count, 2))], axis=2).astype(np.float32)
    scores = b.data.permutation(count * classes).reshape(1, classes, count).astype(np.float32) / 64
    most, iou, least = np.array([b.choice([0, 1, 3, 99])]), np.float32([b.choice([0.0, 0.3, 0.55])]), np.float32([0.1])
    given = [at_run_time(b, [a]) for a in (boxes, scores)]
    limits = [b.constant(a) for a in (most, iou, least)]
    b.node("NonMaxSuppression", *given, *limits, center_point_box=b.choice([0, 0, 1]))


def in_sequences(b: Builder) -> None:
    """One branch cuts, reorders and joins, the other does nothing."""
    x = b.operand(("float32", "int64"), (1, 2, 3), accept=fit)
    if x is None:
        return
    axis = b.rng.randrange(x.rank)
    if not all(x.fixed(i) and x.axes[i][0] for i in range(x.rank)):
        return
    p, element = b.name("q"), oh.np_dtype_to_tensor_dtype(x.arrays[0].dtype)
    nodes = [
        oh.make_node("SplitToSequence", [x.name], [f"{p}s"], axis=axis, keepdims=1),
        oh.make_node("SequenceAt", [f"{p}s", f"{p}last"], [f"{p}e"]),
        oh.make_node("SequenceInsert", [f"{p}s", f"{p}e", f"{p}zero"], [f"{p}t"]),
        oh.make_node("SequenceErase", [f"{p}t", f"{p}last"], [f"{p}u"]),
        oh.make_node("ConcatFromSequence", [f"{p}u"], [f"{p}y"], axis=axis),
    ]
    numbers = [oh.make_tensor(f"{p}{name}", INT64, [], [value]) for name, value in (("last", -1), ("zero", 0))]
    dims = [axis[0] for axis in x.axes]
    cut = oh.make_graph(nodes, f"{p}then", [], [oh.make_tensor_value_info(f"{p}y", element, dims)], numbers)
    kept = [oh.make_node("Identity", [x.name], [f"{p}z"])]
    plain = oh.make_graph(kept, f"{p}else", [], [oh.make_tensor_value_info(f"{p}z", element, dims)])
    condition = at_run_time(b, [np.array(b.chance(0.7)) for _ in range(ASSIGNMENTS)])
    b.node("If", condition, captures=[x], moves=True, then_branch=cut, else_branch=plain)


def doubles(b: Builder) -> None:
    """float64 through the layers that usually see float32."""
    x = picture(b, b.choice([1, 2, 2]))
    made = b.node("Cast", x, to=onnx.TensorProto.DOUBLE, moves=True)
    if not made:
        return
    wide, channels, spatial = made[0], x.axes[1][0], x.rank - 2
    kind = b.choice(["conv", "transposed", "pool", "batch", "layer"])
    kernel = [1 if min(axis) < 2 else 2 for axis in x.axes[2:]]
    if kind in ("conv", "transposed"):
        out = b.choice([1, 3, 16])
        shape = [out, channels, *kernel] if kind == "conv" else [channels, out, *kernel]
        weight = b.constant(b.array("float64", shape, -1, 1))
        b.node("Conv" if kind == "conv" else "ConvTranspose", wide, weight, kernel_shape=kernel)
    elif kind == "pool":
        b.node(b.choice(["MaxPool", "AveragePool"]) if spatial == 2 else "AveragePool", wide, kernel_shape=kernel)
    elif kind == "batch":
        scale = b.array("float64", [channels], 0.5, 2)
        b.node("BatchNormalization", wide, *[b.constant(a) for a in (scale, scale - 1, scale - 1.5, scale + 0.1)])
    elif wide.exact and wide.fixed(wide.rank - 1):
        scale = b.array("float64", [wide.axes[-1][0]])
        b.node("LayerNormalization", wide, b.constant(scale), axis=-1, epsilon=1e-3)


LAYERS: list[Callable[[Builder], None]] = [
    newer_norms, small, small, losses, spectra, attention, regions, regions, in_sequences, doubles,
]  # fmt: skip
