"""Run a function in a forked child, under limits that a test process could not shake off again."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from typing import Any


def in_child(action: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> Any:
    """What ``action`` returns in a child process after ``prepare``; what it raises is raised here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            prepare()
            answer = (True, action())
        except BaseException as error:
            answer = (False, error)
        with open(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended by {signal.Signals(status).name if status < 64 else status}"
    done, value = pickle.loads(answer)
    if not done:
        raise value
    return value
