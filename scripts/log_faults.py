#!/usr/bin/env python3
"""What becomes of the tuning log when tuners are killed, run together, or run out of disk: with the real tuner.

    scripts/log_faults.py kill [MODEL] [--times 20]      kill -9 at random moments: no finished measurement is lost
    scripts/log_faults.py together [MODEL] [--seconds 300]   two tuners on one log: each finds all that it measured
    scripts/log_faults.py full [MODEL]                   a small file system fills up: words, and the records in it

MODEL is a benchmark model (default: mobilenet_v2). The exit code is 1 when something was lost. Tests do the same with
writers that measure nothing (``tests/tuning/test_log_faults.py``).
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import checkout
from bench_models.catalog import load_models
from onnxkiln.tuning.log import TuningLog

TUNER = """
import sys
sys.path.insert(0, sys.argv[1])
import checkout
from onnxkiln.compiler import tune
from onnxkiln.errors import KilnError
from onnxkiln.tuning.budget import Budget
model, log, seed, seconds = sys.argv[2:]
def say(snapshot):
    print("measured", snapshot.measurements, flush=True)
try:
    tune(model, budget=Budget(seconds=float(seconds)), log=log, seed=int(seed), observer=say)
except KilnError as error:
    print(error, flush=True)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fault", choices=["kill", "together", "full"])
    parser.add_argument("model", nargs="?", default="mobilenet_v2")
    parser.add_argument("--times", type=int, default=20, help="tuners to kill (default: 20)")
    parser.add_argument("--seconds", type=float, default=300, help="for two tuners at once (default: 300)")
    options = parser.parse_args(arguments)
    (model,) = load_models([options.model])
    with tempfile.TemporaryDirectory(prefix="onnxkiln-faults-") as folder:
        if options.fault == "kill":
            return kill(model.path(), Path(folder) / "log", options.times)
        if options.fault == "together":
            return together(model.path(), Path(folder) / "log", options.seconds)
        return full(model.path(), Path(folder) / "small")


def start(model: Path, log: Path, seed: int, seconds: float) -> subprocess.Popen[str]:
    given = [str(one) for one in (checkout.ROOT / "scripts", model, log, seed, seconds)]
    return subprocess.Popen([sys.executable, "-c", TUNER, *given], stdout=subprocess.PIPE, text=True)


def said(lines: Sequence[str]) -> int:
    """The last number of measurements that a tuner spoke of."""
    return max([int(line.split()[1]) for line in lines if line.startswith("measured")], default=0)


def records(log: Path) -> int:
    with TuningLog.open(log, shipped=False) as opened:
        return len(list(opened.records()))


def kill(model: Path, log: Path, times: int) -> int:
    """Each tuner is killed up to 3 s after its first measurement."""
    luck, lost = random.Random(0), 0
    for number in range(times):
        before = records(log)
        with start(model, log, number, 1e6) as tuner:
            assert tuner.stdout is not None
            lines = [tuner.stdout.readline()]
            while lines[-1] and said(lines) == 0:
                lines.append(tuner.stdout.readline())
            time.sleep(3 * luck.random())
            tuner.kill()
            lines += tuner.stdout.read().splitlines()
        found = records(log) - before
        # The last one may have been finished, and its tuner killed before it said so.
        lost += found not in (said(lines), said(lines) + 1)
        print(f"killed {number + 1}: said {said(lines)}, in the log {found}", flush=True)
    print(f"{times} killed, {records(log)} records, {lost} times something was lost")
    return int(lost > 0)


def together(model: Path, log: Path, seconds: float) -> int:
    """Their measurements together are the log."""
    tuners = [start(model, log, seed, seconds) for seed in (1, 2)]
    totals = [said(tuner.communicate()[0].splitlines()) for tuner in tuners]
    found = records(log)
    print(f"two tuners in {seconds:.0f} s: {totals[0]} + {totals[1]} measured, {found} in the log")
    return int(found != sum(totals) or any(tuner.returncode for tuner in tuners) or not all(totals))


def full(model: Path, folder: Path) -> int:
    """Needs the right to mount a file system."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)
    try:
        lines = start(model, folder / "log", 0, 600).communicate()[0].splitlines()
        with TuningLog.open(folder / "log", write=False, shipped=False) as opened:
            found = len(opened)
        print("\n".join(line for line in lines if not line.startswith("measured")))
        print(f"measured {said(lines)}, in the log {found}")
        return int(found != said(lines) or "no room" not in "\n".join(lines))
    finally:
        subprocess.run(["umount", folder], check=True)


if __name__ == "__main__":
    sys.exit(main())
