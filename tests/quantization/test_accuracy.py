"""Metrics, budgets, and the search for the fewest layers in floating point."""

import numpy as np
import pytest
from quantized_models import noise

from onnxkiln.errors import UsageError
from onnxkiln.quantization.accuracy import agreement, cosine, evaluated, fewest, parse_budget


def test_agreement_counts_equal_decisions():
    a = np.array([[1, 2, 0], [5, 1, 1.0]], np.float32)
    assert agreement([([a], [a * 1.01]), ([a], [a[:, ::-1]])]) == 3 / 4
    assert agreement([([np.arange(4)], [np.array([0, 1, 9, 3])])]) == 0.75
    with pytest.raises(UsageError, match="no decisions"):
        agreement([([noise(3, 1)], [noise(3, 1)])])


def test_cosine_is_the_mean_over_samples():
    a = np.array([1, 0], np.float32)
    b = np.array([0, 1], np.float32)
    assert cosine([([a], [a * 3]), ([a], [b])]) == pytest.approx(0.5)
    assert cosine([([a * 0], [a * 0])]) == 1
    assert cosine([([a], [a * 0])]) == 0
    with pytest.raises(UsageError, match="no float output"):
        cosine([([np.arange(3)], [np.arange(3)])])


@pytest.mark.parametrize(
    ("text", "value", "least"), [("1%", 80.0, 79.2), ("0.5", 80.0, 79.5), (0.02, -1.0, -1.02), ("10 %", -2.0, -2.2)]
)
def test_budgets(text, value, least):
    assert parse_budget(text, None).least(value) == pytest.approx(least)


@pytest.mark.parametrize("text", ["", "-1%", "one", "1%%", "nan", "1e400x"])
def test_what_is_no_budget(text):
    with pytest.raises(UsageError, match="neither a share"):
        parse_budget(text, None)


def test_a_metric_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "my_metrics.py").write_text("def good(session): return 0.5\ndef bad(session): return session.missing\n")
    monkeypatch.chdir(tmp_path)
    assert evaluated("my_metrics:good", None) == 0.5
    with pytest.raises(UsageError, match=r"the metric my_metrics:bad failed: AttributeError"):
        evaluated("my_metrics:bad", None)
    with pytest.raises(UsageError, match="nan, which is no measure"):
        evaluated(lambda _session: float("nan"), None)
    with pytest.raises(UsageError, match=r"metric nothing: no such file"):
        evaluated("nothing", None)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 50])
def test_the_fewest_layers_are_found_with_few_questions(count):
    order = [f"layer{i}" for i in range(count)]
    for needed in range(count + 1):
        asked = []

        def holds(names, needed=needed, asked=asked):
            asked.append(len(names))
            return len(names) >= needed

        assert fewest(order, holds) == order[:needed]
        assert len(asked) <= 2 * np.log2(count + 1) + 3
        assert len(set(asked)) == len(asked)
    assert fewest(order, lambda _names: False) is None
