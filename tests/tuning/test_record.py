"""A record's text: the same for equal records, read back whole, and refused in words when it isn't one."""

import json
import math

import pytest
from tuning_records import WHOLE, make

from onnxkiln.errors import LogError
from onnxkiln.tuning.record import FORM_KEY, MAX_TEXT, from_text, from_values


@pytest.mark.parametrize(
    "record",
    [
        WHOLE,
        make(status="timeout", error="ended after 3 s\nin two lines"),
        make(task="größer\u2028", parameters={}, features={}),
        make(template="metaschedule", parameters={}, trace='[["GetSBlock"],[]]'),
        make(when="2026-01-31T12:00:00.123456+00:00"),
    ],
)
def test_text_and_back(record):
    text = record.to_text()
    assert "\n" not in text and text.isascii()
    assert from_text(text) == record
    assert from_text(text).digest == record.digest


def test_equal_records_have_equal_text_whatever_the_order_of_their_parameters():
    other = make(parameters={"blocks": 4, "pixels": 7}, features={"pixels": 7, "flops": 231211008.0})
    assert other.to_text() == WHOLE.to_text()
    assert make(threads=2).digest != WHOLE.digest


def test_the_latency_is_the_median_and_infinite_where_nothing_good_was_measured():
    assert WHOLE.latency == 2e-3
    assert make(status="wrong").latency == math.inf


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workload": "abc"}, "not a sha256"),
        ({"status": "fine"}, "none of ok"),
        ({"seconds": []}, "status 'ok' with 0"),
        ({"status": "crash"}, "status 'crash' with 3"),
        ({"seconds": [0.0]}, "positive"),
        ({"seconds": [-1.0]}, "positive"),
        ({"seconds": [math.nan]}, "positive"),
        ({"seconds": [10**400]}, "positive"),
        ({"seconds": "fast"}, "positive"),
        ({"parameters": {"pixels": 1.5}}, "parameters"),
        ({"parameters": {"pixels": True}}, "parameters"),
        ({"parameters": {"pixels": 1 << 70}}, "parameters"),
        ({"parameters": [1]}, "parameters"),
        ({"features": {"flops": math.inf}}, "features"),
        ({"threads": 0}, "threads"),
        ({"when": "yesterday"}, "UTC"),
        ({"when": "2026-01-31T12:00:00+02:00"}, "UTC"),
        ({"when": 5}, "UTC"),
        ({"task": None}, "task is not text"),
        ({"surplus": 1}, "unknown ['surplus']"),
        ({FORM_KEY: 2}, "form 2"),
    ],
)
def test_what_is_no_record_is_refused_in_words(changes, words):
    values = json.loads(WHOLE.to_text()) | changes
    with pytest.raises(LogError) as refused:
        from_values(values)
    assert words in refused.value.message


@pytest.mark.parametrize("missing", ["workload", "seconds", "features", FORM_KEY])
def test_a_missing_field_is_named(missing):
    values = json.loads(WHOLE.to_text())
    del values[missing]
    with pytest.raises(LogError, match=missing):
        from_values(values)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 5000, '{"a":1}', "x" * (MAX_TEXT + 1)])
def test_other_texts_are_refused(text):
    with pytest.raises(LogError, match="not a tuning record"):
        from_text(text)
