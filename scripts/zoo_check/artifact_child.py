"""Runs an artifact on the kept cases and compares, in a process that has neither TVM nor ONNX.

    python -m zoo_check.artifact_child ARTIFACT WORK

Reads what ``reference_child`` printed from WORK/reference.json; prints JSON: for each case its name, its problems (none
when all outputs agree), the largest error and the largest share of the tolerance used up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import checkout  # noqa: F401  (makes onnxkiln importable)
import onnxkiln
from onnxkiln.compare import Comparison, compare_all
from zoo_check.rounding import compare_rounded


def main() -> None:
    artifact, work = sys.argv[1], Path(sys.argv[2])
    reference = json.loads((work / "reference.json").read_text())
    results = []
    with onnxkiln.load(artifact) as session:
        for case in reference["cases"]:
            if case["refused"] is None:
                results.append({"case": case["case"], **_check(session, work, case["number"], reference)})
                if "own" in case:
                    results[-1]["own"] = case["own"]
    imported = sorted({"tvm", "onnx", "onnxruntime"} & set(sys.modules))
    if imported:
        raise SystemExit(f"{imported} came into the process that runs the artifact")
    print(json.dumps(results))


def _check(session: Any, work: Path, number: int, reference: dict[str, Any]) -> dict[str, Any]:
    with np.load(work / f"{number}.feeds.npz") as file:
        feeds = dict(file)
    with np.load(work / f"{number}.outputs.npz") as file:
        expected = [file[str(index)] for index in range(len(file.files))]
    try:
        found = session.run(None, feeds)
    except Exception as error:
        return {"problems": [f"{type(error).__name__}: {error}"], "error": None, "used": None}
    comparisons = _compare(reference, expected, found)
    return {
        "problems": [str(item) for item in comparisons if item.problem],
        "error": max(item.error for item in comparisons),
        "used": max(item.used for item in comparisons),
    }


def _compare(reference: dict[str, Any], expected: list[Any], found: list[Any]) -> list[Comparison]:
    names, limit = reference["outputs"], reference["rounds"]
    if limit is None or len(expected) != len(found):
        return compare_all(names, expected, found)
    return [compare_rounded(*output, limit) for output in zip(names, expected, found, strict=True)]


if __name__ == "__main__":
    main()
