"""ai.onnx.ml's trees against ONNX Runtime: random ensembles, all comparisons, missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper as oh
import pytest
from onnx import TensorProto
from onnx_check import Case, Compiled, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(17)
X = RNG.standard_normal((37, 5)).astype(np.float32)


def _forest(
    trees: int, depth: int, classes: int, what: str, modes: list[str], positive: bool = False
) -> dict[str, Any]:
    """Full trees; each leaf weighs all of ``classes``."""
    nodes: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes",
                                   "truenodeids", "falsenodeids", "missing_value_tracks_true")}  # fmt: skip
    owners: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        for node in range(2 ** (depth + 1) - 1):
            leaf = node >= 2**depth - 1
            row = [tree, node, 0 if leaf else int(RNG.integers(5)), 0.0 if leaf else float(RNG.standard_normal()),
                   "LEAF" if leaf else modes[(tree + node) % len(modes)], 0 if leaf else 2 * node + 1,
                   0 if leaf else 2 * node + 2, int(RNG.integers(2))]  # fmt: skip
            for values, value in zip(nodes.values(), row, strict=True):
                values.append(value)
            for target in range(classes if leaf else 0):
                weight = float(RNG.random() / trees if positive else RNG.standard_normal())
                for values, value in zip(owners.values(), (tree, node, target, weight), strict=True):
                    values.append(value)
    return {f"nodes_{k}": v for k, v in nodes.items()} | {f"{what}_{k}": v for k, v in owners.items()}


def _case(op_type: str, x: np.ndarray, outputs: int = 1, dims: str = "fixed", **attributes: Any) -> Case:
    return Case(op_type, [x], attributes, outputs, dims, attributes.pop("expected", None), "ai.onnx.ml")


COMPARISONS = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def _aggregated(name: str, targets: int) -> Case:
    forest = _forest(4, 2, targets, "target", COMPARISONS)
    return _case("TreeEnsembleRegressor", X, n_targets=targets, aggregate_function=name, **forest)


def test_regressor() -> None:
    holes = np.where(RNG.random(X.shape) > 0.8, np.nan, X).astype(np.float32)
    cases = [
        _case("TreeEnsembleRegressor", X, n_targets=1, **_forest(9, 4, 1, "target", ["BRANCH_LEQ"])),
        _case("TreeEnsembleRegressor", holes, n_targets=1, **_forest(3, 3, 1, "target", ["BRANCH_LT"])),
        _case("TreeEnsembleRegressor", holes, n_targets=2, **_forest(4, 4, 2, "target", COMPARISONS[:-1])),
        _case("TreeEnsembleRegressor", X, n_targets=3, base_values=[1.0, 2.0, 3.0], dims="open",
              **_forest(4, 2, 3, "target", COMPARISONS)),
        _aggregated("AVERAGE", 2),
        _aggregated("MIN", 1),
        _aggregated("MAX", 1),
        _case("TreeEnsembleRegressor", X[:1], n_targets=1, **_forest(1, 0, 1, "target", [])),
    ]  # fmt: skip
    check_cases([by_runtime(case) for case in cases], opset=18, rtol=1e-5)
    check_cases([by_runtime(case) for case in (cases[0], cases[2])], opset=18, artifact=True)


@pytest.mark.parametrize("mode", COMPARISONS)
def test_a_missing_value_goes_where_its_node_says(mode: str) -> None:
    """For BRANCH_NEQ too, where ONNX Runtime takes NaN for a number that differs."""
    x = np.float32([[np.nan], [1]])
    cases = []
    for tracks in (0, 1):
        forest = _forest(1, 1, 1, "target", [mode])
        forest["nodes_featureids"], forest["nodes_missing_value_tracks_true"] = [0, 0, 0], [tracks, 0, 0]
        forest["nodes_values"] = [1.0, 0.0, 0.0]
        yes, no = forest["target_weights"]
        at_split = yes if mode in ("BRANCH_LEQ", "BRANCH_GTE", "BRANCH_EQ") else no
        wanted = np.float32([[yes if tracks else no], [at_split]])
        cases.append(_case("TreeEnsembleRegressor", x, n_targets=1, expected=[wanted], **forest))
    check_cases(cases, opset=18)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_classifier(transform: str) -> None:
    three = {"classlabels_int64s": [3, 1, 2], "post_transform": transform}
    cases = [
        _case("TreeEnsembleClassifier", X, 2, **three, **_forest(5, 3, 3, "class", ["BRANCH_LEQ"], True)),
        _case("TreeEnsembleClassifier", X, 2, **three, base_values=[0.1, 0.2, 0.3],
              **_forest(5, 3, 3, "class", ["BRANCH_LEQ"])),
    ]  # fmt: skip
    if transform != "SOFTMAX":
        for positive in (True, False):
            forest = _forest(5, 3, 1, "class", ["BRANCH_LEQ"], positive)
            two = {"classlabels_int64s": [0, 1], "post_transform": transform}
            cases.append(_case("TreeEnsembleClassifier", X, 2, **two, **forest))
    check_cases([by_runtime(case) for case in cases], opset=18, rtol=1e-5)


def test_two_classes_with_two_scores() -> None:
    """As ONNX's evaluator has it: the larger score wins."""
    two = {"classlabels_int64s": [0, 1], "post_transform": "NONE"}
    forest = _forest(1, 1, 2, "class", ["BRANCH_LEQ"], True)
    left = X[:, forest["nodes_featureids"][0]] <= np.float32(forest["nodes_values"][0])
    pairs = np.array(forest["class_weights"], np.float32).reshape(2, 2)
    scores = np.where(left[:, None], pairs[0], pairs[1])
    wanted = [scores.argmax(1), scores]
    check_cases([_case("TreeEnsembleClassifier", X, 2, expected=wanted, **two, **forest)], opset=18)


def test_sets() -> None:
    """TreeEnsemble, which replaced the others: two nodes ask for members, the second one takes missing values."""
    x = np.array([[1.0], [2.0], [3.0], [np.nan], [7.0]])

    def tensor(*values: float, kind: int = TensorProto.DOUBLE) -> TensorProto:
        return oh.make_tensor("t", kind, (len(values),), values)

    node = oh.make_node(
        "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, tree_roots=[0],
        nodes_modes=tensor(6, 6, kind=TensorProto.UINT8), nodes_featureids=[0, 0], nodes_splits=tensor(0.0, 0.0),
        nodes_truenodeids=[0, 1], nodes_falsenodeids=[1, 2], nodes_trueleafs=[1, 1], nodes_falseleafs=[0, 1],
        nodes_missing_value_tracks_true=[0, 1], leaf_targetids=[0, 0, 0], leaf_weights=tensor(1.0, 10.0, 100.0),
        membership_values=tensor(1.0, 7.0, np.nan, 2.0, np.nan),
    )  # fmt: skip
    infos = [[oh.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 1])] for name in "xy"]
    graph = oh.make_graph([node], "sets", *infos)
    opsets = [oh.make_opsetid("ai.onnx.ml", 5), oh.make_opsetid("", 20)]
    model = oh.make_model(graph, opset_imports=opsets, ir_version=10)
    np.testing.assert_array_equal(Compiled(model)({"x": x})[0], [[1.0], [10.0], [100.0], [10.0], [1.0]])


def test_refusals() -> None:
    wanted = [np.zeros((37, 1), np.float32)]
    forest = _forest(1, 1, 1, "target", ["BRANCH_LEQ"])
    forest["nodes_featureids"] = [7, 0, 0]
    with pytest.raises(ConversionError, match="the trees name a feature that doesn't exist"):
        check_cases([_case("TreeEnsembleRegressor", X, n_targets=1, expected=wanted, **forest)], opset=18)
    forest = _forest(1, 2, 1, "target", ["BRANCH_LEQ"])
    forest["nodes_truenodeids"][1] = 0
    with pytest.raises(ConversionError, match="two branches lead to one node"):
        check_cases([_case("TreeEnsembleRegressor", X, n_targets=1, expected=wanted, **forest)], opset=18)
