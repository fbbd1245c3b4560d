"""Many callers, several threads each, forks, and the thread pool that every library carries."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny_artifacts
from children import check_child

import onnxkiln
from onnxkiln import targets

PRELUDE = """
import itertools, os, sys, threading, time, numpy, numpy.random, onnxkiln
from onnxkiln import targets
targets.host_cpus = lambda: list(range(8))  # more threads than this machine may have processors
weights = numpy.linspace(-1, 1, 1024, dtype="float32")
def check(session, seed=0, runs=20):
    random = numpy.random.default_rng(seed)
    for _ in range(runs):
        x = random.standard_normal(1024).astype("float32")
        y = session.run(None, {"x": x})[0]
        assert numpy.allclose(y, x * weights + x, atol=1e-6)
def tasks():
    return len(os.listdir("/proc/self/task"))
def settles(condition, seconds=5):
    deadline = time.time() + seconds
    while not condition() and time.time() < deadline:
        time.sleep(0.01)  # a joined thread is listed for a moment longer
    return condition()
def finish(pid, seconds=20):
    deadline = time.time() + seconds
    while time.time() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, 9)
    raise SystemExit("the child hangs")
"""


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_eight_callers_of_one_session(threads: int, scale: Path) -> None:
    code = f"""{PRELUDE}
before = tasks()
session = onnxkiln.load(sys.argv[1], threads={threads})
failures = []
def work(seed):
    try:
        check(session, seed, 400)
    except BaseException as error:
        failures.append(error)
callers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
for caller in callers: caller.start()
for caller in callers: caller.join()
assert not failures, failures
assert settles(lambda: tasks() - before <= {threads} - 1), "workers are shared, whatever the number of callers"
assert len(session._idle) <= 8
"""
    check_child(code, scale)


def test_one_machine_for_one_caller(scale: Path) -> None:
    with onnxkiln.load(scale) as session:
        for _ in range(5):
            session.run(None, {"x": np.ones(1024, np.float32)})
        assert len(session._idle) == 1


def test_threads_are_capped_at_what_the_process_may_use(scale: Path) -> None:
    cpus = len(targets.host_cpus())
    with onnxkiln.load(scale, threads=1000) as session:
        assert session.threads == cpus
    with onnxkiln.load(scale) as session:
        assert session.threads == targets.host_cores()


def test_sessions_with_different_threads_over_one_library(scale: Path) -> None:
    """The pool grows on demand, and a width set by one session doesn't leak into another's run."""
    code = f"""{PRELUDE}
before = tasks()  # before any load: the thread that checks digests is listed for a moment longer than it lives
one, four, six = (onnxkiln.load(sys.argv[1], threads=n) for n in (1, 4, 6))
def expect(workers): assert settles(lambda: tasks() == before + workers), (tasks(), before, workers)
check(one); expect(0)
check(four); expect(3)
check(one); check(six); expect(5)
check(four); check(one); expect(5)
one.close(); check(six)
four.close(); six.close()
assert settles(lambda: tasks() == before), "closing the last session ends the workers"
again = onnxkiln.load(sys.argv[1], threads=6); check(again); expect(5)
"""
    check_child(code, scale)


def test_the_callers_own_affinity_is_left_alone(scale: Path) -> None:
    code = f"""{PRELUDE}
before = os.sched_getaffinity(0)
check(onnxkiln.load(sys.argv[1], threads=4))
assert os.sched_getaffinity(0) == before
"""
    check_child(code, scale)


def test_idle_workers_sleep(scale: Path) -> None:
    code = f"""{PRELUDE}
session = onnxkiln.load(sys.argv[1], threads=4)
check(session)
time.sleep(0.05)
before = time.process_time()
time.sleep(0.5)
assert time.process_time() - before < 0.05
"""
    check_child(code, scale)


@pytest.mark.parametrize("ending", ["sys.exit(7)", "os._exit(7)"])
@pytest.mark.parametrize("threads", [1, 3])
def test_fork_after_load_and_run(threads: int, ending: str, scale: Path) -> None:
    """Parent, child and grandchild all run, alone and from new threads, and all end."""
    code = f"""{PRELUDE}
session = onnxkiln.load(sys.argv[1], threads={threads})
check(session)
def more():
    check(session)
    other = threading.Thread(target=check, args=(session, 5))
    other.start(); other.join()
    with onnxkiln.load(sys.argv[1], threads=2) as again:
        check(again)
pid = os.fork()
if pid == 0:
    check(session)
    assert tasks() >= {threads}, "the child has workers of its own"
    more()
    inner = os.fork()
    if inner == 0:
        more()
        {ending}
    assert finish(inner) == 7
    {ending}
more()
assert finish(pid) == 7
more()
"""
    check_child(code, scale)


def test_fork_while_other_threads_run(scale: Path) -> None:
    code = f"""{PRELUDE}
session = onnxkiln.load(sys.argv[1], threads=3)
stop = threading.Event()
def spin(seed):
    while not stop.is_set(): check(session, seed, 1)
callers = [threading.Thread(target=spin, args=(seed,)) for seed in range(2)]
for caller in callers: caller.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        check(session, 3, 3)
        os._exit(0)
    assert finish(pid) == 0
stop.set()
for caller in callers: caller.join()
check(session)
"""
    check_child(code, scale)


def test_fork_waits_for_the_calls_in_progress() -> None:
    """A lock that is held in the middle of a call would stay locked in the child."""
    code = """
    import os, threading, time
    from onnxkiln.artifacts import forks
    forks.running.append(None)
    threading.Timer(0.3, forks.running.pop).start()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if not forks.running and not forks.forking else 1)
    assert 0.2 < time.monotonic() - start < 5
    assert os.waitpid(pid, 0)[1] == 0 and not forks.forking
    """
    check_child(code)


def test_multiprocessing_with_fork(scale: Path) -> None:
    code = f"""{PRELUDE}
import multiprocessing
session = onnxkiln.load(sys.argv[1], threads=2)
check(session)
def job(seed):
    check(session, seed)
    return seed
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(job, range(12)) == list(range(12))
check(session)
"""
    check_child(code, scale)


def test_close_while_others_run(scale: Path) -> None:
    """Each call ends with its result or with "the session is closed"; nothing crashes."""
    code = f"""{PRELUDE}
from onnxkiln.errors import UsageError
closed, failures = [], []
def work(session):
    try:
        check(session, 0, 10**9)
    except UsageError:
        closed.append(1)
    except BaseException as error:
        failures.append(error)
for _ in range(10):
    session = onnxkiln.load(sys.argv[1], threads=2)
    callers = [threading.Thread(target=work, args=(session,)) for _ in range(3)]
    for caller in callers: caller.start()
    time.sleep(0.03)
    session.close()
    for caller in callers: caller.join()
assert not failures, failures
assert len(closed) == 30
"""
    check_child(code, scale)


def test_workers_do_take_part(tmp_path: Path) -> None:
    """Each element holds the number of the thread that wrote it."""
    script = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True, private=True)
    def who(x: T.Buffer((64,), "int32", align=4), y: T.Buffer((64,), "int32", align=4)):
        for i in T.parallel(64):
            with T.sblock("y"):
                v = T.axis.spatial(64, i)
                y[v] = T.call_extern("int32", "gettid")

    @R.function
    def main(x: R.Tensor((64,), "int32"), weights: R.Object):
        cls = Module
        with R.dataflow():
            y = R.call_tir(cls.who, (x,), out_ty=R.Tensor((64,), "int32"))
            out = (y,)
            R.output(out)
        return out
"""
    target = targets.host()
    spec = tiny_artifacts.TensorSpec
    contract = tiny_artifacts.Contract((spec("x", "int32", (64,)),), (spec("y", "int32", (64,)),))
    library = target, tiny_artifacts.build(tiny_artifacts.parse(script), target)
    request = tiny_artifacts.scale_request(libraries=[library], weights=[], contract=contract)
    code = f"""{PRELUDE}
x = numpy.zeros(64, "int32")
def writers(threads):
    found, deadline = set(), time.monotonic() + 20
    with onnxkiln.load(sys.argv[1], threads=threads) as session:
        for run in itertools.count():
            found |= set(session.run(None, {{"x": x}})[0].tolist())
            # On busy cores a worker may sleep through thousands of runs that take microseconds each.
            if run >= 3000 and (len(found) >= min(threads, 2) or time.monotonic() > deadline):
                return found
me = threading.get_native_id()
assert writers(1) == {{me}}
assert me in writers(2) and len(writers(2)) == 2
assert 2 <= len(writers(4)) <= 4
assert writers(1) == {{me}}
"""
    check_child(code, tiny_artifacts.write(request, tmp_path))


def test_an_error_inside_a_parallel_loop_reaches_its_caller(tmp_path: Path) -> None:
    script = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True, private=True)
    def picky(x: T.Buffer((64,), "float32", align=4), y: T.Buffer((64,), "float32", align=4)):
        for i in T.parallel(64):
            with T.sblock("y"):
                v = T.axis.spatial(64, i)
                assert x[v] >= T.float32(0), "negative"
                y[v] = x[v]

    @R.function
    def main(x: R.Tensor((64,), "float32"), weights: R.Object):
        cls = Module
        with R.dataflow():
            y = R.call_tir(cls.picky, (x,), out_ty=R.Tensor((64,), "float32"))
            out = (y,)
            R.output(out)
        return out
"""
    target = targets.host()
    spec = tiny_artifacts.TensorSpec
    contract = tiny_artifacts.Contract((spec("x", "float32", (64,)),), (spec("y", "float32", (64,)),))
    library = target, tiny_artifacts.build(tiny_artifacts.parse(script), target)
    request = tiny_artifacts.scale_request(libraries=[library], weights=[], contract=contract)
    code = f"""{PRELUDE}
from onnxkiln.errors import KilnError
session = onnxkiln.load(sys.argv[1], threads=4)
def attempt(x):
    try:
        session.run(None, {{"x": x}})
        return ""
    except KilnError as error:
        return str(error)
for n in range(300):
    x = numpy.ones(64, "float32")
    assert attempt(x) == ""
    x[n % 64] = -1
    assert "negative" in attempt(x)
    assert "negative" in attempt(-numpy.ones(64, "float32"))
"""
    check_child(code, tiny_artifacts.write(request, tmp_path))


def test_a_run_inside_a_thread_that_ends(scale: Path) -> None:
    """Short-lived callers leave nothing that grows."""
    with onnxkiln.load(scale, threads=2) as session:
        for _ in range(200):
            caller = threading.Thread(target=session.run, args=(None, {"x": np.ones(1024, np.float32)}))
            caller.start()
            caller.join()
        assert len(session._idle) == 1


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_the_pool_under_a_sanitizer(sanitizer: str, tmp_path: Path) -> None:
    """No data race, no use after return, every task once: many callers of the C code alone."""
    source = Path(__file__).with_name("pool_stress.c")
    include = Path(onnxkiln.__file__).parent / "artifacts"
    program = tmp_path / "stress"
    command = ["cc", "-std=gnu11", "-O1", "-g", f"-fsanitize={sanitizer}", "-pthread", f"-I{include}", str(source)]
    built = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True, check=False)
    if built.returncode != 0 and "san" in built.stderr and "cannot find" in built.stderr:
        pytest.skip("the compiler has no sanitizer library")
    assert built.returncode == 0, built.stderr
    # A sanitizer's shadow memory wants the old layout of addresses.
    result = subprocess.run(["setarch", "-R", str(program)], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0 and result.stdout == "done\n", result.stderr[-4000:]
