"""``onnxkiln bench``: an artifact's speed, memory, load time and size, beside other engines'."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .options import add_feed_options
from .output import format_table, print_json

if TYPE_CHECKING:
    from ..benchmarking.report import BenchReport


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "bench",
        parents=[common],
        allow_abbrev=False,
        help="measure an artifact, beside other engines",
        description="Measure ARTIFACT: runs per second, latency, memory, load time, size on disk; with --model, beside "
        "engines that run the ONNX file. Every engine has fresh processes of its own; they take turns on the same "
        "inputs, and medians count.",
    )
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="an artifact folder")
    parser.add_argument("--model", type=Path, metavar="MODEL.onnx", help="what it was compiled from: peers run that")
    parser.add_argument(
        "--compare",
        metavar="ENGINES",
        help="engines to compare with, of onnxruntime, openvino, tract and tvm (default: onnxruntime, given a --model)",
    )
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads of each engine (default: 1)")
    add_feed_options(parser)
    parser.add_argument(
        "--processes", type=_positive, default=3, metavar="N", help="fresh processes of each engine (default: 3)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=0.3, metavar="S", help="of each of 3 turns in a process (default: 0.3)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--force", action="store_true", help="measure although MODEL is not what was compiled")
    parser.set_defaults(execute=execute)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= 60:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 60]")
    return number


def execute(options: argparse.Namespace) -> None:
    from ..artifacts.cache import changed_source
    from ..artifacts.opening import OpenArtifact
    from ..benchmarking.benchmark import Effort, benchmark
    from ..benchmarking.engines import parse_peers
    from .feeds import read_feeds

    if options.json and options.markdown:
        raise UsageError("--json and --markdown exclude one another", hint="give one of them")
    model = options.model
    default = "onnxruntime" if model is not None else ""
    peers = parse_peers(default if options.compare is None else options.compare)
    if peers and model is None:
        raise UsageError("other engines run the ONNX file, and none is given", hint="name it with --model MODEL.onnx")
    with OpenArtifact(options.artifact) as artifact:
        manifest = artifact.manifest
    if model is not None:
        if not model.is_file():
            raise UsageError(f"there is no model file {model}", hint="check the path given with --model")
        changed = None if options.force else changed_source(manifest.source, model)
        if changed is not None:
            raise UsageError(
                f"{model} is not what the artifact was made from: {changed}",
                hint=f"give the model that was compiled ({manifest.source.name}), or measure all the same with --force",
            )
    report = benchmark(
        options.artifact,
        model,
        read_feeds(options.input or ["random"], options.dim, manifest.contract),
        peers,
        threads=options.threads,
        effort=Effort(processes=options.processes, seconds=options.seconds),
        say=(lambda line: print(line, file=sys.stderr)) if sys.stderr.isatty() else None,
    )
    _print(report, options)


def _print(report: BenchReport, options: argparse.Namespace) -> None:
    from ..benchmarking.report import HEADER, LEGEND, headline, remarks, rows, to_markdown

    if options.json:
        print_json(report.to_json())
    elif options.markdown:
        print(to_markdown(report))
    else:
        print(headline(report), end="\n\n")
        _print_table(HEADER, rows(report))
        print("\n".join(["", LEGEND, *remarks(report)]))


def _print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """With rich where that is installed and someone looks; the plain table has the same cells."""
    try:
        if not sys.stdout.isatty():
            raise ImportError
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(format_table(header, rows))
        return
    table = Table()
    for index, title in enumerate(header):
        table.add_column(title, justify="right" if index > 1 else "left", no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)
