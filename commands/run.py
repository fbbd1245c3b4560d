"""``onnxkiln run``: feed an artifact from files, keep its outputs, say how long it took."""

from __future__ import annotations

import argparse
import re
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .output import format_table, print_json

if TYPE_CHECKING:
    import numpy as np

    from ..artifacts.session import Session


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "run",
        parents=[common],
        allow_abbrev=False,
        help="run an artifact on inputs from files",
        description="Run the artifact ARTIFACT once and write each output to a .npy file. Running an artifact runs "
        "native code: use only artifacts from a source you trust.",
    )
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="an artifact folder")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="FILE",
        help="x.npy (the only input), NAME=x.npy, feeds.npz (arrays by input name), or the word random: floats from "
        "the normal distribution, integers 0 and 1 (repeatable)",
    )
    parser.add_argument(
        "--dim", action="append", default=[], metavar="NAME=SIZE", help="size of an open dim of random inputs"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the outputs here, as NAME.npy")
    parser.add_argument("--repeat", type=_positive, default=1, metavar="N", help="run N times and show the latency")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads (default: one per physical core)")
    parser.set_defaults(execute=execute)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def execute(options: argparse.Namespace) -> None:
    from .. import load
    from .feeds import read_feeds

    with load(options.artifact, threads=options.threads) as session:
        session.contract.require_tensors("the command line runs models of tensors only")
        feeds = read_feeds(options.input, options.dim, session.contract)
        outputs, times = _run(session, feeds, options.repeat)
        names = [spec.name for spec in session.contract.outputs]
    files = _write(options.output, names, outputs) if options.output else [None] * len(names)
    result = {
        "outputs": [_describe(*output) for output in zip(names, outputs, files)],
        "runs": len(times),
        "ms": {"median": statistics.median(times), "fastest": min(times), "slowest": max(times)},
    }
    if options.json:
        print_json(result)
    else:
        _show(result)


def _run(session: Session, feeds: dict[str, np.ndarray], repeat: int) -> tuple[list[np.ndarray], list[float]]:
    """The outputs and each run's milliseconds; a first run that warms caches is not counted when there are several."""
    outputs = session.run(None, feeds) if repeat > 1 else []
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        outputs = session.run(None, feeds)
        times.append(1000 * (time.perf_counter() - start))
    return outputs, times


def _write(folder: Path, names: list[str], outputs: list[np.ndarray]) -> list[str]:
    """One file per output. Names may hold anything, so what a file name shouldn't is replaced and clashes numbered."""
    import numpy as np

    try:
        folder.mkdir(parents=True, exist_ok=True)
        files: list[str] = []
        for index, (name, output) in enumerate(zip(names, outputs)):
            stem = re.sub(r"[^\w.-]", "_", name).strip(".") or "output"
            file = f"{stem}.npy" if f"{stem}.npy" not in files else f"{stem}.{index}.npy"
            np.save(folder / file, output, allow_pickle=False)
            files.append(file)
    except OSError as error:
        message = f"outputs can't be written to {folder}: {error.strerror}"
        raise UsageError(message, hint="name another folder") from error
    return [str(folder / file) for file in files]


def _describe(name: str, value: np.ndarray, file: str | None) -> dict[str, Any]:
    numbers = value.astype("float64") if value.size and value.dtype.kind != "c" else None
    return {
        "name": name,
        "dtype": value.dtype.name,
        "shape": list(value.shape),
        "min": None if numbers is None else float(numbers.min()),
        "max": None if numbers is None else float(numbers.max()),
        "file": file,
    }


def _show(result: dict[str, Any]) -> None:
    rows = [
        (
            output["name"],
            output["dtype"],
            output["shape"],
            "-" if output["min"] is None else f"{output['min']:.6g} to {output['max']:.6g}",
            output["file"] or "-",
        )
        for output in result["outputs"]
    ]
    print(format_table(("output", "dtype", "shape", "values", "file"), rows))
    ms = result["ms"]
    print(f"\n{result['runs']} run(s): {ms['median']:.3f} ms (from {ms['fastest']:.3f} to {ms['slowest']:.3f})")
