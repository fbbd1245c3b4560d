"""The program as a whole: exit codes, errors as words, interruption, and how it is started."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from source_tree import ROOT

from onnxkiln import cli, versions
from onnxkiln.errors import KilnError, UsageError


@pytest.fixture
def failing(monkeypatch, kiln):
    """``failing(error, *options)`` calls the program with a command that raises ``error``."""

    def run(error, *options):
        def execute(_):
            raise error

        parser = argparse.ArgumentParser(parents=[cli._common_options()])
        parser.set_defaults(execute=execute)
        monkeypatch.setattr(cli, "build_parser", lambda: parser)
        return kiln(*options)

    return run


def test_a_failure_is_told_with_its_hint_and_no_traceback(failing):
    outcome = failing(KilnError("the kiln is cold", hint="light it"))
    assert outcome.code == 1
    assert outcome.err == "onnxkiln: error: the kiln is cold\n  what to do: light it\n"
    assert outcome.out == ""


def test_wrong_usage_has_its_own_exit_code(failing):
    assert failing(UsageError("no")).code == 2


def test_an_unexpected_error_is_one_line_and_says_how_to_report_it(failing):
    outcome = failing(RuntimeError("first line\nsecond line"))
    assert outcome.code == 1
    assert outcome.err == (
        "onnxkiln: error: unexpected RuntimeError: first line\n"
        "  what to do: this is a bug: report it with the output of --debug\n"
    )


def test_debug_shows_the_traceback(failing):
    assert "Traceback" in failing(KilnError("no"), "--debug").err


def test_json_tells_errors_too(failing):
    outcome = failing(KilnError("the kiln is cold", hint="light it"), "--json")
    assert json.loads(outcome.out) == {
        "error": {"class": "KilnError", "message": "the kiln is cold", "hint": "light it"}
    }


def test_ctrl_c_has_the_shells_exit_code(failing):
    outcome = failing(KeyboardInterrupt())
    assert outcome.code == 130
    assert "interrupted" in outcome.err


def test_an_interrupt_that_tvm_wrapped_is_still_one(monkeypatch, kiln):
    def execute(_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("wrapped") from None

    parser = argparse.ArgumentParser(parents=[cli._common_options()])
    parser.set_defaults(execute=execute)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with it ignored
    try:
        assert kiln().code == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


PROGRAM = """
import argparse, atexit, signal
from onnxkiln import cli

def execute(_):
    {action}

parser = argparse.ArgumentParser(parents=[cli._common_options()])
parser.set_defaults(execute=execute)
cli.build_parser = lambda: parser
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(cli.program())
"""


@pytest.fixture
def in_process(tmp_path):
    """``in_process(action)``: the program, as a module of its own process, with a command that does ``action``."""

    def run(action):
        (tmp_path / "program.py").write_text(PROGRAM.format(action=action))
        search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        command = [sys.executable, "-m", "program"]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": search}
        )

    return run


def test_ctrl_c_while_a_text_is_executed_has_the_exit_code_too(in_process):
    """As where a class is made by dataclasses while a command's modules are imported."""
    done = in_process("exec('signal.raise_signal(signal.SIGINT); print(1)')")
    assert (done.returncode, done.stdout, done.stderr) == (
        130, "", "onnxkiln: interrupted; no artifact was written\n"
    )  # fmt: skip


def test_ctrl_c_after_the_command_changes_nothing(in_process):
    done = in_process("atexit.register(lambda: signal.raise_signal(signal.SIGINT))")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "arguments",
    [[], ["bake"], ["compile"], ["compile", "m.onnx"], ["compile", "m.onnx", "-o", "out", "--level", "O9"],
     ["compile", "m.onnx", "-o", "out", "--lev", "O1"],
     ["run", "a"], ["run", "a", "--input", "random", "--repeat", "0"], ["inspect"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2(kiln, arguments):
    outcome = kiln(*arguments)
    assert outcome.code == 2
    assert "usage:" in outcome.err


@pytest.mark.parametrize("command", [[], ["compile"], ["inspect"], ["run"]])
def test_help(kiln, command):
    outcome = kiln(*command, "--help")
    assert outcome.code == 0
    assert "usage: onnxkiln" in outcome.out


@pytest.mark.parametrize("module", ["onnxkiln", "onnxkiln.cli"])
def test_it_runs_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"onnxkiln {versions.VERSION}\n"


def test_a_reader_that_leaves_is_no_error(add):
    command = f"{shlex.quote(sys.executable)} -m onnxkiln.cli inspect {shlex.quote(str(add))} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_the_script_works_from_a_checkout_that_is_not_installed(tmp_path):
    checkout = tmp_path / "-a folder; with $odd 'name'"
    checkout.symlink_to(ROOT)
    (tmp_path / "empty").mkdir()
    script = checkout / "scripts" / "compile.py"
    command = [sys.executable, "-S", "-c", _ISOLATED, script, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert "usage: onnxkiln compile" in done.stdout


_ISOLATED = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_environment_is_not_needed_for_help():
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "onnxkiln.cli", "--help"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0
