"""ai.onnx.ml's TreeEnsemble, TreeEnsembleRegressor and TreeEnsembleClassifier.

https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html and siblings. Classes must be numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from ...errors import ConversionError
from ..context import Context
from ..node import Node
from ..registry import converter
from ..shapes import never_has_elements, zeros
from ..tree_ensembles import AVERAGE, MAX, MEMBER, MIN, SUM, Ensemble, walk
from ..values import Value, as_int, tensor_dtype, tensor_shape
from .activation import number
from .cast import convert_dtype
from .concat import join
from .elementwise import add, subtract
from .logical import where
from .ml_linear import DOMAIN, class_labels, class_numbers, floats
from .ml_post_transform import TRANSFORMS, post_transform

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_AGGREGATES = {"AVERAGE": AVERAGE, "SUM": SUM, "MIN": MIN, "MAX": MAX}


@converter("TreeEnsemble", since=5, domain=DOMAIN)
def tree_ensemble(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    targets, transform = node.attr("n_targets"), TRANSFORMS[node.attr("post_transform", 0)]
    summed = _walk(ctx, _explicit(node), inputs[0], targets, node.attr("aggregate_function", SUM))
    return convert_dtype(ctx, post_transform(ctx, summed, transform), tensor_dtype(inputs[0]))


@converter("TreeEnsembleRegressor", domain=DOMAIN)
def tree_ensemble_regressor(ctx: Context, node: Node, inputs: Sequence[Value]) -> Value:
    targets, name = node.attr("n_targets", 1), node.attr("aggregate_function", "SUM")
    if name not in _AGGREGATES:
        raise ConversionError(f"aggregate_function {name!r} is none of {', '.join(_AGGREGATES)}")
    summed = _walk(ctx, _by_nodes(node, "target"), inputs[0], targets, _AGGREGATES[name])
    base = _base(node)
    if base is not None:
        summed = add(ctx, summed, base.astype(tensor_dtype(summed)))
    return convert_dtype(ctx, post_transform(ctx, summed, node.attr("post_transform", "NONE")), "float32")


@converter("TreeEnsembleClassifier", domain=DOMAIN)
def tree_ensemble_classifier(ctx: Context, node: Node, inputs: Sequence[Value]) -> list[Value]:
    numbers, transform = class_numbers(node, "classlabels_int64s"), node.attr("post_transform", "NONE")
    trees, base = _by_nodes(node, "class"), _base(node)
    if len(numbers) == 2 and set(trees.targets) == {0}:
        return _two_classes(ctx, node, trees, inputs[0], numbers)[: node.output_count]
    if len(numbers) < 2 or (len(numbers) == 2 and len(set(trees.targets)) < 2):
        raise ConversionError(f"leaves weigh classes {sorted(set(trees.targets))} of {len(numbers)}")
    scores = _walk(ctx, trees, inputs[0], len(numbers), SUM)
    if base is not None:
        scores = add(ctx, scores, base.astype(tensor_dtype(scores)))
    chosen = class_labels(ctx, scores, numbers)
    result = convert_dtype(ctx, post_transform(ctx, scores, transform), "float32")
    return [chosen, result][: node.output_count]


def _two_classes(ctx: Context, node: Node, trees: Ensemble, data: Value, numbers: list[int]) -> list[Any]:
    """One score s for the second class. Weights that are probabilities make it 1 - s for the first one, others -s.

    That, and where the second class begins, is as in ONNX Runtime.
    """
    transform, base = node.attr("post_transform", "NONE"), _base(node)
    if transform not in ("NONE", "LOGISTIC") or (base is not None and base.size != 1):
        raise ConversionError(f"one score for two classes with post_transform {transform!r} and base {base}")
    score = _walk(ctx, trees, data, 1, SUM)
    if base is not None:
        score = add(ctx, score, base.astype(tensor_dtype(score)))
    positive = bool((trees.weights >= 0).all())
    limit = number(0.5 if positive else 0, score)
    above = ctx.emit(relax.op.greater(ctx.reshape(score, tensor_shape(score)[:1]), ctx.tensor(limit)))
    chosen = where(ctx, above, *(np.array(value, np.int64) for value in reversed(numbers)))
    first = subtract(ctx, number(1 if positive and transform == "NONE" else 0, score), score)
    scores = ctx.tensor(join(ctx, [first, score], 1))
    return [chosen, convert_dtype(ctx, post_transform(ctx, scores, transform), "float32")]


def _base(node: Node) -> np.ndarray | None:
    values = node.attr("base_values_as_tensor", node.attr("base_values"))
    return None if values is None or not len(values) else np.asarray(values)


def _walk(ctx: Context, trees: Ensemble, data: Value, targets: int, aggregate: int) -> relax.Expr:
    """Summed up in float32, in float64 for float64 and integers that float32 doesn't hold."""
    wide = tensor_dtype(data) in ("int32", "int64", "uint32", "uint64")
    x = ctx.tensor(convert_dtype(ctx, data, "float64")) if wide else floats(ctx, data)
    if len(tensor_shape(x)) == 1:
        x = ctx.tensor(ctx.reshape(x, [1, *tensor_shape(x)]))
    if len(tensor_shape(x)) != 2 or aggregate not in _AGGREGATES.values():
        raise ConversionError(f"needs a matrix, found shape {list(tensor_shape(x))}")
    features = as_int(tensor_shape(x)[1])
    trees.check(features, targets)
    if features is None and trees.features.size:
        ctx.check(tensor_shape(x)[1] > tirx.const(int(trees.features.max()), "int64"))
    if never_has_elements([tensor_shape(x)[0]]):
        return zeros(ctx, [0, targets], tensor_dtype(x))

    def kernel(x: te.Tensor, *tables: te.Tensor) -> te.Tensor:
        return walk(trees, targets, aggregate, x, tables)

    return ctx.te(kernel, x, *trees.arrays(tensor_dtype(x)), name="tree_ensemble")


def _ints(node: Node, name: str, count: int | None = None) -> np.ndarray:
    values = np.asarray(node.attr(name, [] if count is None else [0] * count), np.int64)
    if count is not None and len(values) != count:
        raise ConversionError(f"{name} has {len(values)} entries, {count} are needed")
    return values


def _by_nodes(node: Node, what: str) -> Ensemble:
    """The older form: nodes are named by tree and number, leaves are nodes, ``what`` they weigh refers to those."""
    names = list(zip(_ints(node, "nodes_treeids"), _ints(node, "nodes_nodeids"), strict=True))
    modes, count = list(node.attr("nodes_modes", [])), len(names)
    if len(modes) != count or len(set(names)) != count:
        raise ConversionError("nodes must have one mode and a name of their own each")
    is_leaf = [mode == "LEAF" for mode in modes]
    unknown = {mode for mode in modes if mode != "LEAF" and mode not in _MODES[:-1]}
    if unknown:
        raise ConversionError(f"nodes of mode {sorted(unknown)[0]!r} are not supported")
    inner = [i for i in range(count) if not is_leaf[i]]
    leaves = [i for i in range(count) if is_leaf[i]]
    place = {names[i]: at for at, i in enumerate(inner)} | {names[i]: -1 - at for at, i in enumerate(leaves)}

    def targets_of(attribute: str) -> np.ndarray:
        children = _ints(node, attribute, count)
        try:
            return np.array([place[names[i][0], children[i]] for i in inner], np.int64)
        except KeyError as error:
            raise ConversionError(f"{attribute} names a node {error.args[0]} that doesn't exist") from error

    after, otherwise = targets_of("nodes_truenodeids"), targets_of("nodes_falsenodeids")
    firsts = dict(reversed(names))  # of each tree the node that is listed first is the root
    roots = [place[name] for name in firsts.items()]
    splits = np.asarray(node.attr("nodes_values_as_tensor", node.attr("nodes_values", [])))
    weights = np.asarray(node.attr(f"{what}_weights_as_tensor", node.attr(f"{what}_weights", [])))
    owners = list(zip(_ints(node, f"{what}_treeids"), _ints(node, f"{what}_nodeids"), strict=True))
    given = [place.get(owner, 0) for owner in owners]
    if len(splits) != count or len(weights) != len(owners) or any(leaf >= 0 for leaf in given):
        raise ConversionError(f"weights must belong to leaves, and {count} nodes need as many values")
    order = np.argsort([-leaf for leaf in given], kind="stable")
    counts = np.bincount(np.array([-1 - leaf for leaf in given], np.int64), minlength=len(leaves))
    nothing = np.zeros(len(inner), np.int64)
    return Ensemble(
        np.array(roots, np.int64),
        np.array([_MODES.index(modes[i]) for i in inner], np.int64),
        _ints(node, "nodes_featureids", count)[inner],
        splits[inner],
        after,
        otherwise,
        _ints(node, "nodes_missing_value_tracks_true", count)[inner],
        np.concatenate([[0], np.cumsum(counts)]),
        _ints(node, f"{what}_ids", len(owners))[order],
        weights[order],
        np.empty(0),
        nothing,
        nothing,
    )


def _explicit(node: Node) -> Ensemble:
    """TreeEnsemble's form: nodes and leaves are numbered apart, sets are strung together with a NaN after each."""
    kinds = np.asarray(node.attr("nodes_modes")).astype(np.int64)
    count = len(kinds)
    to_leaf = [_ints(node, f"nodes_{side}leafs", count).astype(bool) for side in ("true", "false")]
    ids = [_ints(node, f"nodes_{side}nodeids", count) for side in ("true", "false")]
    after, otherwise = (np.where(leaf, -1 - name, name) for leaf, name in zip(to_leaf, ids, strict=True))
    # A tree that is a single leaf is written as a node that leads there either way.
    roots = _ints(node, "tree_roots")
    weights = np.asarray(node.attr("leaf_weights"))
    begins, ends, members = _members(node, kinds)
    return Ensemble(
        roots,
        kinds,
        _ints(node, "nodes_featureids", count),
        np.asarray(node.attr("nodes_splits")),
        after,
        otherwise,
        _ints(node, "nodes_missing_value_tracks_true", count),
        np.arange(len(weights) + 1),
        _ints(node, "leaf_targetids", len(weights)),
        weights,
        members,
        begins,
        ends,
    )


def _members(node: Node, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each node's set begins and ends among all members; sets come in the order of the nodes."""
    begins, ends = np.zeros(len(kinds), np.int64), np.zeros(len(kinds), np.int64)
    values = node.attr("membership_values")
    members = np.empty(0) if values is None else np.asarray(values)
    borders = np.flatnonzero(np.isnan(members))
    owners = np.flatnonzero(kinds == MEMBER)
    if len(borders) != len(owners):
        raise ConversionError(f"{len(owners)} nodes ask for members of {len(borders)} sets")
    begins[owners], ends[owners] = np.concatenate([[0], borders + 1])[: len(owners)], borders
    return begins, ends, members
