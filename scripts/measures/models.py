"""A model to measure: its file, its artifact, and the job that engines are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench_models.artifacts import FOLDER, compiled, listed_feeds
from bench_models.catalog import load_models
from onnxkiln.benchmarking.benchmark import make_job
from onnxkiln.benchmarking.processes import Job


@dataclass(frozen=True)
class Prepared:
    """``job`` is for ``EngineProcess``, one thread."""

    name: str
    model: Path
    artifact: Path
    job: Job


def prepare(name: str, scratch: Path, folder: Path = FOLDER) -> Prepared:
    """Fetch or make the model and compile it, unless that is done; its feeds go to ``scratch``."""
    (item,) = load_models([name])
    model = item.path()
    artifact = compiled(model, folder / "artifacts" / name)
    (scratch / name).mkdir()
    job = make_job(artifact, model, listed_feeds(item.listed, artifact), 1, scratch / name)
    return Prepared(name, model, artifact, job)
