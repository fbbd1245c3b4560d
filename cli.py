"""The command line program: one parser, one place where errors become words and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from . import __version__
from .commands import bench as bench_command
from .commands import compile as compile_command
from .commands import inspect as inspect_command
from .commands import log as log_command
from .commands import quantize as quantize_command
from .commands import run as run_command
from .commands import tune as tune_command
from .commands import verify as verify_command
from .commands.output import print_json
from .errors import KilnError

INTERRUPTED = 130
_COMMANDS = (
    compile_command, quantize_command, tune_command, inspect_command, run_command, verify_command, bench_command,
    log_command,
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onnxkiln",
        description="Compile ONNX models to shared libraries and run them without a compiler.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"onnxkiln {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands, _common_options())
    return parser


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say what is going on (-vv: in detail)")
    group.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    return common


def program(arguments: Sequence[str] | None = None) -> int:
    """``main`` as a process of its own: Ctrl-C can interrupt the command, and no longer the end of the process.

    Freeing what a compilation held takes a while, in which Python no longer handles SIGINT: a command that was done, or
    had said that it was interrupted, would end by the signal. While the command runs, main's own handlers are in place.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return main(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    logging.basicConfig(format="%(name)s: %(message)s", level=levels[min(options.verbose, 2)])
    with _interruptible() as interruption:
        try:
            code = options.execute(options)
            sys.stdout.flush()
            return code or 0
        except BrokenPipeError:
            # The reader (head, less) has gone; Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except BaseException as error:
            if interruption or isinstance(error, KeyboardInterrupt):
                print("onnxkiln: interrupted; no artifact was written", file=sys.stderr)
                return INTERRUPTED
            if isinstance(error, (SystemExit, GeneratorExit)):
                raise
            return _report(error, options)


class SignalKeyboardInterrupt(KeyboardInterrupt):
    """What a signal raises here.

    Not KeyboardInterrupt itself: where that leaves ``exec`` or ``eval`` of a text (dataclasses are made so, the imports
    of a command make many), CPython notes it as unhandled, though it is caught later, and ``python -m`` then ends by
    SIGINT instead of with its exit code. Only the class itself is noted.
    """


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Turn SIGINT and SIGTERM into a KeyboardInterrupt and note the signal in the list that is yielded.

    The note is needed because TVM rewraps exceptions that cross its C++ code as errors of another class.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        received.append(number)
        raise SignalKeyboardInterrupt

    try:
        previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: a program calls main() and deals with signals itself
        previous = {}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _report(error: BaseException, options: argparse.Namespace) -> int:
    """Print an error as words (and as JSON where asked); a traceback only with --debug."""
    if options.debug:
        traceback.print_exception(error)
    known = isinstance(error, KilnError)
    message = error.message if isinstance(error, KilnError) else f"unexpected {type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, KilnError) else "this is a bug: report it with the output of --debug"
    if options.json:
        print_json({"error": {"class": type(error).__name__, "message": message, "hint": hint}})
    if not known:
        message = message.splitlines()[0]
    print(f"onnxkiln: error: {message}" + (f"\n  what to do: {hint}" if hint else ""), file=sys.stderr)
    return error.exit_code if isinstance(error, KilnError) else 1


if __name__ == "__main__":
    raise SystemExit(program())
