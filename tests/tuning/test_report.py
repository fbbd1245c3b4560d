"""The report: one file that needs no other, with every task's figures, whatever is known of them."""

import math
import re
from html.parser import HTMLParser

import pytest

from onnxkiln.errors import KilnError
from onnxkiln.tuning.charts import horizontal, number, vertical
from onnxkiln.tuning.report import TaskReport, TuningReport, render, roof, write_report

CONV = TaskReport("conv2d 56x56x64, +relu", "conv2d", 4, 231e6, 2e6, 4e-3, 2e-3, 12, 1, "tile=7", "measured")
SMALL = TaskReport("matmul 1x1000x512", "matmul", 1, 1e6, 2e6, 1e-4, 1e-4, source="log")
UNKNOWN = TaskReport("softmax", "row_reduce", 2, 0, 0, None, None)
PROGRESS = [(0.0, 16e-3), (3.5, 10e-3), (9.0, 8e-3)]


def report(*tasks, **changes):
    values = {"model": "m.onnx", "machine": "a processor", "when": "2026-01-31T12:00:00Z", "budget": "60s",
              "tasks": tasks, "progress": PROGRESS, "gflops": 118.0, "gbytes": 12.0}  # fmt: skip
    return TuningReport(**{**values, **changes})


class Page(HTMLParser):
    """Elements, those left open, the table's cells and the text of a page."""

    VOID = {"meta"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.rows, self.words, self.attributes = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        self.words.append(data)

    def count(self, tag, kind):
        return sum(name == tag and attrs.get("class") == kind for name, attrs in self.tags)


def test_every_task_is_in_table_and_roofline():
    page = Page(render(report(SMALL, CONV)))
    assert not page.open
    (first, second) = page.rows[1:]
    assert first[:5] == ["1", CONV.text, "conv2d", "4", "99.4%"]
    assert first[5:] == ["4 ms", "2 ms", "2.00×", "115.5", "98%", "12", "1", "tile=7 (measured)"]
    assert second[7] == "1.00×"
    assert page.count("circle", "before") == page.count("circle", "after") == 2
    assert page.count("polyline", "roof") == page.count("polyline", "line") == 1
    assert "16.1 ms" in page.words and "8.1 ms" in page.words and "1.99×" in page.words


def test_the_page_needs_nothing_else():
    text = render(report(CONV, SMALL))
    assert not re.search(r"https?://|src=|href=|<script|@import|url\(", text)


def test_names_are_text_and_never_markup():
    evil = '<script>alert("x")</script>'
    task = TaskReport(evil, evil, 1, 1e6, 1e6, 1e-3, 1e-3, candidate=evil, source=evil)
    page = Page(render(report(task, model=evil, machine=evil, budget=evil, notes=[evil])))
    assert not any(tag == "script" for tag, _ in page.tags)
    assert "".join(page.words).count(evil) > 5


@pytest.mark.parametrize(
    "made",
    [
        report(),
        report(UNKNOWN),
        report(UNKNOWN, CONV, progress=[]),
        report(CONV, gflops=0.0, gbytes=0.0),
        report(CONV, gbytes=0.0),
        report(CONV, progress=[(0.0, 1e-3), (0.0, 1e-3)]),
        report(TaskReport("t", "t", 1, 1e6, 1e6, None, 1e-3)),
        report(TaskReport("t", "t", 1, 1e6, 1e6, 1e-3, None)),
        report(*[CONV] * 100),
    ],
)
def test_what_is_unknown_is_left_out(made):
    text = render(made)
    page = Page(text)
    assert not page.open
    assert len(page.rows) == 1 + len(made.tasks)
    assert "nan" not in text and "inf" not in text.replace("info", "")


def test_the_roof_is_arithmetic_or_memory():
    made = report(CONV)
    assert roof(made, 1.0) == 12.0
    assert roof(made, 1000.0) == 118.0
    assert roof(report(CONV, gflops=0.0), 1.0) == 0.0


def test_axes():
    x, y = horizontal(0, 60), vertical(1, 1000, is_log=True)
    assert x.ticks() == [0, 10, 20, 30, 40, 50, 60]
    assert y.ticks() == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert math.isclose(x.place(30), (x.start + x.end) / 2)
    assert math.isclose(y.place(10**1.5), (y.start + y.end) / 2)
    assert y.place(1000) < y.place(1)  # upwards
    assert [number(value) for value in (0, 0.5, 20, 1e-7, 123456)] == ["0", "0.5", "20", "1.0e-07", "1.2e+05"]


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.html"
    write_report(report(CONV), path)
    assert path.read_text(encoding="utf-8") == render(report(CONV))
    with pytest.raises(KilnError, match="can't be written"):
        write_report(report(CONV), tmp_path / "absent" / "out.html")
    assert [one.name for one in tmp_path.iterdir()] == ["out.html"]
