"""What people read off a quantized model's outputs: there its answer has to be ONNX Runtime's, whatever it rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from accuracy_check.lines import rendered
from line_reader import decode, model_characters
from zoo_check.cases import Feeds

Array = npt.NDArray[Any]
Run = Callable[[Feeds], Sequence[Array]]
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


def text(model: Path, feeds: Feeds, ours: Run, theirs: Run) -> tuple[str, list[str]]:
    """The picture's line and eight rendered ones are read as ONNX Runtime reads them."""
    characters = model_characters({item.key: item.value for item in _loaded(model).metadata_props}["character"])
    random, name = np.random.default_rng(5), next(iter(feeds))
    pictures = [feeds, *({name: rendered(line, random)["x"]} for line in TEXTS)]
    read = [tuple(decode(run(picture)[0], characters) for run in (ours, theirs)) for picture in pictures]
    wrong = [f"reads {a!r}, ONNX Runtime {b!r}" for a, b in read if a != b]
    return f"{len(read) - len(wrong)} of {len(read)} lines, {sum(map(len, (b for _, b in read)))} characters", wrong


def best_class(model: Path, feeds: Feeds, ours: Run, theirs: Run) -> tuple[str, list[str]]:
    """The picture is of the same class."""
    found, expected = (int(run(feeds)[0].argmax()) for run in (ours, theirs))
    return f"class {found}", [] if found == expected else [f"class {found}, ONNX Runtime {expected}"]


def direction(model: Path, feeds: Feeds, ours: Run, theirs: Run) -> tuple[str, list[str]]:
    """Each word's vector points where ONNX Runtime's does."""
    found, expected = (run(feeds)[0].astype(np.float64) for run in (ours, theirs))
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    least = float(((found * expected).sum(axis=-1) / lengths).min())
    return f"cosine {least:.5f}", [] if least >= NEAR else [f"a cosine of {least:.5f} to ONNX Runtime's vector"]


def _loaded(model: Path) -> onnx.ModelProto:
    return onnx.load(model, load_external_data=False)


MEANINGS = {"ppocr_rec": text, "efficientnet_lite0": best_class, "minilm_l3": direction}
"""By model: takes the file, a realistic input and both runs; gives words for the table and what is wrong."""
