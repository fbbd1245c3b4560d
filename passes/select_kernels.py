"""Replace operators by the tensor expressions that templates schedule, and pack constant weights for them.

What is packed here, and how, depends on the operator alone, never on a schedule's parameters: one weights file serves
every library of an artifact, and no tuning record changes the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.sym import Analyzer

from ..schedules import batch_matmul, conv2d, depthwise_conv2d, matmul, winograd_conv2d, winograd_plan
from ..targets import Target
from .bindings import relax_functions
from .call_kernel import call_kernel
from .constants import as_array, constant, dims_of, dtype_of, op_name, shape_of
from .explain_kernels import explain_kernel
from .select_int8_kernels import is_int8, select_int8_conv2d, select_int8_matmul

OUT_ELEMENTWISE_FUSABLE = 4
"""TVM's ``OpPatternKind``: elementwise consumers may be fused behind the kernel."""

FEW_CHANNELS = 4
"""Of an image: too few to fill vectors, so the layout in which they come is read as it is."""


@mutator
class Selector(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, target: Target):
        super().__init__(mod)
        self.target = target
        self.count = 0
        self.chosen = ""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        select = _SELECTORS.get(op_name(call))
        kernel = select(self, call) if select else None
        if select:
            explain_kernel(call, self.known(call.args[1]), self.chosen if kernel is not None else None)
        if kernel is None:
            return call
        self.count += 1
        return kernel

    def known(self, expr: relax.Expr) -> np.ndarray | None:
        bound = self.lookup_binding(expr) if isinstance(expr, relax.Var) else expr
        return None if bound is None else as_array(bound)

    def channels_first(self, expr: relax.Expr) -> relax.Expr | None:
        """What ``expr`` [N, H, W, C] was transposed from, if it was: [N, C, H, W]."""
        bound = self.lookup_binding(expr) if isinstance(expr, relax.Var) else None
        if bound is None or op_name(bound) != "relax.permute_dims" or bound.attrs.axes is None:
            return None
        return bound.args[0] if _ints(bound.attrs.axes) == [0, 2, 3, 1] else None

    def te(self, function: Callable[..., Any], *args: Any) -> relax.Expr:
        self.chosen = function.__name__
        return call_kernel(self.builder_, function, args, OUT_ELEMENTWISE_FUSABLE)


def _ints(values: Any) -> list[int]:
    return [int(value) for value in values]


def _conv2d(selector: Selector, call: relax.Call) -> relax.Expr | None:
    data, weight = call.args[0], selector.known(call.args[1])
    attrs = call.attrs
    if weight is not None and is_int8(data, weight, call):
        return select_int8_conv2d(selector, call, weight)
    if weight is None or dtype_of(data) != "float32" or (attrs.data_layout, attrs.kernel_layout) != ("NHWC", "OIHW"):
        return None
    strides, padding, dilation = _ints(attrs.strides), _ints(attrs.padding), _ints(attrs.dilation)
    groups, shape = int(attrs.groups), dims_of(data)
    out, per_group, _, kernel = weight.shape
    width = conv2d.output_size(shape[2], kernel, strides[1], dilation[1], padding[1], padding[3])
    height = conv2d.output_size(shape[1], weight.shape[2], strides[0], dilation[0], padding[0], padding[2])
    if 0 in (*shape, height, width):
        return None  # nothing to tile
    plan = None
    if groups == 1 and _is_winograd(weight, strides, dilation):
        plan = winograd_plan.plan(per_group, out, height, width, selector.target)
    if plan is not None:
        packed = constant(winograd_plan.pack(weight, plan.transform))
        sizes = (plan.transform.out, plan.tile_rows, plan.tile)
        return selector.te(winograd_conv2d.winograd_conv2d, data, packed, out, padding, *sizes)
    if groups == 1:
        tile = conv2d.pixel_tile(width, out, weight[0].size, selector.target)
        packed = constant(conv2d.pack(weight))
        first = None
        if per_group <= FEW_CHANNELS and (isinstance(shape[2], int) or not any(padding)):
            first = selector.channels_first(data)  # padding rows of an open length would take a scalar loop
        if first is not None:
            return selector.te(conv2d.conv2d, first, packed, out, strides, padding, dilation, tile, 1, True)
        flat = conv2d.flat_tile(height, width, out, weight[0].size, selector.target)
        args = (packed, out, strides, padding, dilation, flat or tile, 1, False, flat is not None)
        return selector.te(conv2d.conv2d, data, *args)
    if groups == out and per_group == 1 and groups == shape[3]:
        tile = depthwise_conv2d.pixel_tile(width, kernel, selector.target)
        packed = constant(depthwise_conv2d.pack(weight))
        return selector.te(depthwise_conv2d.depthwise_conv2d, data, packed, strides, padding, dilation, tile)
    if not isinstance(shape[3], int):
        return None
    packed = constant(conv2d.pack_grouped(weight, groups))
    tile = conv2d.pixel_tile(width, conv2d.BLOCK, weight[0].size, selector.target)
    flat = conv2d.flat_tile(height, width, conv2d.BLOCK, weight[0].size, selector.target)
    args = (packed, out, strides, padding, dilation, flat or tile, groups, False, flat is not None)
    return selector.te(conv2d.conv2d, data, *args)


def _is_winograd(weight: np.ndarray, strides: list[int], dilation: list[int]) -> bool:
    """Weights that are integers belong to quantized layers, whose sums must be exact: Winograd's transforms round."""
    if weight.shape[2:] != (3, 3) or strides != [1, 1] or dilation != [1, 1]:
        return False
    return not np.array_equal(weight, np.rint(weight))


def _matmul(selector: Selector, call: relax.Call) -> relax.Expr | None:
    left, right = call.args
    weight = selector.known(right)
    if weight is not None and is_int8(left, weight, call):
        return select_int8_matmul(selector, call, weight)
    a, b = shape_of(left), shape_of(right)
    if a is None or b is None or len(a) < 2 or len(b) < 2 or {dtype_of(left), dtype_of(right)} != {"float32"}:
        return None
    if 0 in (*a, *b):
        return None  # nothing to tile
    if weight is not None and weight.ndim == 2:
        columns = weight.shape[1]
        tile = matmul.row_tile(a[-2], columns, selector.target, weight.shape[0])
        return selector.te(matmul.matmul, left, constant(matmul.pack(weight)), columns, tile)
    if not _same_batch(a[:-2], b[:-2]):
        return None
    tile = matmul.row_tile(a[-2], b[-1] if isinstance(b[-1], int) else 2 * conv2d.BLOCK, selector.target)
    return selector.te(batch_matmul.batch_matmul, left, right, tile)


def _same_batch(left: list[Any], right: list[Any]) -> bool:
    analyzer = Analyzer()
    equal = (analyzer.can_prove_equal(x, y) for x, y in zip(left, right, strict=False))
    return not right or (len(left) == len(right) and all(equal))


_SELECTORS: dict[str, Callable[[Selector, relax.Call], relax.Expr | None]] = {
    "relax.nn.conv2d": _conv2d,
    "relax.matmul": _matmul,
}


def select_kernels(mod: tvm.IRModule, target: Target) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many operators became kernels with a template."""
    selector = Selector(mod, target)
    functions = {name: selector.visit_expr(mod[name]) for name in relax_functions(mod)}
    mod = selector.builder_.get()
    for name, function in functions.items():
        mod[name] = function
    return mod, selector.count
