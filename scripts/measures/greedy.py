"""SmolLM2 goes on with three prompts, greedily, from its past/present interface: the tokens are ONNX Runtime's.

There is no tokenizer here: prompts are tokens of their own, drawn from the vocabulary, or repeated in a pattern.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import onnxkiln

from .models import prepare

TOKENS = 64
PROMPTS: tuple[tuple[int, ...], ...] = (
    (504, 3575, 282, 4649, 314),
    tuple(int(token) for token in np.random.default_rng(0).integers(17, 40_000, 41)),
    (28, 330, 253, 732, 28, 330, 253, 732, 28, 330, 253),
)
"""Ids of SmolLM2's vocabulary: the beginning of a sentence, random words, a repetition."""

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def measure(name: str = "smollm2_135m") -> dict[str, Any]:
    """How many tokens of each prompt's continuation are equal, up to the first that differs."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(name, Path(scratch))
        peer = onnxruntime.InferenceSession(prepared.model, providers=["CPUExecutionProvider"])
        names = [item.name for item in peer.get_outputs()]
        with onnxkiln.load(prepared.artifact, threads=1) as session:
            specs = {spec.name: spec.shape for spec in session.contract.inputs}
            equal = []
            for prompt in PROMPTS:
                ours = continued(lambda feeds: session.run(names, feeds), specs, names, prompt)
                theirs = continued(lambda feeds: peer.run(names, feeds), specs, names, prompt)
                same = [a == b for a, b in zip(ours, theirs, strict=True)]
                equal.append(same.index(False) if False in same else TOKENS)
    return {"model": name, "equal": equal, "tokens": TOKENS, "passed": all(count == TOKENS for count in equal)}


def continued(
    run: Run,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    prompt: Sequence[int],
    count: int = TOKENS,
) -> list[int]:
    """``count`` tokens after the prompt, each the most likely one; past keys and values are fed back."""
    pasts = [name for name in inputs if name.startswith("past")]
    presents = [name for name in outputs if name.startswith("present")]
    cache = {name: np.zeros([_size(dim) for dim in inputs[name]], np.float32) for name in pasts}
    tokens, fresh = [], np.array([prompt], np.int64)
    for _ in range(count):
        results = dict(zip(outputs, run({"input_ids": fresh, **cache}), strict=True))
        logits = next(value for name, value in results.items() if name not in presents)
        tokens.append(int(np.argmax(logits[0, -1])))
        fresh = np.array([[tokens[-1]]], np.int64)
        cache = {past: results[present] for past, present in zip(pasts, presents, strict=True)}
    return tokens


def _size(dim: int | str) -> int:
    """Of an empty past: a batch of 1, no tokens, the fixed dims as they are."""
    return dim if isinstance(dim, int) else int(dim == "batch")


def show(found: dict[str, Any]) -> str:
    """In words."""
    counts = ", ".join(str(count) for count in found["equal"])
    return f"{found['model']}: of {found['tokens']} greedy tokens after each prompt are ONNX Runtime's {counts}"
