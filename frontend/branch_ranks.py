"""An If whose branches give tensors of different ranks, which no compiled value can be.

Exporters write them for code like ``if x.shape[-1] == 1: x = x.squeeze(-1)``. What follows is then written for one of
the two: with the other it can't even be converted. So what follows is tried behind each branch; if one of them works,
it is taken, and the compiled model refuses to run where the condition would choose the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from tvm import relax, tirx

from ..contract import OTHER_BRANCH
from ..errors import ConversionError, KilnError
from .context import Context
from .values import SymbolicInts, Value, rank

if TYPE_CHECKING:
    from .converter import GraphConverter

BRANCHES = ("then_branch", "else_branch")


class BranchesDiffer(ConversionError):
    """The branches of an If whose condition isn't known give different types."""


def choose(converter: GraphConverter, graph: ir.Graph, follow: Callable[[str], list[Value]]) -> str | None:
    """The branch that ``follow``, which converts the rest of ``graph`` behind it, works with; None if not just one."""
    fits: dict[str, bool] = {}
    for name in BRANCHES:
        outputs = attempt(converter, lambda name=name: follow(name))  # type: ignore[misc]
        if outputs is not None:
            fits[name] = _as_declared(graph, outputs)
    best = [name for name, declared in fits.items() if declared] or list(fits)
    return best[0] if len(best) == 1 else None


def attempt(converter: GraphConverter, convert: Callable[[], list[Value]]) -> list[Value] | None:
    """What ``convert`` gives, or None where it fails; whatever it emits is dropped."""
    builder, environment = converter.context.builder, converter.environment
    converter.environment = dict(environment)
    builder.begin_scope(None)
    builder._begin_binding_block()
    try:
        with converter.context.branch():
            return convert()
    except KilnError:
        return None
    finally:
        builder._end_block()
        builder.end_scope()
        converter.environment = environment


def require(ctx: Context, condition: Value, branch: str) -> None:
    """Make the compiled model refuse where ``condition`` chooses the other branch."""
    wanted = branch == "then_branch"
    if isinstance(condition, SymbolicInts):
        (holds,) = condition.elements.flat
    else:
        number = ctx.emit(relax.op.astype(ctx.tensor(condition), "int64"))
        (flag,) = ctx.ints(ctx.reshape(number, [1]), "condition")
        holds = tirx.EQ(flag, tirx.const(1, "int64"))
    ctx.check(holds if wanted else tirx.Not(holds), OTHER_BRANCH)


def _as_declared(graph: ir.Graph, outputs: list[Any]) -> bool:
    """Whether the outputs have the ranks that the graph says, where it says them."""
    for value, output in zip(graph.outputs, outputs, strict=True):
        try:
            if value.shape is not None and rank(output) != len(value.shape):
                return False
        except ConversionError:  # a sequence or an optional value
            continue
    return True
