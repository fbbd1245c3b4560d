"""Tables: every engine has a row, whatever became of it, and cells say what they should."""

import pytest

from onnxkiln.benchmarking.engines import ENGINES, PEERS, parse_peers
from onnxkiln.benchmarking.report import HEADER, BenchReport, Entry, Measured, headline, remarks, rows, to_markdown
from onnxkiln.errors import UsageError

OURS = Measured(1.25, 2.0, 12.5, 750.0, 80.4, 3.0, 40_000_000, 50_000_000, 20_400_000, 1.0, 99)
PEER = Measured(0.0123, 150.0, 2345.6, 2.0, 99.6, 3.0, 61_250_000, 70_000_000, 9e7, 1.944, 9, "y|z: shape differs")
MACHINE = {"cpu": "A CPU", "cpus": 2, "isa": "x86-64-v4", "python": "3.11.1"}
REPORT = BenchReport(
    "a.kiln", "model.so", "m.onnx", 2, 3, MACHINE, {"x": "float32[1]"},
    (Entry("onnxkiln", "0.1.0", OURS), Entry("openvino", "2026", PEER), Entry("tract", None, None, "not installed")),
)  # fmt: skip


def test_rows():
    assert rows(REPORT) == [
        ("onnxkiln", "0.1.0", "750.0", "1.25", "2.00", "12.50", "1.00", "40.0", "80", "20.4"),
        ("OpenVINO", "2026", "2.00", "0.0123", "150.0", "2346", "1.94", "61.2", "100", "90.0"),
        ("tract", "-", "-", "-", "-", "-", "-", "-", "-", "-"),
    ]


def test_remarks_and_headline():
    said = remarks(REPORT)
    assert said[:2] == ["tract: not installed", "OpenVINO: its outputs differ from onnxkiln's: y|z: shape differs"]
    assert ENGINES["openvino"].remark in said and ENGINES["tract"].remark not in said
    assert "a.kiln (model.so) on 2 thread(s) of A CPU (2 CPUs, x86-64-v4)" in headline(REPORT)


def test_markdown_has_a_cell_for_each_column():
    lines = [line for line in to_markdown(REPORT).splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert all(line.count("|") == len(HEADER) + 1 for line in lines)
    assert "| tract | - |" in lines[4]


def test_names_of_engines():
    assert [engine.name for engine in parse_peers("tvm, onnxruntime,tvm")] == ["tvm", "onnxruntime"]
    assert parse_peers("") == []
    with pytest.raises(UsageError, match="no engine 'unicorn'") as caught:
        parse_peers("unicorn")
    assert ", ".join(PEERS) in str(caught.value)
