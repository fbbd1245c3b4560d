"""Einsum. https://onnx.ai/onnx/operators/onnx__Einsum.html

Operands are contracted two at a time from the left; each contraction is a transpose, a batched matmul and a transpose
back, so that it runs on the same kernels as MatMul.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import relax, te, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import same_dim
from ..values import PrimExpr, Value, as_int, rank, tensor_dtype, tensor_shape
from .elementwise import multiply
from .matmul import matmul
from .precision import cast_to, widened
from .reduce import total
from .shape import product


@dataclass(frozen=True)
class Term:
    """A tensor whose axes bear labels, each at most once."""

    labels: str
    value: relax.Expr


@converter("Einsum", since=12)
def einsum(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    terms, result = parse(node.attr("equation"), [rank(value) for value in inputs])
    sizes = _sizes(ctx, terms, inputs)
    parts = [_diagonal(ctx, labels, widened(ctx, value)) for labels, value in zip(terms, inputs, strict=True)]
    current = parts[0]
    for i, part in enumerate(parts[1:], 1):
        later = set(result).union(*(set(other.labels) for other in parts[i + 1 :]))
        current = _contract(ctx, current, part, later, sizes)
    current = _summed(ctx, current, set(result))
    return cast_to(ctx, _transposed(ctx, current, result), tensor_dtype(inputs[0]))


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Labels of each operand and of the result; an ellipsis becomes labels of its own.

    Raises ConversionError for an equation that doesn't fit the operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ConversionError(f"equation {equation!r} has {len(terms)} operands, the node {len(ranks)}")
    free = [label for label in string.ascii_letters if label not in equation]
    widest = max(
        (count - len(term.replace("...", "")) for term, count in zip(terms, ranks, strict=True) if "..." in term),
        default=0,
    )
    dots = "".join(free[:widest])
    expanded = [_expanded(term, count, dots, equation) for term, count in zip(terms, ranks, strict=True)]
    if arrow:
        return expanded, right.replace("...", dots)
    once = [label for label in sorted(set("".join(expanded)) - set(dots)) if "".join(expanded).count(label) == 1]
    return expanded, dots + "".join(once)


def _expanded(term: str, count: int, dots: str, equation: str) -> str:
    width = count - len(term.replace("...", ""))
    if width < 0 or (width > 0 and "..." not in term):
        raise ConversionError(f"operand {term!r} of equation {equation!r} has {count} dims")
    return term.replace("...", dots[len(dots) - width :])


def _sizes(ctx: Context, terms: Sequence[str], inputs: Sequence[Value]) -> Mapping[str, PrimExpr]:
    """Each label's size; the sizes of all axes that bear it must agree."""
    dims: dict[str, list[PrimExpr]] = {}
    for labels, value in zip(terms, inputs, strict=True):
        for label, dim in zip(labels, tensor_shape(value), strict=True):
            dims.setdefault(label, []).append(dim)
    # A dim of 1 broadcasts, as in the ellipsis of operands with different batches.
    return {
        label: same_dim(ctx, [dim for dim in found if as_int(dim) != 1] or found, f"sizes of {label!r}")
        for label, found in dims.items()
    }


def _diagonal(ctx: Context, labels: str, value: relax.Expr) -> Term:
    """Axes with the same label become one that runs along their diagonal; axes of 1 that others broadcast stay."""
    unique = "".join(dict.fromkeys(labels))
    if unique == labels:
        return Term(labels, value)
    axes = [labels.index(label) for label in unique]

    def diagonal(data: te.Tensor) -> te.Tensor:
        def element(*index: tirx.Var) -> PrimExpr:
            place = dict(zip(unique, index, strict=True))
            return data(*(place[label] for label in labels))

        return te.compute([data.shape[axis] for axis in axes], element, name="diagonal")

    return Term(unique, ctx.te(diagonal, value))


def _summed(ctx: Context, term: Term, keep: set[str]) -> Term:
    """Sum over the labels that nothing else needs."""
    axes = [axis for axis, label in enumerate(term.labels) if label not in keep]
    labels = "".join(label for label in term.labels if label in keep)
    return Term(labels, total(ctx, term.value, axes, False)) if axes else term


def _transposed(ctx: Context, term: Term, labels: str) -> relax.Expr:
    if set(term.labels) != set(labels):
        raise ConversionError(f"labels {labels!r} of the result are not those of the operands, {term.labels!r}")
    if term.labels == labels:
        return term.value
    return ctx.emit(relax.op.permute_dims(term.value, [term.labels.index(label) for label in labels]))


def _contract(ctx: Context, a: Term, b: Term, later: set[str], sizes: Mapping[str, PrimExpr]) -> Term:
    """One term from two: labels in both are batches if needed later, else summed over."""
    a = _summed(ctx, a, later | set(b.labels))
    b = _summed(ctx, b, later | set(a.labels))
    stretched = _stretched(ctx, a, b, later)
    a, b = (_summed(ctx, term, set(term.labels) - stretched) for term in (a, b))
    shared = [label for label in a.labels if label in b.labels]
    batch = "".join(label for label in shared if label in later)
    inner = "".join(label for label in shared if label not in later)
    rows = "".join(label for label in a.labels if label not in shared)
    columns = "".join(label for label in b.labels if label not in shared)
    if not inner:
        return _outer(ctx, a, b, batch + rows + columns)

    def matrix(term: Term, order: Sequence[str]) -> relax.Expr:
        value = _transposed(ctx, term, "".join(order))
        own = dict(zip("".join(order), tensor_shape(value), strict=True))
        heads = [own[label] for label in batch]
        tails = [ctx.simplify(product([own[label] for label in group])) for group in order[1:]]
        return ctx.tensor(ctx.reshape(value, [*heads, *tails]))

    result = matmul(ctx, matrix(a, [batch, rows, inner]), matrix(b, [batch, inner, columns]))
    shape = [*tensor_shape(result)[: len(batch)], *(sizes[label] for label in rows + columns)]
    return Term(batch + rows + columns, ctx.tensor(ctx.reshape(result, shape)))


def _stretched(ctx: Context, a: Term, b: Term, later: set[str]) -> set[str]:
    """Labels summed over a size in one term and over 1 in the other: the sum of products is a product of sums."""
    found = set()
    for label in set(a.labels) & set(b.labels) - later:
        own = [tensor_shape(term.value)[term.labels.index(label)] for term in (a, b)]
        if not ctx.equal(*own) and 1 in map(as_int, own):
            found.add(label)
    return found


def _outer(ctx: Context, a: Term, b: Term, labels: str) -> Term:
    """Without anything to sum a contraction is a product with broadcasting."""

    def spread(term: Term) -> Value:
        order = "".join(label for label in labels if label in term.labels)
        value = _transposed(ctx, term, order)
        own = dict(zip(order, tensor_shape(value), strict=True))
        return ctx.reshape(value, [own.get(label, 1) for label in labels])

    return Term(labels, multiply(ctx, spread(a), spread(b)))
