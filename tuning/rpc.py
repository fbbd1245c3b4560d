"""Other machines to measure on: TVM's own tracker, which knows servers by a key that stands for one kind of machine.

    python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port 9190
    python -m tvm.exec.rpc_server --tracker HOST:9190 --key zen4          on each machine that is to measure

Whoever reaches a tracker or a server can run code on it: they belong into a network that one trusts.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UsageError
from .machine import MachineKey

SESSION_SECONDS = 120
"""After which a server ends what hangs."""


@dataclass(frozen=True)
class Rpc:
    """Servers of a kind: those that the tracker at ``host``:``port`` has under ``key``."""

    host: str
    port: int
    key: str


FREE_SECONDS = 15.0
"""To wait for a server that others keep busy."""


class RpcLost(Exception):
    """A server ended, or its connection did, before it answered."""


def parse_rpc(text: str) -> Rpc:
    """Read HOST:PORT,KEY. Raises UsageError."""
    match = re.fullmatch(r"([^:,\s]+):(\d{1,5}),([^,\s]+)", text)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise UsageError(f"{text!r} is no tracker and key", hint="write HOST:PORT,KEY, such as 10.0.0.1:9190,zen4")
    return Rpc(match[1], int(match[2]), match[3])


def servers(rpc: Rpc) -> int:
    """How many servers of the key the tracker knows. Raises UsageError where there is no tracker, or no such server."""
    try:
        found = tracker(rpc).summary()["server_info"]
    except Exception as error:
        raise UsageError(
            f"there is no tracker at {rpc.host}:{rpc.port}: {error}",
            hint="start one: python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port 9190 (it needs the package tornado)",
        ) from error
    count = sum(one["key"] == f"server:{rpc.key}" for one in found)
    if not count:
        raise UsageError(
            f"the tracker at {rpc.host}:{rpc.port} has no server of the key {rpc.key!r}",
            hint=f"start some: python -m tvm.exec.rpc_server --tracker {rpc.host}:{rpc.port} --key {rpc.key}",
        )
    return count


def tracker(rpc: Rpc) -> Any:
    from tvm.rpc import connect_tracker

    return connect_tracker(rpc.host, rpc.port)


def remote(rpc: Rpc) -> Any:
    """A session on a free server of the key, a process of its own there; waits a while for one. Raises RpcLost."""
    end = time.monotonic() + FREE_SECONDS
    try:
        found = tracker(rpc)
        while not found.summary()["queue_info"].get(rpc.key, {}).get("free"):  # a request would wait for ever
            if time.monotonic() > end:
                raise RpcLost(f"no server of {rpc.key} is free")
            time.sleep(0.05)
        return found.request(rpc.key, session_timeout=SESSION_SECONDS, max_retry=1)
    except RuntimeError as error:
        raise RpcLost(f"no server of {rpc.key} answers: {str(error).strip().splitlines()[-1]}") from error


def remote_key(rpc: Rpc, key: MachineKey) -> MachineKey:
    """What measurements on these servers are filed under: the machine is theirs, the class the target's."""
    try:
        processor = str(remote(rpc).get_function("target.llvm_get_system_cpu")())
    except RpcLost as error:
        raise UsageError(str(error), hint="start its server anew, or tune without --rpc") from error
    parts = (f"{processor} as {rpc.key} over RPC", key.isa, f"{key.threads} thread", key.versions)
    return replace(key, machine="; ".join(parts))
