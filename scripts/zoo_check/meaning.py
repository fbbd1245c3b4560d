"""What people read off a quantized model's outputs: there its answer has to be ONNX Runtime's, whatever it rounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from accuracy_check.lines import distance, rendered
from line_reader import decode, model_characters
from zoo_check.cases import Feeds
from zoo_check.spread import FACTOR, Run

TEXTS = (
    "A compiler translates a program",
    "into machine code, and a good one",
    "makes it fast without changing",
    "what it means. 1234567890",
    "The quick brown fox jumps over",
    "the lazy dog; Invoice No. 40718",
    "Total: 1,299.00 EUR",
    "Chapter 7. Quantized networks",
)
NEAR = 0.98
"""The least cosine of two vectors of a sentence: between ONNX Runtime's own answers it is about 0.99."""


def text(model: Path, feeds: Feeds, ours: Run, theirs: Sequence[Run]) -> tuple[str, list[str]]:
    """The picture's line reads the same, and eight harder ones as nearly so as ONNX Runtime's own answers do."""
    characters = model_characters({item.key: item.value for item in _loaded(model).metadata_props}["character"])
    random, name = np.random.default_rng(5), next(iter(feeds))
    pictures = [feeds, *({name: rendered(line, random)["x"]} for line in TEXTS)]
    runs = (ours, *theirs)
    found, expected, *others = ([decode(run(picture)[0], characters) for picture in pictures] for run in runs)
    wrong = [f"reads {found[0]!r}, ONNX Runtime {expected[0]!r}"] if found[0] != expected[0] else []
    apart, own = _edits(found, expected), max(_edits(other, expected) for other in others)
    if apart > FACTOR * own:
        wrong.append(f"{apart} characters from ONNX Runtime's texts, its own answers {own}: {found}, {expected}")
    return f"{apart} of {sum(map(len, expected))} characters differ (its own: up to {own})", wrong


def _edits(first: Sequence[str], second: Sequence[str]) -> int:
    return sum(distance(a, b) for a, b in zip(first, second, strict=True))


def best_class(model: Path, feeds: Feeds, ours: Run, theirs: Sequence[Run]) -> tuple[str, list[str]]:
    """The picture is of the same class."""
    found, expected = (int(run(feeds)[0].argmax()) for run in (ours, theirs[0]))
    return f"class {found}", [] if found == expected else [f"class {found}, ONNX Runtime {expected}"]


def direction(model: Path, feeds: Feeds, ours: Run, theirs: Sequence[Run]) -> tuple[str, list[str]]:
    """Each word's vector points where ONNX Runtime's does."""
    found, expected = (run(feeds)[0].astype(np.float64) for run in (ours, theirs[0]))
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    least = float(((found * expected).sum(axis=-1) / lengths).min())
    return f"cosine {least:.5f}", [] if least >= NEAR else [f"a cosine of {least:.5f} to ONNX Runtime's vector"]


def _loaded(model: Path) -> onnx.ModelProto:
    return onnx.load(model, load_external_data=False)


MEANINGS = {"ppocr_rec": text, "efficientnet_lite0": best_class, "minilm_l3": direction}
"""By model: takes the file, a realistic input, our run, ONNX Runtime's and others of its own; gives words for the table
and what is wrong."""
