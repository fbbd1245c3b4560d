"""Decision trees as tables that one loop walks through: rows in parallel, tree after tree.

https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from ..errors import ConversionError
from .arith import prim
from .context import prim_list
from .values import PrimExpr

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
AVERAGE, SUM, MIN, MAX = range(4)


@dataclass(frozen=True)
class Ensemble:
    """``after`` and ``otherwise`` say where a node leads: to a node, or, as -1 - i, to leaf ``i``.

    Leaf ``i`` adds ``weights`` to ``targets`` from entry ``starts[i]`` up to ``starts[i + 1]``. A node of kind MEMBER
    asks whether its feature is among ``members`` from ``begins`` up to ``ends``.
    """

    roots: np.ndarray
    kinds: np.ndarray
    features: np.ndarray
    splits: np.ndarray
    after: np.ndarray
    otherwise: np.ndarray
    missing: np.ndarray
    starts: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    members: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    def check(self, features: int | None, targets: int) -> None:
        """Refuse what would be read or written out of bounds, and trees that never end. Raises ConversionError."""
        nodes, leaves = len(self.kinds), len(self.starts) - 1
        for name, values, low, high in (
            ("a node", np.concatenate([self.after, self.otherwise, self.roots]), -leaves, nodes),
            ("a target", self.targets, 0, targets),
            ("a feature", self.features, 0, np.inf if features is None else features),
        ):
            if values.size and not (values.min() >= low and values.max() < high):
                raise ConversionError(f"the trees name {name} that doesn't exist")
        children = np.concatenate([self.after, self.otherwise, self.roots])
        if np.bincount(children[children >= 0], minlength=1).max() > 1:
            raise ConversionError("two branches lead to one node: that is no tree")

    def arrays(self, dtype: str) -> list[np.ndarray]:
        """What the kernel takes beside the data, none of them without elements."""
        ints = [self.roots, self.kinds, self.features, self.after, self.otherwise, self.missing, self.starts]
        ints += [self.targets, self.begins, self.ends]
        made = [np.append(array, 0).astype(np.int64) for array in ints]
        return made + [np.append(array, 0).astype(dtype) for array in (self.splits, self.weights, self.members)]


def walk(ensemble: Ensemble, targets: int, aggregate: int, x: te.Tensor, tables: Sequence[te.Tensor]) -> te.Tensor:
    """[N, features] to the aggregated weights [N, targets] of the leaves that rows fall into.

    ``tables`` are ``ensemble.arrays``. A target without any leaf is 0.
    """
    dtype, trees = str(x.dtype), len(ensemble.roots)
    rows, width = prim(x.shape[0]), prim(x.shape[1])
    start = {MIN: float(np.finfo(dtype).max), MAX: float(np.finfo(dtype).min)}.get(aggregate, 0.0)

    def body(ins: Any, outs: Any) -> tirx.Stmt:
        data, *rest = (T.buffer_proxy(buffer) for buffer in ins)
        out = T.buffer_proxy(outs[0])
        roots, starts, goals, weights = rest[0], rest[6], rest[7], rest[11]
        with IRBuilder() as builder, T.parallel(prim(0), rows) as row:
            with T.serial(prim(0), prim(targets)) as j:
                out[row * targets + j] = tirx.const(start, dtype)
            here = T.buffer_proxy(T.alloc_buffer((1,), "int64", scope="local"))
            with T.serial(prim(0), prim(trees)) as tree:
                here[0] = roots[tree]
                with T.While(here[0] >= 0):
                    _step(here, data, row * width, rest, bool((ensemble.kinds == MEMBER).any()))
                leaf = T.bind(-1 - here[0])
                with T.serial(starts[leaf], starts[leaf + 1]) as entry:
                    goal = T.bind(row * targets + goals[entry])
                    out[goal] = _combined(out[goal], weights[entry], aggregate)
            if aggregate == AVERAGE:
                with T.serial(prim(0), prim(targets)) as j:
                    out[row * targets + j] = out[row * targets + j] / tirx.const(float(trees), dtype)
        return builder.get()

    shape = prim_list([x.shape[0], targets])
    return te.extern([shape], [x, *tables], body, dtype=[dtype], name="tree_ensemble")


def _combined(old: PrimExpr, new: PrimExpr, aggregate: int) -> PrimExpr:
    return {MIN: tirx.min, MAX: tirx.max}.get(aggregate, lambda a, b: a + b)(old, new)


def _step(here: Any, data: Any, base: PrimExpr, tables: Sequence[Any], has_members: bool) -> None:
    """From one node to the next."""
    _, kinds, features, after, otherwise, missing, _, _, begins, ends, splits, _, members = tables
    node = T.bind(here[0])
    kind, value, split = T.bind(kinds[node]), T.bind(data[base + features[node]]), T.bind(splits[node])
    yes = T.buffer_proxy(T.alloc_buffer((1,), "bool", scope="local"))
    answers = [value <= split, value < split, value >= split, value > split]
    answers += [tirx.EQ(value, split), tirx.NE(value, split)]
    choice: PrimExpr = answers[NEQ]
    for number in range(NEQ):
        choice = tirx.Select(tirx.EQ(kind, prim(number)), answers[number], choice)
    yes[0] = choice
    if has_members:
        with T.If(tirx.EQ(kind, prim(MEMBER))), T.Then():
            yes[0] = tirx.const(False, "bool")
            with T.serial(begins[node], ends[node]) as i, T.If(tirx.EQ(members[i], value)), T.Then():
                yes[0] = tirx.const(True, "bool")
    with T.If(tirx.isnan(value)), T.Then():  # by the node's own rule, whatever is compared
        yes[0] = missing[node] > 0
    here[0] = tirx.Select(yes[0], after[node], otherwise[node])
