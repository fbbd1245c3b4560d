"""One model through all steps. Each step is a child process, so that none profits or suffers from another."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxkiln.artifacts.opening import OpenArtifact
from zoo_models.catalog import Entry

SCRIPTS = Path(__file__).resolve().parent.parent
ALWAYS_ACCEPTED = 4
"""The first cases, the realistic one and three seeds, have sizes that ONNX Runtime must accept."""

MOST_RATIO = 8.0
"""No model may take longer than this many times ONNX Runtime's time."""

TIMEOUT_S = 900
"""A step that takes longer is given up."""


@dataclass(frozen=True)
class Options:
    """``processes`` to time in, 0 for no timing; ``folder`` of the models (None: the cache); ``keep`` artifacts in."""

    level: str = "O2"
    threads: int = 1
    processes: int = 1
    folder: Path | None = None
    keep: Path | None = None


class StepFailed(Exception):
    """A child process ended with an error; the message is its last words."""


def check_model(entry: Entry, options: Options) -> dict[str, Any]:
    """Compile, compare and time one model; a result with ``passed`` and, where a step failed, ``failure``."""
    from zoo_models.fetch import fetch

    result: dict[str, Any] = {"model": entry.name, "level": options.level, "threads": options.threads}
    result |= {"limit_s": entry.limit_s}
    model = fetch(entry, options.folder)
    with tempfile.TemporaryDirectory(prefix="onnxkiln-zoo-") as scratch:
        work = Path(scratch)
        artifact = (options.keep or work) / entry.name
        try:
            result |= {"compile": _child("compile_child", model, artifact, options.level, json.dumps(entry.shapes))}
            result |= {"cases": _compare(entry, model, artifact, work)}
            if options.processes:
                result |= {"latency": _latency(artifact, model, work, options)}
        except StepFailed as failure:
            result |= {"failure": str(failure)}
    return {**result, "passed": _passed(result, entry)}


def _compare(entry: Entry, model: Path, artifact: Path, work: Path) -> list[dict[str, Any]]:
    """All cases: compared, or refused by ONNX Runtime itself."""
    with OpenArtifact(artifact) as opened:
        inputs = [spec.to_json() for spec in opened.manifest.contract.inputs]
    (work / "inputs.json").write_text(json.dumps(inputs))
    reference = _child("reference_child", entry.name, model, work)
    (work / "reference.json").write_text(json.dumps(reference))
    compared = {case["case"]: case for case in _child("artifact_child", artifact, work)}
    refused = {case["case"]: {"case": case["case"], "refused": case["refused"]} for case in reference["cases"]}
    return [compared.get(name, refused[name]) for name in refused]


def _latency(artifact: Path, model: Path, work: Path, options: Options) -> dict[str, float]:
    """Medians over fresh processes, on the listed sizes (case 1, the first random seed)."""
    feeds = work / "1.feeds.npz"
    runs = [_child("latency_child", artifact, model, feeds, options.threads) for _ in range(options.processes)]
    ours, theirs = (statistics.median(run[side] for run in runs) for side in ("ours", "onnxruntime"))
    return {"ms": ours, "onnxruntime_ms": theirs, "ratio": ours / theirs}


def _passed(result: dict[str, Any], entry: Entry) -> bool:
    """All steps done, compiled in time to vector code, fast enough, each case that ONNX Runtime accepts agrees."""
    if "failure" in result or result["compile"]["seconds"] > entry.limit_s:
        return False
    if result["compile"]["scalar"] and not entry.extended:
        return False
    if result.get("latency", {}).get("ratio", 0.0) > MOST_RATIO:
        return False
    cases = result["cases"]
    return all("refused" not in case for case in cases[:ALWAYS_ACCEPTED]) and not any(
        case.get("problems") for case in cases
    )


def _child(step: str, *arguments: object) -> Any:
    """Run a step of this package and return the JSON that it prints last."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-m", f"zoo_check.{step}", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{step} was given up after {TIMEOUT_S} s") from None
    if done.returncode:
        words = done.stderr.strip().splitlines()[-12:] or [f"signal or exit code {done.returncode}"]
        raise StepFailed(f"{step} (exit {done.returncode}): " + "\n".join(words))
    return json.loads(done.stdout.strip().splitlines()[-1])
