"""Reading ``--shape`` texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxkiln.contract import DimRange
from onnxkiln.errors import UsageError
from onnxkiln.shapes import parse_shapes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=1,3,224,224", {"x": (1, 3, 224, 224)}),
        ("x=1..64,3", {"x": (DimRange(1, 64), 3)}),
        ("x=1..,3", {"x": (DimRange(1, None), 3)}),
        ("x=batch,?,7", {"x": ("batch", None, 7)}),
        ("x=", {"x": ()}),
        ("x= 1 , 2", {"x": (1, 2)}),
        ("model/in:0=4", {"model/in:0": (4,)}),
        ("a=b=4", {"a=b": (4,)}),
        ("x=p2o.DynamicDimension.0,0", {"x": ("p2o.DynamicDimension.0", 0)}),
    ],
)
def test_reads(text, expected):
    assert parse_shapes([text]) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2", "names no input"),
        ("=1,2", "names no input"),
        ("x=1,,2", "'' is no dim"),
        ("x=-1", "'-1' is no dim"),
        ("x=1.5", "'1.5' is no dim"),
        ("x=5..2", "range 5..2 is empty"),
        ("x=..4", "'..4' is no dim"),
        ("x=99999999999", "larger than"),
        ("x=" + "9" * 5000, "larger than"),
        ("x=²", "is no dim"),
    ],
)
def test_refuses(text, words):
    with pytest.raises(UsageError, match="shape") as caught:
        parse_shapes([text])
    assert words in caught.value.message
    assert caught.value.hint


def test_refuses_a_second_shape_for_one_input():
    with pytest.raises(UsageError, match="given twice"):
        parse_shapes(["x=1", "x=2"])


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_with_words(text):
    try:
        shapes = parse_shapes([text])
    except UsageError:
        return
    assert len(shapes) == 1
