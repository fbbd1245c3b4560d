"""How a tensor of heads came to be: what it is a transpose or a repetition of, so that a kernel can read that instead.

Exporters turn [batch, tokens, heads * width] into [batch, heads, tokens, width], keys once more, and where several
heads of queries share one of keys they repeat it (Unsqueeze, Expand, Reshape). None of it is arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tvm import relax
from tvm.sym import Analyzer

from ..schedules.attention import Axis, Operand, plain
from .constants import op_name, shape_of

Values = Mapping[relax.Var, relax.Expr]


def trace(expr: relax.Expr, values: Values) -> tuple[relax.Expr, Operand]:
    """(a tensor, how ``expr`` is read from it)."""
    dims = shape_of(expr)
    assert dims is not None
    operand = plain(len(dims))
    while True:
        value: Any = values.get(expr) if isinstance(expr, relax.Var) else None
        if op_name(value) == "relax.permute_dims" and value.attrs.axes is not None:
            order = [int(axis) for axis in value.attrs.axes]
            operand = tuple(operand[order.index(axis)] for axis in range(len(order)))
            expr = value.args[0]
        elif isinstance(value, relax.Var):
            expr = value
        else:
            repeated = _repeated(expr, values)
            if repeated is None or operand[repeated.axis] != Axis(operand[repeated.axis].logical):
                return expr, operand
            axis = replace(operand[repeated.axis], div=repeated.div, mod=repeated.mod)
            operand = (*operand[: repeated.axis], axis, *operand[repeated.axis + 1 :])
            expr = repeated.source


@dataclass(frozen=True)
class _Repeated:
    """Index ``i`` along ``axis`` is index ``i // div % mod`` of ``source``."""

    source: relax.Expr
    axis: int
    div: int
    mod: int | None


def _repeated(expr: relax.Expr, values: Values) -> _Repeated | None:
    """[.., K, ..] as [.., K, 1, ..], as [.., K, G, ..], as [.., K * G, ..]; or with the new axis before K."""
    merged = values.get(expr) if isinstance(expr, relax.Var) else None
    wide = _operand_of(merged, "relax.reshape", values)
    narrow = _operand_of(wide, "relax.broadcast_to", values)
    if wide is None or narrow is None or op_name(narrow) not in ("relax.reshape", "relax.expand_dims"):
        return None
    source = narrow.args[0]
    start, one, many, end = (shape_of(value) for value in (source, narrow, wide, merged))
    if start is None or one is None or many is None or end is None or len(start) != len(end):
        return None
    for axis, size in enumerate(start):
        if not isinstance(size, int) or not isinstance(end[axis], int):
            continue
        for at in (axis + 1, axis):  # where the new axis is
            group = many[at] if at < len(many) else None
            if not isinstance(group, int) or group * size != end[axis]:
                continue
            before, after = start[:at], start[at:]
            if (
                same_dims(one, [*before, 1, *after])
                and same_dims(many, [*before, group, *after])
                and same_dims(end, [*start[:axis], group * size, *start[axis + 1 :]])
            ):
                behind = at == axis + 1
                return _Repeated(source, axis, group if behind else 1, None if behind else size)
    return None


def _operand_of(value: Any, name: str, values: Values) -> Any:
    """What the operand of a call of ``name`` is bound to, None if ``value`` is no such call."""
    return values.get(value.args[0]) if op_name(value) == name and isinstance(value.args[0], relax.Var) else None


def same_dims(left: list[Any], right: list[Any]) -> bool:
    """Whether two shapes are provably one."""
    analyzer = Analyzer()
    return len(left) == len(right) and all(analyzer.can_prove_equal(a, b) for a, b in zip(left, right, strict=True))
