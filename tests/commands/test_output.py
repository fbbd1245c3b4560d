"""Tables and sizes as they are printed."""

import pytest

from onnxkiln.commands.output import format_bytes, format_table


def test_numbers_are_aligned_to_the_right():
    table = format_table(("name", "n"), [("a", 5), ("long name", 123)])
    assert table.splitlines() == ["name         n", "a            5", "long name  123"]


def test_a_table_without_rows_is_its_header():
    assert format_table(("name", "n"), []) == "name  n"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (4096, "4.1 kB"), (5_000_000, "5.0 MB"), (2.5e9, "2.50 GB")]
)
def test_sizes(count, text):
    assert format_bytes(count) == text
