"""Artifacts of the measured models, and inputs for them."""

from __future__ import annotations

from pathlib import Path

import checkout
import onnxkiln
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.errors import UsageError
from zoo_check.cases import Feeds, Input, Listed, listed_sizes, random_feeds

FOLDER = checkout.ROOT / "build" / "bench"


def compiled(model: Path, artifact: Path) -> Path:
    """The artifact of ``model``, compiled unless it is up to date."""
    artifact.parent.mkdir(parents=True, exist_ok=True)
    try:
        return onnxkiln.compile(model, artifact)
    except UsageError:  # made by an earlier build of the compiler
        return onnxkiln.compile(model, artifact, force=True)


def listed_feeds(listed: Listed, artifact: Path) -> Feeds:
    """Random inputs of the sizes that the catalog lists."""
    with OpenArtifact(artifact) as opened:
        inputs = [Input(spec.name, spec.dtype, spec.shape) for spec in opened.manifest.contract.inputs]
    return random_feeds(listed, inputs, listed_sizes(listed, inputs), seed=0)
