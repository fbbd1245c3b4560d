"""Let ``fork`` happen only between calls of compiled code.

A forked child has only the thread that forked; a lock that another thread held at that moment, such as that of TVM's
memory pool, stays locked in the child for ever. So a fork waits for the calls in progress, and new ones for the fork.
"""

from __future__ import annotations

import os
import threading
import time

_PATIENCE = 10.0
"""Seconds after which a fork goes ahead although a call still runs."""

running: list[None] = []
"""One entry per call in progress. Appending and popping are atomic, and cheaper than any lock."""

_open = threading.Event()
_open.set()
forking = False
"""Whether a thread is waiting to fork; then a call must ``wait`` before it begins."""


def wait() -> None:
    """Block until the fork is over."""
    _open.wait(_PATIENCE)


def _before() -> None:
    global forking
    _open.clear()
    forking = True
    deadline = time.monotonic() + _PATIENCE
    while running and time.monotonic() < deadline:
        time.sleep(0.0002)
    # From here to the fork this thread keeps the interpreter's lock: no call can begin.


def _in_parent() -> None:
    global forking
    forking = False
    _open.set()


def _in_child() -> None:
    global _open, forking
    running.clear()
    _open = threading.Event()
    _open.set()
    forking = False


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
