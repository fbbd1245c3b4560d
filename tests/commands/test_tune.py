"""``onnxkiln tune`` and ``compile --tune``: what is measured once serves every later build."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tuning_cases as cases
from rich.console import Console

from onnxkiln.commands.tuning_display import TuningDisplay, format_seconds, headline, picture
from onnxkiln.tuning import session as session_module
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.search import Search

MODEL = Path(__file__).parents[1] / "models" / "simple_model.onnx"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(session_module, "MEASURE_SECONDS", 0.01)


def library(artifact):
    return (artifact / "model.so").read_bytes()


def prefer_another(path, manifest):
    """Have the log say, of one kernel measured, that a candidate other than the manifest's is by far the fastest."""
    used = [entry["parameters"] for entry in manifest["tuning_records"]]
    with TuningLog.open(path, shipped=False) as log:
        record = next(one for one in log.records() if one.status == "ok" and dict(one.parameters) not in used)
        log.extend(dataclasses.replace(record, seconds=(n * 1e-9,) * 3) for n in range(1, 9))


def test_a_second_build_measures_nothing_and_has_the_same_bytes(kiln, tmp_path):
    common = ("compile", MODEL, "--no-runtime", "--log", tmp_path / "log.sqlite", "--no-shipped-log", "--json")

    def build(name, *options):
        outcome = kiln(*common, "-o", tmp_path / name, *options)
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    untuned = build("untuned")
    assert (untuned["measurements"], untuned["log_hits"]) == (0, 0) and untuned["tasks"] > 0
    first = build("first", "--tune", "8t")
    assert first["measurements"] == 8 and first["log_hits"] == 0
    second = build("second", "--tune", "8t")
    assert second["measurements"] == 0 and second["log_hits"] == second["tasks"] == first["tasks"]
    plain = build("plain")
    assert plain["measurements"] == 0 and plain["log_hits"] == plain["tasks"]
    for name in ("second", "plain"):
        assert library(tmp_path / name) == library(tmp_path / "first")
        assert (tmp_path / name / "manifest.json").read_bytes() == (tmp_path / "first" / "manifest.json").read_bytes()
    manifest = json.loads((tmp_path / "first" / "manifest.json").read_text())
    assert [record["from"] for record in manifest["tuning_records"]] == ["exact"] * first["tasks"]
    again = build("first", "--tune", "8t")
    assert again["up_to_date"] and again["log_hits"] == first["tasks"]
    # What was built without the log is no longer what would be built with it, once that knows better than the default.
    prefer_another(tmp_path / "log.sqlite", json.loads((tmp_path / "untuned" / "manifest.json").read_text()))
    refused = kiln(*common, "-o", tmp_path / "untuned", "--tune", "8t")
    assert refused.code == 2 and "has other parameters now" in refused.err
    assert kiln("run", tmp_path / "first", "--input", "random", "--dim", "batch=3").code == 0


def test_without_a_log_nothing_changes(kiln, tmp_path):
    common = ("compile", MODEL, "--no-runtime", "--no-shipped-log", "--json")
    assert json.loads(kiln(*common, "-o", tmp_path / "a").out)["log_hits"] == 0
    assert json.loads(kiln(*common, "-o", tmp_path / "b", "--log", tmp_path / "none.sqlite").out)["log_hits"] == 0
    assert library(tmp_path / "a") == library(tmp_path / "b")
    assert not (tmp_path / "none.sqlite").exists()
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert {record["from"] for record in manifest["tuning_records"]} == {"default"}


def test_a_dry_run_measures_nothing_and_lists_the_kernels(kiln, tmp_path):
    log = tmp_path / "log.sqlite"
    outcome = kiln("tune", MODEL, "--dry-run", "--log", log, "--no-shipped-log")
    assert outcome.code == 0 and "the log knows 0 of them" in outcome.out
    assert "matmul" in outcome.out and " %" in outcome.out
    assert not log.exists()


def test_tuning_goes_on_and_says_what_it_found(kiln, tmp_path):
    common = ("tune", MODEL, "--log", tmp_path / "log.sqlite", "--no-shipped-log", "--budget", "3t")
    first = json.loads(kiln(*common, "--json").out)["targets"][0]
    assert first["measurements"] == 3 and first["isa"] == cases.HOST.isa.name
    assert sum(task["share"] for task in first["tasks"]) == pytest.approx(1)
    outcome = kiln(*common)
    assert "3 measurements" in outcome.out
    with TuningLog.open(tmp_path / "log.sqlite", write=False) as log:
        assert len(log) == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "soon"], "neither a time nor a number"),
        (["--target", "cpu:aarch64", "--budget", "1t"], "can't be tuned on this machine"),
        (["--target", "toaster"], "toaster"),
    ],
)
def test_wrong_options_are_refused_with_words(kiln, tmp_path, options, words):
    outcome = kiln("tune", MODEL, "--log", tmp_path / "log.sqlite", *options)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
    refused = kiln("compile", MODEL, "-o", tmp_path / "out", "--tune", "soon")
    assert refused.code == 2 and not (tmp_path / "out").exists()


def test_ctrl_c_keeps_what_was_measured_and_ends_the_workers(tmp_path):
    log = tmp_path / "log.sqlite"
    command = [sys.executable, "-m", "onnxkiln.cli", "tune", MODEL, "--log", log, "--budget", "600s"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        _wait_for(lambda: log.exists() and _count(log) >= 2, process)
        children = _children(process.pid)
        assert len(children) >= 2
        os.killpg(process.pid, signal.SIGINT)
        _, words = process.communicate(timeout=60)
    finally:
        process.kill()
    if process.returncode != 0:  # not done before the signal came
        assert process.returncode == 130 and "are in the log" in words and "Traceback" not in words
    assert _count(log) >= 2
    _wait_for(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))
    assert not list(tmp_path.glob("onnxkiln-tune-*"))


def _count(log):
    with TuningLog.open(log, write=False) as opened:
        return len(opened)


def _children(pid):
    """Each thread has its own: the builder is started by the one that talks to it."""
    return [int(one) for file in Path(f"/proc/{pid}/task").glob("*/children") for one in file.read_text().split()]


def _wait_for(condition, process=None):
    for _ in range(600):
        if condition() or (process is not None and process.poll() is not None):
            return
        time.sleep(0.1)
    raise AssertionError("it never came to that")


def test_the_picture_shows_latency_progress_and_time_left():
    first, second = cases.tasks(12)
    search = Search([cases.search_of(first), cases.search_of(second)])
    snapshot = SimpleNamespace(search=search, measurements=0, elapsed=0.0, left=60.0, trials=None, current="")
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(picture(snapshot))
    default, other = first.choices.candidates[:2]
    search.tasks[0].tell(default, cases.record_of(first, default, 2e-5))
    search.tasks[0].tell(other, cases.record_of(first, other, 1e-5))
    snapshot.measurements, snapshot.current = 2, first.text
    console.print(picture(snapshot))
    text = console.export_text()
    assert "starting the workers" in text and "60 s left" in text and "2 measured" in text
    assert "20 us" in text and "10 us" in text and f"{first.flops / 1e-5 / 1e9:.1f}" in text and "100 %" in text
    snapshot.left, snapshot.trials = None, 7
    assert "5 left" in headline(snapshot)
    with TuningDisplay(visible=False) as display:
        display.show(snapshot)
    assert display.measurements == 2


def test_latencies_are_shown_in_the_unit_that_suits_them():
    assert [format_seconds(s) for s in (2.0, 0.0123, 4.5e-6)] == ["2 s", "12.3 ms", "4.5 us"]
