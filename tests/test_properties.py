"""Random small graphs: the artifact computes what ONNX's reference evaluator does, at every size of open dims."""

import random

import pytest
from graph_check import disagreements
from graph_nodes import draw_graph, graphs
from hypothesis import HealthCheck, Phase, given, settings

# Without shrinking: a failure prints the part of the graph that failed, and scripts/fuzz.py makes it smaller.
RULES = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


def explain(graph, problems):
    parts = [f"{name}: {problem}" for name, problem in problems.items()]
    return "\n".join([*parts, *(str(graph.of_output(v)) for v in graph.outputs if v.name in problems)])


@settings(RULES, max_examples=8)
@given(graphs())
def test_open_dims_at_several_sizes(graph):
    problems = disagreements(graph)
    assert not problems, explain(graph, problems)


@settings(RULES, max_examples=8)
@given(graphs())
def test_fixed_dims(graph):
    problems = disagreements(graph, fixed=0)
    assert not problems, explain(graph, problems)


@pytest.mark.parametrize("fixed", [None, 1], ids=["open", "fixed"])
def test_the_same_graph_with_open_and_fixed_dims(fixed):
    graph = draw_graph(random.Random(11), components=3)
    assert not disagreements(graph, fixed)
