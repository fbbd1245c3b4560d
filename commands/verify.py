"""``onnxkiln verify``: an artifact against ONNX Runtime, down to the first node whose value differs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .options import add_feed_options
from .output import format_table, print_json, print_section

if TYPE_CHECKING:
    from ..verification.bisection import GraphNode
    from ..verifier import VerifyReport


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "verify",
        parents=[common],
        allow_abbrev=False,
        help="compare an artifact with ONNX Runtime",
        description="Run ARTIFACT and, through ONNX Runtime, MODEL on the same inputs and compare all outputs: floats "
        "within 1e-3*|b| + 1e-4*max(1, max|b|) of ONNX Runtime's b, everything else equal. Where they differ, name the "
        "first node whose value does. Exit code 1 when they differ.",
    )
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="an artifact folder")
    parser.add_argument("model", type=Path, metavar="MODEL", help="the ONNX file that it was compiled from")
    add_feed_options(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="seed of random inputs (default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of both (default: as each chooses)")
    parser.add_argument("--no-bisect", action="store_true", help="only compare outputs; compile nothing")
    parser.add_argument("--force", action="store_true", help="compare although MODEL is not what was compiled")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    from ..artifacts.opening import OpenArtifact
    from ..verifier import verify
    from .feeds import parse_sizes, read_feeds

    if options.input and options.seed is not None:
        raise UsageError("--seed is for random inputs", hint="leave out --seed, or --input")
    with OpenArtifact(options.artifact) as artifact:
        contract = artifact.manifest.contract
    report = verify(
        options.artifact,
        options.model,
        read_feeds(options.input, options.dim, contract) if options.input else None,
        seed=options.seed or 0,
        sizes=parse_sizes(options.dim, contract),
        threads=options.threads,
        force=options.force,
        bisect=not options.no_bisect,
        progress=None if options.json else lambda line: print(line, file=sys.stderr),
    )
    if options.json:
        print_json(report.to_json())
    else:
        show_report(report)
    return 0 if report.agrees else 1


def show_report(report: VerifyReport) -> None:
    """The report in words."""
    verdict = "agrees" if report.agrees else "DOES NOT AGREE"
    print(f"{report.artifact} ({report.library}) {verdict} with ONNX Runtime on {report.model}")
    print_section("inputs", "\n".join(f"{name}: {kind}" for name, kind in report.inputs.items()))
    print_section("outputs", "\n".join(map(str, report.outputs)))
    if report.finding is not None and report.finding.reproduced:
        nodes = report.finding.nodes
        title = "first node that differs" if len(nodes) == 1 else "the difference begins in one of these nodes"
        print_section(title, "\n".join(map(_node, nodes)))
    if report.finding is not None and report.difference is not None:
        print_section(f"value {report.finding.value!r}: {report.difference.problem}", _numbers(report))
    if report.notes:
        print_section("notes", "\n".join(report.notes))


def _node(node: GraphNode) -> str:
    return f"node {node.position}: {node.name!r}, {node.op_type} of {node.domain}"


def _numbers(report: VerifyReport) -> str:
    difference = report.difference
    assert difference is not None
    rows = []
    for who, value in (("ONNX Runtime", difference.expected), ("artifact", difference.found)):
        numbers = ["-" if n is None else f"{n:.7g}" for n in (value.minimum, value.maximum, value.mean)]
        rows.append((who, value.dtype, list(value.shape), *numbers, value.nans, value.infinities))
    table = format_table(("", "dtype", "shape", "min", "max", "mean", "NaN", "inf"), rows)
    worst = difference.worst
    if worst is None:
        return table
    return f"{table}\nworst at {list(worst.index)}: {worst.found} instead of {worst.expected}"
