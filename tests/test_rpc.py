"""Measuring on servers of TVM's RPC: two on this machine, one of which is killed meanwhile."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import tuning_cases as cases

from onnxkiln.errors import UsageError
from onnxkiln.tuner import Tuning, tune_module
from onnxkiln.tuning.budget import Budget
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.rpc import Rpc, parse_rpc, servers, tracker


def start(*arguments):
    """In a group of its own: TVM's trackers and servers are two processes each."""
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    return subprocess.Popen([sys.executable, "-m", *arguments], start_new_session=True, **quiet)


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(condition):
    end = time.monotonic() + 90
    while True:
        try:
            if condition():
                return
        except Exception:
            pass
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def two():
    """The tracker's address and the processes of two servers."""
    pytest.importorskip("tornado")
    port = free_port()
    rpc = Rpc("127.0.0.1", port, "ours")
    processes = [start("tvm.exec.rpc_tracker", "--host", rpc.host, "--port", str(port), "--port-end", str(port + 1))]
    try:
        wait_for(lambda: tracker(rpc).summary())
        for _ in range(2):
            processes.append(start("tvm.exec.rpc_server", "--host", rpc.host, "--tracker", f"{rpc.host}:{port}",
                                   "--key", rpc.key))  # fmt: skip
        wait_for(lambda: servers(rpc) == 2)
        yield rpc, processes[1:]
    finally:
        for process in processes:
            kill(process)


def test_one_of_two_servers_is_killed_and_nothing_is_lost_or_blamed(two, tmp_path):
    rpc, processes = two
    mod, weights = cases.optimized(cases.layers(12))
    contract = cases.contract_of([12, 64])

    def observe(snapshot):
        if snapshot.measurements == 3:
            kill(processes[0])

    with TuningLog.open(tmp_path / "log.sqlite", shipped=False) as log:
        tuning = Tuning(log, Budget(trials=8), observer=observe, rpc=rpc)
        found = tune_module(mod, cases.HOST, contract, weights, tuning)
        records = list(log.records())
        assert found.measurements == len(records) == 8
        assert {record.status for record in records} == {"ok"}
        assert all("as ours over RPC" in record.machine for record in records)
        assert {one.source for one in found.chosen} == {"exact"}
        here = tune_module(mod, cases.HOST, contract, weights, Tuning(log))
        assert servers(rpc) == 1
        assert {one.source for one in here.chosen} == {"class"}  # of another machine, as far as anyone knows


def test_what_is_not_there_is_said():
    with pytest.raises(UsageError, match="no tracker at"):
        servers(Rpc("127.0.0.1", 1, "ours"))
    assert parse_rpc("10.0.0.1:9190,zen4") == Rpc("10.0.0.1", 9190, "zen4")
    for text in ("host", "host:9190", "host:0,k", "host:99999,k", "host:9190,", ":1,k"):
        with pytest.raises(UsageError, match="no tracker and key"):
            parse_rpc(text)
