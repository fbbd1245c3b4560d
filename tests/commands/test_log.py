"""``onnxkiln log``: what is known, and moving records."""

import json

import pytest
from tuning_records import WHOLE, make, several

from onnxkiln.tuning.log import TuningLog


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "log.sqlite"
    with TuningLog.open(path) as log:
        log.extend([*several(3), make(workload="other", status="crash", task="another task")])
    return path


def test_show(kiln, path):
    done = kiln("log", "show", "--log", path)
    assert done.code == 0
    header, best, failed = done.out.splitlines()[1:]
    assert header.split()[:3] == ["workload", "task", "class"]
    assert WHOLE.task in best and "pixels=0" in best and "231.2" in best
    assert "another task" in failed and "none good" in failed
    assert "another" not in kiln("log", "show", "--log", path, "--match", "conv2d 1x56").out
    shown = json.loads(kiln("log", "show", "--log", path, "--json").out)["workloads"]
    assert [(one["measured"], one["parameters"]) for one in shown] == [(3, {"pixels": 0}), (1, None)]


def test_stats(kiln, path):
    assert "4 record(s) of 2 workload(s)" in kiln("log", "stats", "--log", path).out
    figures = json.loads(kiln("log", "stats", "--log", path, "--json").out)
    assert figures["statuses"] == {"ok": 3, "crash": 1}
    assert figures["bytes"] == path.stat().st_size


def test_the_users_own_log_may_not_be_there_yet(kiln, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ONNXKILN_LOG")
    done = kiln("log", "stats")
    assert done.code == 0 and "0 record(s)" in done.out
    assert not list(tmp_path.iterdir())


def test_the_environment_names_the_log(kiln, path, monkeypatch):
    monkeypatch.setenv("ONNXKILN_LOG", str(path))
    assert "4 record(s)" in kiln("log", "stats").out
    monkeypatch.setenv("ONNXKILN_LOG", "none")
    assert kiln("log", "show").code == 2


def test_export_import_and_merge(kiln, path, tmp_path):
    lines, new, third = tmp_path / "log.jsonl", tmp_path / "new", tmp_path / "third"
    assert kiln("log", "export", lines, "--log", path).code == 0
    assert len(lines.read_text().splitlines()) == 4
    assert "4 record(s), 4 of them new" in kiln("log", "import", lines, "--log", new).out
    merged = json.loads(kiln("log", "merge", new, lines, "--log", third, "--json").out)
    assert [one["new"] for one in merged["sources"]] == [4, 0]
    assert merged["records"] == 4
    assert kiln("log", "export", lines, "--log", path, "--best").out.endswith("1 record(s)\n")


def test_metaschedules_form(kiln, path, tmp_path):
    done = kiln("log", "export", tmp_path / "db", "--log", path, "--form", "metaschedule")
    assert done.code == 0
    assert "0 record(s)" in done.out and "only its digest (3 times)" in done.out
    assert "0 record(s)" in kiln("log", "import", tmp_path / "db", "--log", path).out
    refused = kiln("log", "import", tmp_path, "--log", path)
    assert refused.code == 1 and "no database of MetaSchedule" in refused.err


def test_lines_that_are_left_out_are_named_and_the_exit_code_says_so(kiln, path, tmp_path):
    lines = tmp_path / "log.jsonl"
    lines.write_text(make(threads=7).to_text() + "\n{}\n")
    done = kiln("log", "import", lines, "--log", path)
    assert done.code == 1
    assert "1 record(s), 1 of them new" in done.out and "line 2" in done.out


def test_prune(kiln, path):
    assert "would take out 2" in kiln("log", "prune", "--log", path, "--keep", 1, "--dry-run").out
    assert "took out 2 record(s); 2 left" in kiln("log", "prune", "--log", path, "--keep", 1).out
    assert json.loads(kiln("log", "prune", "--log", path, "--failed", "--json").out)["records"] == 1
    with TuningLog.open(path) as log:
        assert [one.parameters["pixels"] for one in log.records()] == [0]


def test_repair(kiln, path):
    path.write_bytes(path.read_bytes()[:-100])
    refused = kiln("log", "show", "--log", path)
    assert refused.code == 1 and f"onnxkiln log repair {path}" in refused.err
    done = kiln("log", "repair", path)
    assert done.code == 0 and "intact" in done.out
    assert kiln("log", "show", "--log", path).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "--log", "none"], 2, "the log none"),
        (["show", "--log", "absent"], 1, "no tuning log absent"),
        (["show", "--log", "x", "--shipped"], 2, "exclude"),
        (["prune"], 2, "nothing says"),
        (["prune", "--keep", "0"], 2, "no count"),
        (["prune", "--before", "yesterday"], 2, "no day"),
        (["prune", "--keep", "1", "--log", "absent"], 1, "no tuning log"),
        (["merge", "absent", "--log", "new"], 1, "no log absent"),
        (["import", "absent", "--log", "new"], 1, "can't be read"),
        (["repair", "absent"], 1, "absent"),
        ([], 2, "ACTION"),
    ],
)
def test_refusals(kiln, arguments, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = kiln("log", *arguments)
    assert done.code == code
    assert words in done.err and "Traceback" not in done.err
