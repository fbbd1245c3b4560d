"""The search on graphs of names alone: the planted node is found, in few probes, and what can't be known is said."""

import random

import pytest

from onnxkiln.verification.bisection import GraphNode, ProbeFailed, find_first


def node(position, *inputs):
    return GraphNode(position, f"n{position}", "Op", "ai.onnx", inputs, (f"v{position}",))


def chain(length):
    return [node(0, "x"), *(node(i, f"v{i - 1}") for i in range(1, length))]


def wrong_values(nodes, planted, masked=()):
    """What differs when the planted nodes compute wrongly; a masked node hides its inputs' errors."""
    wrong = set()
    for one in nodes:
        inherited = one.name not in masked and any(name in wrong for name in one.inputs)
        if inherited or one.position in planted:
            wrong.update(one.outputs)
    return wrong


class Probes:
    """Counts probes; ``fused`` are values that hide every difference when asked for, ``broken`` ones that fail."""

    def __init__(self, wrong, fused=(), broken=(), unknown=()):
        self.wrong, self.fused, self.broken, self.unknown = wrong, set(fused), set(broken), set(unknown)
        self.asked = []

    def __call__(self, names):
        self.asked.append(list(names))
        if self.broken & set(names):
            raise ProbeFailed("no converter")
        vanished = self.fused & set(names)
        return {name: name in self.wrong and not vanished for name in names if name not in self.unknown}


@pytest.mark.parametrize("planted", [0, 1, 1499, 2998, 2999])
def test_one_node_among_thousands_takes_three_probes(planted):
    nodes = chain(3000)
    probe = Probes(wrong_values(nodes, {planted}))
    finding = find_first(nodes, "v2999", probe)
    assert [one.position for one in finding.nodes] == [planted]
    assert finding.value == f"v{planted}"
    assert finding.reproduced
    assert finding.probes == len(probe.asked) <= 3
    assert max(map(len, probe.asked)) <= 17


@pytest.mark.parametrize("seed", range(8))
def test_the_first_of_several_causes_on_the_way_is_found_in_any_graph(seed):
    rng = random.Random(seed)
    nodes = [node(i, *{f"v{rng.randrange(i)}" for _ in range(rng.randint(1, 3))} if i else ("x",)) for i in range(200)]
    planted = set(rng.sample(range(150), 3))
    wrong = wrong_values(nodes, planted, masked={f"n{rng.randrange(200)}"})
    last = max(wrong, key=lambda name: int(name[1:]))
    finding = find_first(nodes, last, Probes(wrong))
    (found,) = finding.nodes
    assert found.position in planted
    assert not [name for name in found.inputs if name in wrong]


def test_a_branch_that_has_nothing_to_do_with_it_is_not_probed():
    nodes = [node(0, "x"), node(1, "x"), node(2, "v1"), node(3, "v0")]
    probe = Probes(wrong_values(nodes, {0, 1}))
    assert find_first(nodes, "v3", probe).node.position == 0
    assert not {"v1", "v2"} & {name for names in probe.asked for name in names}


def test_a_node_that_reads_only_the_models_inputs_needs_no_probe():
    probe = Probes({"v0"})
    finding = find_first([node(0, "x", "weight")], "v0", probe)
    assert (finding.node.position, finding.probes, finding.reproduced) == (0, 0, True)


def test_a_difference_that_vanishes_when_looked_at_narrows_to_the_fused_nodes():
    nodes = chain(40)
    probe = Probes(wrong_values(nodes, {20}), fused={"v20", "v21"})
    finding = find_first(nodes, "v39", probe)
    assert [one.position for one in finding.nodes] == [20, 21, 22]
    assert finding.value == "v22"
    assert set(finding.reasons) == {"v20", "v21"}
    assert "vanishes" in finding.reasons["v20"]


def test_values_that_cannot_be_given_are_said_to_be_between():
    nodes = chain(40)
    finding = find_first(nodes, "v39", Probes(wrong_values(nodes, {20}), broken={"v20"}, unknown={"v19"}))
    assert [one.position for one in finding.nodes] == [19, 20, 21]
    assert finding.reasons == {"v19": "it can't be given as an output", "v20": "no converter"}


def test_a_difference_that_does_not_come_again_is_not_pinned_on_a_node():
    finding = find_first(chain(10), "v9", Probes(set()))
    assert not finding.reproduced
    assert finding.failure is None
    assert finding.probes == 2


def test_a_model_that_cannot_be_compiled_again_says_why():
    finding = find_first(chain(10), "v9", Probes({"v9"}, broken={"v9"}))
    assert (finding.reproduced, finding.failure) == (False, "no converter")


def test_it_ends_however_contrary_the_probe():
    finding = find_first(chain(500), "v499", Probes({"v499"}, fused={f"v{i}" for i in range(499)}))
    assert len(finding.nodes) == 500
    assert finding.probes <= 24
