"""How random nodes are drawn: one function per family of operators, each adding a node (or a few) to a ``Builder``."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx.helper as oh
from graphs import ASSIGNMENTS, Builder, Graph, Value
from hypothesis import strategies as st

FLOATS = ("float32", "float32", "float32", "float32", "float64")
INTS = ("int64", "int32")
NUMBERS = (*FLOATS, "float32", "int64", "int32", "float16")
ANY = (*NUMBERS, *NUMBERS, "bool", "bool", "uint8", "int8", "int16", "uint16", "uint32", "uint64")
RARE_REDUCED = ("uint8", "int8", "bool", "uint32", "uint64")
SMOOTH = (
    "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Erf", "Softplus", "Softsign", "Sin", "Cos", "Tan", "Atan", "Sinh",
    "Cosh", "Asinh", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Celu", "Gelu", "Mish", "Relu",
    "Identity", "Sigmoid", "Relu",
)  # fmt: skip
ANY_RANGE = ("Log", "Sqrt", "Reciprocal", "Asin", "Acos", "Acosh", "Atanh")
STEPS = ("Floor", "Ceil", "Round", "Sign", "ThresholdedRelu", "IsNaN", "IsInf")
COMPARISONS = ("Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual")
REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
    "ReduceSumSquare", "ReduceLogSum",
)  # fmt: skip


def exact(value: Value) -> bool:
    return value.exact


def fit(value: Value) -> bool:
    """float16 results are not taken further: their errors would reach the tolerance."""
    return value.exact or value.dtype != "float16"


def an_axis(b: Builder, value: Value) -> int:
    axis = b.rng.randrange(value.rank)
    return axis - value.rank if b.chance(0.4) else axis


def unary(b: Builder) -> None:
    kind = b.choice(["smooth", "smooth", "any", "steps"])
    if kind == "smooth":
        x, op = b.operand(FLOATS), b.choice(SMOOTH)
    elif kind == "any":
        x, op = b.operand(FLOATS, accept=exact), b.choice(ANY_RANGE)
    else:
        x, op = b.operand(FLOATS, accept=exact), b.choice(STEPS)
    if x is not None:
        b.node(op, x, moves=op in ("Identity", "Relu", "Neg", "Abs"))


def integer_unary(b: Builder) -> None:
    x = b.operand(INTS)
    if x is not None:
        b.node(b.choice(["Neg", "Abs", "Sign", "Relu"]), x)


def binary(b: Builder) -> None:
    op = b.choice(["Add", "Sub", "Mul", "Mul", "Add", "Div", "Max", "Min", "Pow", "Mod"])
    dtypes = ("float32", "float32", "int64", "int32") if op in ("Pow", "Mod") else NUMBERS
    strict = op in ("Div", "Pow", "Mod")
    x = b.operand(dtypes, accept=exact if strict else fit)
    if x is None:
        return
    y = b.partner(x)
    if not fit(y) or (strict and not y.exact):
        return
    if op in ("Div", "Mod") and x.dtype in INTS and not all(a.all() for a in y.arrays):
        y = b.constant(np.array(b.choice([-3, 2, 5]), x.dtype))  # an integer division by zero has no answer
    if op == "Pow" and x.dtype in INTS:
        y = b.constant(np.array(b.choice([0, 1, 2, 3]), x.dtype))
    attributes = {"fmod": 1} if op == "Mod" and (x.dtype == "float32" or b.chance(0.3)) else {}
    inputs = (x, y) if op == "Pow" or b.chance(0.7) or strict else (y, x)
    b.node(op, *inputs, moves=op in ("Max", "Min"), **attributes)


def variadic(b: Builder) -> None:
    x = b.operand()
    if x is not None:
        op = b.choice(["Sum", "Mean", "Max", "Min"])
        b.node(op, *[x, b.partner(x), b.partner(x)][: b.choice([1, 2, 3])], moves=op in ("Max", "Min"))


def clip(b: Builder) -> None:
    x = b.operand(("float32", "float32", "int64", "int32", "float64", "float16"))
    if x is None:
        return
    kind = np.dtype(x.dtype)
    low = b.choice([None, b.constant(np.array(-1, kind)), b.input(x.dtype, [])])
    high = b.choice([None, b.constant(np.array(2, kind))])
    b.node("Clip", x, *([low, high] if high or b.chance(0.5) else [low] if low else []), moves=True)


def where(b: Builder) -> None:
    x = b.operand(ANY)
    if x is not None:
        b.node("Where", b.partner(x, "bool"), x, b.partner(x), moves=True)


def compare_values(b: Builder) -> None:
    x = b.operand(("float32", "int64", "int32"), accept=exact)
    if x is not None:
        y = b.partner(x)
        if y.exact:
            b.node(b.choice(COMPARISONS), x, y)


def logic(b: Builder) -> None:
    x = b.operand(("bool",))
    if x is not None:
        if b.chance(0.2):
            b.node("Not", x)
        else:
            b.node(b.choice(["And", "Or", "Xor"]), x, b.partner(x))


def cast(b: Builder) -> None:
    x = b.operand(ANY)
    if x is None:
        return
    to = b.choice([*ANY, "float32", "int64"])
    whole = to[0] in "iub"
    if whole and x.dtype.startswith("float") and not (x.exact and all(np.isfinite(a).all() for a in x.arrays)):
        return  # rounding errors could cross a step; NaN and infinity are no integers
    if to[0] == "u" and any((a < 0).any() for a in x.arrays if a.dtype.kind in "if"):
        return
    b.node("Cast", x, to=int(_onnx_type(to)), moves=to in ("float64", "float32") or x.dtype == to)


def _onnx_type(name: str) -> int:
    return oh.np_dtype_to_tensor_dtype(np.dtype(name))


def reduce(b: Builder) -> None:
    x = b.operand((*FLOATS, *FLOATS, "int64", "int32", "int64", "int32", *RARE_REDUCED), (1, 2, 3, 4))
    if x is None:
        return
    op = b.choice(REDUCTIONS if x.dtype.startswith("float") else REDUCTIONS[:4])
    if x.dtype in RARE_REDUCED:
        op = b.choice(["ReduceMax", "ReduceMin"] if x.dtype in RARE_REDUCED[:3] else ["ReduceSum"])
    if op == "ReduceLogSum" and not all((a > 0.1).all() for a in x.arrays):
        op = "ReduceSum"
    axes = sorted(b.rng.sample(range(x.rank), b.rng.randrange(1, x.rank + 1)))
    axes = [axis - x.rank if b.chance(0.3) else axis for axis in axes]
    if op == "ReduceProd" and max(array.size for array in x.arrays) > 64:
        return  # partial products reach 0 and infinity, which ones depends on the order
    keep = b.choice([0, 1])
    inputs = [x] if b.chance(0.15) else [x, b.ints(*axes)]
    b.node(op, *inputs, keepdims=keep, moves=op in ("ReduceMax", "ReduceMin"))


def arg_reduce(b: Builder) -> None:
    x = b.operand(
        ("float32", "int64"), (1, 2, 3), accept=lambda v: exact(v) and not any(np.isnan(a).any() for a in v.arrays)
    )
    if x is not None:
        op = b.choice(["ArgMax", "ArgMin"])
        b.node(op, x, axis=an_axis(b, x), keepdims=b.choice([0, 1]), select_last_index=b.choice([0, 0, 1]))


def softmax(b: Builder) -> None:
    x = b.operand(FLOATS, (1, 2, 3, 4))
    if x is not None:
        b.node(b.choice(["Softmax", "Softmax", "LogSoftmax"]), x, axis=an_axis(b, x))


def matmul(b: Builder) -> None:
    x = b.operand(("float32", "float32", "float32", "float64", "int32"), (1, 2, 2, 3, 3, 4))
    if x is None:
        return
    inner, width = x.axes[-1], b.axis(0.2)
    if b.chance(0.6) and len(set(inner)) == 1 and len(set(width)) == 1:
        batch = [] if b.chance(0.8) else [a[0] for a in x.axes[:-2] if len(set(a)) == 1]
        y = b.constant(b.array(x.dtype, [*batch, inner[0], width[0]], -1, 1))
    else:
        batch = [a if b.chance(0.7) else (1,) * ASSIGNMENTS for a in x.axes[:-2]][b.rng.randrange(max(1, x.rank - 1)) :]
        y = b.input(x.dtype, [inner] if b.chance(0.1) else [*batch, inner, width])
    made = b.node("MatMul", x, y)
    if made and b.chance(0.5):
        out = made[0]
        if out.rank and out.fixed(out.rank - 1):
            made = b.node("Add", out, b.constant(b.array(x.dtype, [out.axes[-1][0]])))
        if made and x.dtype == "float32":
            b.node(b.choice(["Relu", "Sigmoid", "Gelu"]), made[0])


def gemm(b: Builder) -> None:
    x = b.operand(("float32",), (2,))
    if x is None:
        return
    trans_a, trans_b = b.choice([0, 0, 1]), b.choice([0, 1])
    inner, rows, width = x.axes[0 if trans_a else 1], x.axes[1 if trans_a else 0], b.axis(0.1)
    shape = [width, inner] if trans_b else [inner, width]
    known = all(len(set(axis)) == 1 for axis in shape)
    y = (
        b.constant(b.array("float32", [a[0] for a in shape], -1, 1))
        if known and b.chance(0.7)
        else b.input("float32", shape)
    )
    inputs = [x, y]
    if b.chance(0.7):
        bias = b.choice([[width], [(1,) * ASSIGNMENTS, width], [rows, width], [rows, (1,) * ASSIGNMENTS], []])
        fixed = all(len(set(a)) == 1 for a in bias)
        inputs.append(
            b.constant(b.array("float32", [a[0] for a in bias]))
            if fixed and b.chance(0.6)
            else b.input("float32", bias)
        )
    extra = {"alpha": 0.5, "beta": 2.0} if b.chance(0.3) else {}
    b.node("Gemm", *inputs, transA=trans_a, transB=trans_b, **extra)


def picture(b: Builder, spatial: int, channels: int | None = None, infinities: bool = False) -> Value:
    """A value of shape (batch, channels, *spatial) with fixed channels, and finite or without NaN.

    Convolutions carry NaN and infinities over to neighbours: a limit that is known. What a NaN does to MaxPool, ONNX
    leaves open.
    """
    fits = (lambda array: not np.isnan(array).any()) if infinities else (lambda array: np.isfinite(array).all())
    fitting = [v for v in b.pool if v.dtype == "float32" and v.rank == spatial + 2 and v.fixed(1) and v.axes[1][0]]
    fitting = [v for v in fitting if all(fits(array) for array in v.arrays)]
    if channels is None and fitting and b.chance(0.6):
        return b.choice(fitting)
    count = channels or b.choice([1, 2, 3, 4, 6, 8, 16, 17])
    sides = [(b.choice([1, 3, 5, 7, 8, 9, 11]),) * ASSIGNMENTS for _ in range(spatial)]
    if b.chance(0.3):
        sides = [tuple(b.choice([3, 5, 7, 8, 9]) for _ in range(ASSIGNMENTS)) for _ in range(spatial)]
    batch = b.axis(0.5) if b.chance(0.7) else (1,) * ASSIGNMENTS
    value = b.input("float32", [batch, (count,) * ASSIGNMENTS, *sides])
    for array in value.arrays:
        array[np.isnan(array) if infinities else ~np.isfinite(array)] = 1.0
        if infinities and b.chance(0.1):
            array[..., : b.choice([1, 2, 5])] = -np.inf
    return value


def _window(b: Builder, x: Value, most_pad: int = 3, beyond: int = 0) -> dict:
    """A window that fits into ``x``. With ``beyond`` some may lie in the padding alone: for pools, ONNX leaves the
    answer open there."""
    sides = [min(axis) for axis in x.axes[2:]]
    kernel = [b.choice([k for k in (1, 2, 3, 3, 5) if k <= max(1, side)]) for side in sides]
    attributes: dict = {"kernel_shape": kernel}
    if b.chance(0.5):
        attributes["strides"] = [b.choice([1, 2, 3]) for _ in kernel]
    if b.chance(0.6):
        attributes["pads"] = [b.rng.randrange(min(most_pad, k + beyond)) for k in kernel * 2]
    elif b.chance(0.2):
        mode = b.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        # Strides past the window would mean less than no padding, which the evaluator takes and ONNX Runtime refuses.
        steps = attributes.get("strides", [1] * len(kernel))
        attributes["auto_pad"] = mode if all(s <= k for s, k in zip(steps, kernel, strict=True)) else "VALID"
    if b.chance(0.25):
        attributes["dilations"] = [
            b.choice([1, 2]) if 2 * k - 1 <= side else 1 for k, side in zip(kernel, sides, strict=True)
        ]
    return attributes


def _weight(b: Builder, shape: list[int]) -> Value:
    array = b.array("float32", shape, -1, 1)
    if b.chance(0.85):
        return b.constant(array)
    value = b.input("float32", [(n,) * ASSIGNMENTS for n in shape])
    value.names = tuple(shape)  # a weight's shape has to be known
    for numbers in value.arrays:
        numbers[~np.isfinite(numbers)] = 1.0
    return value


def conv(b: Builder) -> None:
    x = picture(b, b.choice([1, 2, 2]))
    channels = x.axes[1][0]
    groups = b.choice([g for g in (1, 1, 2, 3, 4, channels) if channels % g == 0])
    out = groups * b.choice([1, 1, 2, 3, 5, 16])
    window = _window(b, x, beyond=2 if b.chance(0.1) else 0)
    inputs = [x, _weight(b, [out, channels // groups, *window["kernel_shape"]])]
    if b.chance(0.5):
        inputs.append(_weight(b, [out]))
    made = b.node("Conv", *inputs, group=groups, **window)
    if made and b.chance(0.3):
        scale = b.array("float32", [out], 0.5, 2)
        b.node("BatchNormalization", made[0], *[b.constant(a) for a in (scale, scale - 1, scale - 1.5, scale + 0.1)])
    elif made and b.chance(0.4):
        b.node(b.choice(["Relu", "HardSwish", "Sigmoid"]), made[0])


def conv_transpose(b: Builder) -> None:
    x = picture(b, b.choice([1, 2, 2]))
    channels = x.axes[1][0]
    groups = b.choice([g for g in (1, 1, 1, 2, channels) if channels % g == 0])
    window = _window(b, x, 2)
    window.pop("auto_pad", None)
    if b.chance(0.3) and "strides" in window:
        window["output_padding"] = [min(1, s - 1) for s in window["strides"]]
    out = b.choice([1, 2, 3, 5])
    inputs = [x, _weight(b, [channels, out, *window["kernel_shape"]])]
    if b.chance(0.5):
        inputs.append(_weight(b, [out * groups]))
    b.node("ConvTranspose", *inputs, group=groups, **window)


def pool(b: Builder) -> None:
    spatial = b.choice([1, 2, 2])
    x = picture(b, spatial, infinities=spatial == 2)  # the evaluator errs over one axis, ONNX Runtime with -inf
    if b.chance(0.2):
        b.node(b.choice(["GlobalAveragePool", "GlobalMaxPool"] if spatial == 2 else ["GlobalAveragePool"]), x)
        return
    op = b.choice(["MaxPool", "AveragePool"])
    window = _window(b, x, 2)
    if "dilations" in window and "auto_pad" in window:
        window["auto_pad"] = "VALID"  # the evaluator's SAME padding overlooks dilations
    if b.chance(0.3) and "auto_pad" not in window:
        window["ceil_mode"] = 1
    if op == "AveragePool":
        window["count_include_pad"] = b.choice([0, 1])
    b.node(op, x, **window, moves=op == "MaxPool")


def normalization(b: Builder) -> None:
    kind = b.choice(["batch", "layer", "instance", "lp", "lrn"])
    if kind == "layer":
        x = b.operand(("float32",), (1, 2, 3), accept=lambda v: v.fixed(v.rank - 1) and v.exact)
        if x is not None:
            axis = -1 if x.rank < 2 or not x.fixed(x.rank - 2) else b.choice([-1, -2])
            shape = [a[0] for a in x.axes[axis:]]
            inputs = [x, b.constant(b.array("float32", shape)), b.constant(b.array("float32", shape))]
            b.node("LayerNormalization", *inputs[: b.choice([2, 3])], axis=axis, epsilon=b.choice([1e-5, 1e-3]))
        return
    x = picture(b, b.choice([1, 2]))
    scale = b.array("float32", [x.axes[1][0]], 0.5, 2)
    if kind == "batch":
        b.node("BatchNormalization", x, *[b.constant(a) for a in (scale, scale - 1, scale - 1.5, scale + 0.1)])
    elif kind == "instance" and x.exact:
        b.node("InstanceNormalization", x, b.constant(scale), b.constant(scale - 1), epsilon=1e-3)
    elif kind == "lp" and x.exact:
        b.node("LpNormalization", x, axis=an_axis(b, x), p=b.choice([1, 2]))
    elif kind == "lrn":
        b.node("LRN", x, size=b.choice([1, 3, 5]))


def image_shapes(b: Builder) -> None:
    if b.chance(0.4):
        x = picture(b, 2, b.choice([4, 8]))
        b.node("DepthToSpace", x, blocksize=2, mode=b.choice(["DCR", "CRD"]), moves=True)
        return
    if b.chance(0.3):
        b.node("SpaceToDepth", picture(b, 2), blocksize=b.choice([1, 2]), moves=True)
        return
    x = picture(b, 2)
    mode = b.choice(["nearest", "linear", "linear", "cubic"])
    where = b.choice(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    extra = {"nearest_mode": b.choice(["floor", "ceil", "round_prefer_floor"])} if mode == "nearest" else {}
    scales = [1.0, 1.0, b.choice([0.5, 1.0, 2.0, 3.0]), b.choice([0.5, 1.0, 2.0, 1.5])]
    b.node(
        "Resize",
        x,
        None,
        b.constant(np.array(scales, np.float32)),
        mode=mode,
        coordinate_transformation_mode=where,
        **extra,
    )


FAMILIES: list[Callable[[Builder], None]] = [
    unary, unary, integer_unary, binary, binary, binary, variadic, clip, where, compare_values, logic, cast, reduce,
    reduce, arg_reduce, softmax, matmul, matmul, gemm, conv, conv, conv_transpose, pool, normalization, image_shapes,
]  # fmt: skip


def draw_graph(rng: random.Random, components: int = 5, longest: int = 8) -> Graph:
    """Several components of 1 to ``longest`` nodes each; they meet by chance, as later ones use earlier values."""
    from graph_contrib import CONTRIB
    from graph_control import CONTROL
    from graph_layers import LAYERS
    from graph_moves import MOVES
    from graph_quantized import QUANTIZED
    from graph_selections import SELECTIONS

    b = Builder(rng)
    families = FAMILIES + MOVES + SELECTIONS + QUANTIZED + CONTROL + LAYERS + CONTRIB
    for _ in range(components):
        size, before = rng.randrange(1, longest + 1), len(b.graph.nodes)
        for _ in range(4 * size):
            if len(b.graph.nodes) - before >= size:
                break
            b.choice(families)(b)
        if b.chance(0.5):
            b.pool.clear()  # the next component starts anew
    return b.finish()


def graphs(components: int = 5) -> st.SearchStrategy[Graph]:
    """The graphs as a hypothesis strategy."""
    drawn = st.builds(draw_graph, st.randoms(use_true_random=False), st.just(components))
    return drawn.filter(lambda graph: bool(graph.outputs))
