"""The search for the first node of a graph whose value is wrong, by probing a few inner values at a time.

Nothing here knows ONNX or a compiler: nodes are names, and a probe tells which values differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

WIDTH = 16
"""Values probed at once: a probe is a compile, and with 16 of them two or three find one node among thousands."""

MAX_PROBES = 24


@dataclass(frozen=True)
class GraphNode:
    """One node: ``position`` in the graph's order, ``inputs`` with the outer values that its inner graphs read."""

    position: int
    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class ProbeFailed(Exception):
    """These values can't be probed together; the message says why."""


Probe = Callable[[Sequence[str]], Mapping[str, bool]]
"""Takes values' names, tells for each whether it differs. A name that is missing in the answer can't be probed."""


@dataclass(frozen=True)
class Finding:
    """Where the difference begins: ``value`` differs, and it comes from ``nodes``, whose other inputs agree.

    One node where the search came to its end. Several where values between them can't be probed: ``reasons`` has, by
    value, why. ``reproduced`` is False if not even ``value`` differed when probed alone; ``failure`` says why it
    couldn't be, if it couldn't.
    """

    value: str
    nodes: tuple[GraphNode, ...]
    probes: int
    reasons: Mapping[str, str] = field(default_factory=dict)
    reproduced: bool = True
    failure: str | None = None

    @property
    def node(self) -> GraphNode:
        """The node that makes ``value``."""
        return self.nodes[-1]


def find_first(nodes: Sequence[GraphNode], value: str, probe: Probe) -> Finding:
    """The first node in order whose value differs, given that ``value`` does.

    Only what ``value`` depends on is searched; a node all of whose inputs agree is where a difference begins. A probe
    in which the difference vanishes (asking for a value changes how the compiler fuses) is repeated with fewer values.
    """
    return _Search(nodes, value, probe).run()


class _Search:
    def __init__(self, nodes: Sequence[GraphNode], value: str, probe: Probe):
        self.makers = {name: node for node in nodes for name in node.outputs}
        self.value = value
        self.probe = probe
        self.agreed: set[str] = set()
        self.reasons: dict[str, str] = {}
        self.probes = 0
        self.width = WIDTH
        self.reproduced = False
        self.failure: str | None = None

    def run(self) -> Finding:
        while self.probes < MAX_PROBES:
            open_values = [name for name in self._upstream() if name not in self.reasons]
            if not open_values:
                break
            sample = _spread(open_values, self.width)
            if not self._ask(sample) and not self.reproduced and not self._ask([]):
                break
        return self._finding()

    def _ask(self, sample: Sequence[str]) -> bool:
        """Probe the sample and the suspect; whether that brought the search forward."""
        self.probes += 1
        try:
            answer = self.probe([*sample, self.value])
        except ProbeFailed as failure:
            if not sample:
                self.failure = str(failure)
            return self._narrow(sample, str(failure))
        unknown = [name for name in sample if name not in answer]
        self.reasons |= dict.fromkeys(unknown, "it can't be given as an output")
        differing = [name for name in sample if answer.get(name)]
        if not differing and not answer.get(self.value):
            return self._narrow(sample, "the difference vanishes when it is given as an output, as this changes fusion")
        self.reproduced = True
        self.agreed |= {name for name in sample if answer.get(name) is False}
        if differing:
            self.value = differing[0]
        return True

    def _narrow(self, sample: Sequence[str], reason: str) -> bool:
        if len(sample) == 1 and self.reproduced:
            self.reasons[sample[0]] = reason
        self.width = max(1, min(self.width, len(sample)) // 4) if sample else self.width
        return False

    def _upstream(self) -> list[str]:
        """What the suspect depends on, in order, up to values that agree."""
        found: set[str] = set()
        waiting = [self.value]
        while waiting:
            for name in self.makers[waiting.pop()].inputs:
                if name in self.makers and name not in self.agreed and name not in found:
                    found.add(name)
                    waiting.append(name)
        return sorted(found, key=lambda name: (self.makers[name].position, name))

    def _finding(self) -> Finding:
        upstream = self._upstream()
        nodes = {self.makers[name].position: self.makers[name] for name in [*upstream, self.value]}
        reasons = {name: self.reasons.get(name, "the search ended before it") for name in upstream}
        ordered = tuple(nodes[position] for position in sorted(nodes))
        return Finding(self.value, ordered, self.probes, reasons, self.reproduced or not upstream, self.failure)


def _spread(names: Sequence[str], width: int) -> list[str]:
    """At most ``width`` of the names, evenly spread, in order."""
    if len(names) <= width:
        return list(names)
    return [names[(2 * index + 1) * len(names) // (2 * width)] for index in range(width)]
