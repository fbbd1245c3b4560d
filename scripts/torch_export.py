#!/usr/bin/env python3
"""PyTorch modules through torch.onnx.export, by both exporters, compiled, against PyTorch and ONNX Runtime.

    scripts/torch_export.py                                    all modules, both exporters, opsets 17, 18, 20, 21, 23
    scripts/torch_export.py lstm decoder --exporters dynamo --opsets 18
    scripts/torch_export.py --keep DIR                         leave the exported files in DIR

Needs torch (not part of onnxkiln): pip install torch --index-url https://download.pytorch.org/whl/cpu. Each module runs
at the sizes it was exported at and at others. Exit code 1 where an answer is wrong or a module does not compile; what
torch itself does not export is counted and listed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import checkout  # noqa: F401  (makes onnxkiln importable)
from torch_modules.check import EXPORTERS, NOT_EXPORTED, NOT_TORCH, RIGHT, Result, check
from torch_modules.samples import SAMPLES

OPSETS = (17, 18, 20, 21, 23)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check each module; 1 if one is not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="MODULE", help=f"of {', '.join(SAMPLES)} (default: all)")
    parser.add_argument("--exporters", default=",".join(EXPORTERS), help="comma-separated (default: both)")
    parser.add_argument("--opsets", default=",".join(map(str, OPSETS)), help="comma-separated")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the exported files in DIR")
    parser.add_argument("--record", action="store_true", help="with --keep: an .npz of inputs and outputs beside each")
    options = parser.parse_args(arguments)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="onnxkiln-torch-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.names or SAMPLES:
            for exporter in options.exporters.split(","):
                if exporter not in SAMPLES[name].exporters:
                    continue
                for opset in map(int, options.opsets.split(",")):
                    results.append(check(SAMPLES[name], exporter, opset, folder, options.record))
                    print(results[-1], flush=True)
    counts = Counter(result.outcome for result in results)
    print(f"{len(results)} exports: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    return 0 if set(counts) <= {RIGHT, NOT_EXPORTED, NOT_TORCH} else 1


if __name__ == "__main__":
    raise SystemExit(main())
