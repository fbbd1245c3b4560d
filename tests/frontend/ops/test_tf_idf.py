"""TfIdfVectorizer against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_check import Case, case, check_cases
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

RNG = np.random.default_rng(18)
POOL = [2, 3, 5, 4, 1, 2, 2, 3, 0, 1, 1, 2, 3, 4, 0, 1]
"""4 unigrams, 3 bigrams, 2 trigrams; outputs in another order."""


def _case(x: np.ndarray, mode: str, skips: int = 0, shortest: int = 1, longest: int = 3, **more: Any) -> Case:
    return case(
        "TfIdfVectorizer", x, mode=mode, max_skip_count=skips, min_gram_length=shortest, max_gram_length=longest,
        ngram_counts=[0, 4, 10], ngram_indexes=[3, 0, 1, 2, 6, 5, 8, 4, 7], pool_int64s=POOL, **more,
    )  # fmt: skip


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_against_runtime(dims: str) -> None:
    rows, weights = RNG.integers(0, 6, (5, 40)), [float(w) for w in RNG.random(9)]
    cases = [
        _case(rows, "TF", dims=dims),
        _case(rows, "TF", skips=3, dims=dims),
        _case(rows, "TFIDF", skips=2, shortest=2, longest=2, weights=weights, dims=dims),
        _case(rows, "IDF", skips=1, longest=2, weights=weights, dims=dims),
        _case(rows, "IDF", dims=dims),
        _case(rows[0].astype(np.int32), "TF", skips=1, shortest=3, dims=dims),
        _case(rows[:, :2], "TF", skips=4, dims=dims),
    ]
    check_cases([by_runtime(item) for item in cases])


def test_refusals() -> None:
    x = np.zeros((1, 3), np.int64)
    with pytest.raises(ConversionError, match="no n-grams of 2"):
        wrong = case(
            "TfIdfVectorizer", x, mode="TF", max_skip_count=0, min_gram_length=1, max_gram_length=2,
            ngram_counts=[0, 1], ngram_indexes=[0, 1], pool_int64s=[1, 2, 3, 4], expected=x,
        )  # fmt: skip
        check_cases([wrong])
