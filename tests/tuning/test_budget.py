"""Budgets of time and of trials, and what is none."""

import pytest

from onnxkiln.errors import UsageError
from onnxkiln.tuning.budget import Budget, parse_budget


def test_times_and_trials():
    assert parse_budget("60s") == Budget(seconds=60)
    assert parse_budget("1.5m") == Budget(seconds=90)
    assert parse_budget("2h") == Budget(seconds=7200)
    assert parse_budget("200t") == Budget(trials=200)


@pytest.mark.parametrize("text", ["", "60", "60 s", "-1s", "0s", "0t", "1.5t", "1e3s", "60S", "٦٠s", "9" * 9 + "s"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match="neither a time nor a number of trials"):
        parse_budget(text)
