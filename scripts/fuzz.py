#!/usr/bin/env python3
"""Draws random small ONNX graphs, compiles and runs each, and reports where the artifact is wrong, crashes or refuses.

Each graph is compiled in a child process, so a crash or a hang is a finding like any other. A finding is cut down to
the fewest nodes that still show it; with ``--keep DIR`` its model and feeds are written there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
from graph_check import disagreements
from graph_nodes import draw_graph
from graphs import Graph, NodeDrawn

import checkout  # noqa: F401  (makes onnxkiln importable)
from onnxkiln.errors import KilnError

LIMIT = 120.0
"""Seconds for one graph."""


@dataclass
class Outcome:
    """``kind`` is fine, wrong, crash or refused; ``outputs`` are those that differ."""

    kind: str
    text: str = ""
    outputs: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """The same for findings that look alike."""
        words = "" if self.kind == "wrong" else re.sub(r"'[^']*'|\b[vxc]\d+\b|0x[0-9a-f]+|\d+", "#", self.text)
        return f"{self.kind} {words}"[:160]


def examine(graph: Graph, fixed: int | None, level: str) -> Outcome:
    """Compile and run the graph in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _quiet()
        try:
            os.write(writer, json.dumps(_judge(graph, fixed, level)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    return _await(child, reader)


def _await(child: int, reader: int) -> Outcome:
    data, end = b"", time.monotonic() + LIMIT
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            more = pipe.read(1 << 16)
            if not more:
                break
            data += more
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome("crash", f"took more than {LIMIT:.0f} s")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Outcome("crash", f"signal {signal.Signals(os.WTERMSIG(status)).name}")
    kind, text, outputs = json.loads(data)
    return Outcome(kind, text, tuple(outputs))


def _judge(graph: Graph, fixed: int | None, level: str) -> tuple[str, str, list[str]]:
    try:
        problems = disagreements(graph, fixed, level)
    except KilnError as error:
        crashed = type(error).__name__ == "CompileError" or type(error) is KilnError
        return ("crash" if crashed else "refused", f"{type(error).__name__}: {error.message}"[:2000], [])
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return "crash", f"{type(error).__name__}: {' | '.join(lines[-2:])}"[:2000], []
    if not problems:
        return "fine", "", []
    return "wrong", "; ".join(f"{name}: {text}" for name, text in problems.items())[:2000], list(problems)


def _quiet() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def reduce(graph: Graph, outcome: Outcome, fixed: int | None, level: str) -> tuple[Graph, Outcome]:
    """The smallest part found that still shows a finding of the same kind."""
    for candidate in _parts(graph, outcome):
        result = examine(candidate, fixed, level)
        if result.kind == outcome.kind:
            graph, outcome = candidate, result
            break
    index = 0
    while index < len(graph.nodes) and len(graph.nodes) > 1:
        candidate = graph.without(index)
        result = examine(candidate, fixed, level)
        if result.kind == outcome.kind:
            graph, outcome = candidate, result
        else:
            index += 1
    return graph, outcome


def _parts(graph: Graph, outcome: Outcome) -> Iterator[Graph]:
    """For each suspicious output: its last nodes alone (what they take becomes inputs), more of them, then all."""
    outputs = [v for v in graph.outputs if not outcome.outputs or v.name in outcome.outputs]
    outputs.sort(key=lambda v: len(graph.of_output(v).nodes))
    for output in outputs if outcome.kind == "wrong" else []:
        yield Graph(graph.of_output(output).nodes[-1:], [output]).with_inputs_named()
    for output in outputs:
        yield graph.of_output(output)
    if outcome.kind != "wrong":
        half = len(graph.outputs) // 2
        for some in (graph.outputs[:half], graph.outputs[half:]):
            nodes: list[NodeDrawn] = [n for n in graph.nodes if any(n in graph.of_output(v).nodes for v in some)]
            if some:
                yield Graph(nodes, some)


def report(graph: Graph, outcome: Outcome, fixed: int | None, seed: int, keep: Path | None) -> None:
    print(f"== {outcome.kind}, seed {seed}, {'open dims' if fixed is None else f'sizes {fixed} fixed'}: {outcome.text}")
    print(str(graph) if len(str(graph)) < 6000 else str(graph)[:6000] + "...")
    for value in graph.leaves():
        print(f"   {value.name}: {value.source} {value.dtype} {[a.shape for a in value.arrays]}")
    sys.stdout.flush()
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{seed}.onnx").write_bytes(graph.model(fixed).SerializeToString())
        for i in range(len(graph.outputs[0].arrays)):
            np.savez(keep / f"{seed}.feeds{i}.npz", **graph.feeds(i))


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    start, seed, count, seen = time.monotonic(), options.seed, 0, dict[str, int]()
    while time.monotonic() - start < options.seconds and count < options.graphs:
        graph = draw_graph(random.Random(seed), options.components)
        fixed = None if seed % 3 else seed % 2
        if graph.outputs:
            count += 1
            outcome = examine(graph, fixed, options.level)
            if outcome.kind != "fine":
                fresh = outcome.signature not in seen or outcome.kind == "wrong"
                seen[outcome.signature] = seen.get(outcome.signature, 0) + 1
                if fresh and outcome.kind not in options.skip:
                    report(*reduce(graph, outcome, fixed, options.level), fixed, seed, options.keep)
        seed += 1
    print(f"{count} graphs, {sum(seen.values())} findings in {time.monotonic() - start:.0f} s; the next seed is {seed}")
    for signature, times in sorted(seen.items(), key=lambda item: -item[1]):
        print(f"{times:5}  {signature}")
    return 1 if seen else 0


def _options(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="time budget (default 300)")
    parser.add_argument("--graphs", type=int, default=1 << 30, help="number of graphs")
    parser.add_argument("--seed", type=int, default=0, help="of the first graph; each next one counts up")
    parser.add_argument("--components", type=int, default=5, help="parts of 1 to 8 nodes in each graph")
    parser.add_argument("--level", default="O2", help="O0 to O3")
    parser.add_argument("--skip", nargs="*", default=[], help="kinds not to reduce and print: wrong, crash, refused")
    parser.add_argument("--keep", type=Path, help="folder for models and feeds of findings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
