#!/usr/bin/env python3
"""``make bench``: the zoo and four generated models beside other engines, and beside what the machine could do at all.

    scripts/bench.py run [NAME...]           measure; results go to build/bench, one file a model, and are kept
    scripts/bench.py report                  the table of what has been measured
    scripts/bench.py list                    the models

A model whose result is there, of the same artifact, engines and settings, is not measured again (``--again`` does).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import checkout  # noqa: F401  (makes onnxkiln importable)
from bench_limits.machine import measure_limits
from bench_limits.table import format_all, to_markdown
from bench_models.artifacts import FOLDER, compiled, listed_feeds
from bench_models.catalog import BenchModel, load_models
from onnxkiln.benchmarking.benchmark import Effort, benchmark
from onnxkiln.benchmarking.engines import Engine, parse_peers
from onnxkiln.benchmarking.report import HEADER, headline, rows
from onnxkiln.commands.output import format_table

PEERS = "onnxruntime,openvino,tract"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 if a model could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="artifacts and results (default: build/bench)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="measure models")
    run.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    run.add_argument("--compare", default=PEERS, metavar="ENGINES", help=f"default: {PEERS}; there is also tvm")
    run.add_argument("--threads", type=int, default=1, help="threads of each engine (default: 1)")
    run.add_argument("--processes", type=int, default=3, help="fresh processes of each engine (default: 3)")
    run.add_argument("--seconds", type=float, default=0.3, help="of each of 3 turns in a process (default: 0.3)")
    run.add_argument("--compile-only", action="store_true", help="only bring artifacts up to date")
    run.add_argument("--again", action="store_true", help="measure also what has been measured")
    run.set_defaults(execute=_run)
    commands.add_parser("report", help="print what has been measured").set_defaults(execute=_report)
    commands.add_parser("list", help="the models").set_defaults(execute=_list)
    options = parser.parse_args(arguments)
    return options.execute(options)


def _list(options: argparse.Namespace) -> int:
    print("\n".join(model.name for model in load_models()))
    return 0


def _run(options: argparse.Namespace) -> int:
    peers, failed = parse_peers(options.compare), []
    for model in load_models(options.names):
        try:
            result = _measure(model, peers, options)
        except Exception as error:  # one model's trouble is not the others'
            words = str(error).strip().splitlines() or [type(error).__name__]
            print(f"{model.name}: {words[0]}", file=sys.stderr)
            failed.append(model.name)
            continue
        if result is not None:
            print(f"{result['headline']}\n{format_table(HEADER, result['cells'])}\n", flush=True)
    if not options.compile_only:
        _report(options)
    return 1 if failed else 0


def _measure(model: BenchModel, peers: Sequence[Engine], options: argparse.Namespace) -> dict[str, Any] | None:
    """The model's result, measured or kept; None with ``--compile-only``."""
    path = model.path()
    artifact = compiled(path, options.folder / "artifacts" / model.name)
    if options.compile_only:
        return None
    effort = Effort(processes=options.processes, seconds=options.seconds)
    settings = {
        "artifact": hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest(),
        "engines": {engine.name: engine.version for engine in peers},
        "threads": options.threads,
        "effort": asdict(effort),
    }
    file = options.folder / f"{model.name}.{options.threads}t.json"
    if not options.again and (kept := _kept(file, settings)) is not None:
        return kept
    print(f"{model.name}: measuring on {options.threads} thread(s) ...", file=sys.stderr, flush=True)
    feeds = listed_feeds(model.listed, artifact)
    report = benchmark(artifact, path, feeds, peers, threads=options.threads, effort=effort)
    result = {
        "model": model.name,
        "settings": settings,
        "headline": headline(report),
        "report": report.to_json(),
        "cells": rows(report),
        "limits": _limits(path, feeds, options.threads),
    }
    with tempfile.NamedTemporaryFile("w", dir=options.folder, delete=False, encoding="utf-8") as partial:
        json.dump(result, partial, indent=1)
    Path(partial.name).replace(file)
    return result


def _kept(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return result if result["settings"] == settings else None
    except (OSError, ValueError, KeyError):
        return None


def _limits(model: Path, feeds: dict[str, np.ndarray], threads: int) -> dict[str, float]:
    """What the model needs, and what this machine can do, in its own units; see ``bench_limits``."""
    from bench_limits.cost import cost_of  # imports TVM

    cost = cost_of(model, {name: array.shape for name, array in feeds.items()})
    machine = measure_limits(threads, cost.weight_bytes)
    return {**asdict(cost), **asdict(machine)}


def _report(options: argparse.Namespace) -> int:
    order = [model.name for model in load_models()]
    results = [json.loads(file.read_text(encoding="utf-8")) for file in options.folder.glob("*.[0-9]*t.json")]
    results.sort(key=lambda result: (result["settings"]["threads"], order.index(result["model"])))
    if not results:
        print("nothing has been measured yet: scripts/bench.py run")
        return 0
    print(format_all(results))
    (options.folder / "report.md").write_text(to_markdown(results), encoding="utf-8")
    print(f"\nas Markdown: {options.folder / 'report.md'}; as JSON: {options.folder}/*.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
