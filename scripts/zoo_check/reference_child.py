"""Makes the cases of one model and runs them in ONNX Runtime; keeps feeds and outputs as files.

    python -m zoo_check.reference_child NAME MODEL.onnx WORK

Reads WORK/inputs.json (the artifact's inputs), writes WORK/<number>.feeds.npz and WORK/<number>.outputs.npz and prints
JSON: the output names, and for each case its name, its number and what ONNX Runtime said if it refused it.
A model that rounds its activations is run as it is written, with no optimization, and for each case it is said how far
ONNX Runtime's optimized run is from that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from zoo_check import realistic, realistic_extended
from zoo_check.cases import Feeds, Input, random_cases
from zoo_check.rounding import largest_distance
from zoo_models.catalog import Entry, load_catalog

MAKERS = {**realistic.MAKERS, **realistic_extended.MAKERS}


def main() -> None:
    name, model, work = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    (entry,) = load_catalog([name])
    session, optimized = _session(model, optimize=not entry.rounds), _session(model, optimize=True)
    inputs = [Input(**item) for item in json.loads((work / "inputs.json").read_text())]
    cases = []
    for number, (case, feeds) in enumerate(_cases(entry, inputs, session)):
        refused = _run(session, feeds, work, number)
        cases.append({"case": case, "number": number, "refused": refused})
        if entry.rounds and refused is None:
            cases[-1]["own"] = largest_distance(session.run(None, feeds), optimized.run(None, feeds))
    names = [output.name for output in session.get_outputs()]
    print(json.dumps({"outputs": names, "cases": cases, "rounds": entry.rounds}))


def _session(model: str, optimize: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _cases(entry: Entry, inputs: Sequence[Input], session: Any) -> Iterator[tuple[str, Feeds]]:
    yield entry.realistic, MAKERS[entry.realistic](inputs, lambda feeds: session.run(None, feeds))
    yield from random_cases(entry, inputs)


def _run(session: Any, feeds: Feeds, work: Path, number: int) -> str | None:
    """Run one case and keep it; the first line of the error where ONNX Runtime refuses these sizes."""
    try:
        outputs = session.run(None, feeds)
    except Exception as error:
        return str(error).splitlines()[0][:200]
    savez: Any = np.savez  # its annotation takes array names for options
    savez(work / f"{number}.feeds.npz", **feeds)
    # Output names need not be legal file names, and order matters: the files count them.
    savez(work / f"{number}.outputs.npz", **{str(index): output for index, output in enumerate(outputs)})
    return None


if __name__ == "__main__":
    main()
