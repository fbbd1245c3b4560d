"""A fork server: everything slow is imported once, then each test runs in a child of its own with a time limit.

A child that dies or hangs costs its own test alone. It leads a process group, so that compilers it started end with it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from conformance_check.cases import Case, subject
from conformance_check.one_case import CRASH, TIMEOUT

Work = Callable[[Case], dict[str, Any]]


@dataclass
class _Child:
    case: Case
    pid: int
    pipe: int
    deadline: float
    started: float
    answer: bytearray = field(default_factory=bytearray)
    timed_out: bool = False


def run_all(cases: Iterable[Case], work: Work, jobs: int, limit_s: float) -> Iterator[dict[str, Any]]:
    """Results of ``work`` on each case, as they come; ``jobs`` children at a time."""
    waiting = iter(cases)
    selector = selectors.DefaultSelector()
    running: dict[int, _Child] = {}
    try:
        while True:
            while len(running) < jobs and (case := next(waiting, None)) is not None:
                child = _start(case, work, limit_s)
                running[child.pipe] = child
                selector.register(child.pipe, selectors.EVENT_READ)
            if not running:
                return
            for child in _finished(selector, running):
                selector.unregister(child.pipe)
                del running[child.pipe]
                yield _result(child)
    finally:
        for child in running.values():
            _kill(child)
            os.waitpid(child.pid, 0)


def _start(case: Case, work: Work, limit_s: float) -> _Child:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(case, work, writer)
    os.close(writer)
    now = time.monotonic()
    return _Child(case, pid, reader, now + limit_s, now)


def _child(case: Case, work: Work, writer: int) -> None:
    """Never returns: nothing of the server may run twice."""
    status = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        data = json.dumps(work(case)).encode()
        while data:
            data = data[os.write(writer, data) :]
        status = 0
    finally:
        os._exit(status)


def _finished(selector: selectors.BaseSelector, running: dict[int, _Child]) -> Iterator[_Child]:
    """Children that closed their pipe, which death does too, or whose time is up."""
    now = time.monotonic()
    soonest = min(child.deadline for child in running.values())
    for key, _ in selector.select(max(soonest - now, 0.0)):
        child = running[key.fd]
        data = os.read(child.pipe, 1 << 16)
        child.answer += data
        if not data:
            yield child
    for child in list(running.values()):
        if time.monotonic() > child.deadline:
            child.timed_out = True
            _kill(child)
            yield child


def _result(child: _Child) -> dict[str, Any]:
    os.close(child.pipe)
    _, status = os.waitpid(child.pid, 0)
    seconds = round(time.monotonic() - child.started, 3)
    about = {"name": child.case.name, "kind": child.case.kind, "external": [], "seconds": seconds}
    if child.timed_out:
        reason = f"not done after {child.deadline - child.started:.0f} s"
        return {**about, "operators": subject(child.case), "outcome": TIMEOUT, "reason": reason}
    code = os.waitstatus_to_exitcode(status)
    if code or not child.answer:
        reason = f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return {**about, "operators": subject(child.case), "outcome": CRASH, "reason": reason}
    result: dict[str, Any] = json.loads(child.answer)
    return result


def _kill(child: _Child) -> None:
    for end in (os.killpg, os.kill):  # the group only exists once the child has made it
        try:
            end(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
