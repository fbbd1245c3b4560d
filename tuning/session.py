"""A tuning session: two workers, one building and one measuring, and every result in the log as it comes."""

from __future__ import annotations

import contextlib
import datetime
import os
import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tvm

from ..schedules.template import Parameters
from ..targets import Target, host_cpus
from .budget import Budget
from .log import TuningLog
from .machine import MachineKey
from .record import Record, Status
from .rpc import Rpc, servers
from .search import Candidate, Job, Search, TaskSearch, candidate_key
from .tasks import Task
from .workers import Worker, WorkerFailed

RUNNER = f"{__package__}.run_kernel:measure"
REMOTE_RUNNER = f"{__package__}.rpc_kernel:measure"

LOST = "RpcLost"
"""The error of a server that is gone: none of the candidate's faults, unless it happens again and again."""

MOST_LOST = 2
"""Servers lost with one candidate, from which it counts as a crash: TVM's servers end with a kernel that crashes."""

MOST_COLD = 64 << 20
"""Bytes of weights kept beside each other at most: more than any last-level cache's share of a core."""

MEASURE_SECONDS = 0.15
"""Of one measurement, without its building."""

SLOWEST = 3.0
"""Times the default's latency: what takes longer in its first call is no candidate any more."""

BUILD_LIMIT, RUN_LIMIT, REMOTE_LIMIT = 60.0, 20.0, 60.0
"""Seconds after which a worker is taken to hang. A machine under load is slow, too."""

LOOKAHEAD = 2
"""Candidates that are built while others are measured."""


@dataclass(frozen=True)
class Setup:
    """``builder`` is the handler ("module:function") that makes a library of (function, target, parameters, path);
    ``weight_bytes`` are those of the whole model, which pass through the caches between two calls of a kernel."""

    builder: str
    target: Target
    target_json: Mapping[str, Any]
    key: MachineKey
    weight_bytes: int
    rpc: Rpc | None = None
    """Servers to measure on; None is this machine."""


@dataclass(frozen=True)
class Snapshot:
    """Where a session stands, for whoever shows it."""

    search: Search
    measurements: int
    elapsed: float
    left: float | None
    """Seconds, None where the budget is one of trials."""
    trials: int | None
    current: str


Observer = Callable[[Snapshot], None]


class Session:
    """Searches within a budget. A context manager: its end ends the workers, however it comes about."""

    def __init__(self, setup: Setup, log: TuningLog, observer: Observer | None = None):
        self.measurements = 0
        self._setup = setup
        self._log = log
        self._observer = observer or (lambda snapshot: None)
        cpus, threads = host_cpus(), setup.target.run_threads
        build_cpus, run_cpus = _share(cpus, threads)
        # Kernels that need all processors are measured while nothing is built.
        self._alone: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if 1 < len(cpus) <= threads else contextlib.nullcontext()
        )
        self._builder = Worker(setup.builder, build_cpus)
        self._rpc: dict[str, Any] = {} if setup.rpc is None else {"rpc": asdict(setup.rpc)}
        count = 1 if setup.rpc is None else servers(setup.rpc)
        self._runners = [
            Worker(RUNNER, run_cpus) if setup.rpc is None else Worker(REMOTE_RUNNER) for _ in range(count)
        ]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for runner in self._runners:
            self._idle.put(runner)
        self._folder = tempfile.TemporaryDirectory(prefix="onnxkiln-tune-")
        self._pool = ThreadPoolExecutor(1, "build")
        self._measuring = ThreadPoolExecutor(count, "measure")
        self._libraries: dict[tuple[str, Candidate], str] = {}
        self._functions: dict[str, str] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        # The workers first: that ends whatever the thread waits for.
        for worker in (self._builder, *self._runners):
            worker.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._measuring.shutdown(wait=True, cancel_futures=True)
        for worker in (self._builder, *self._runners):
            worker.stop()
        self._folder.cleanup()

    def run(self, searches: Sequence[TaskSearch], budget: Budget) -> Search:
        """Measure until the budget is spent or nothing promises a gain; raises LogError when the log can't be kept."""
        search = Search(searches)
        start = time.monotonic()
        waiting: deque[tuple[Job, Future[Record]]] = deque()
        self._report(search, start, budget, "")
        while True:
            while len(waiting) < LOOKAHEAD + len(self._runners) - 1:
                job = self._next(search, start, budget, len(waiting))
                if job is None:
                    break
                built = self._pool.submit(self._build, job)
                waiting.append((job, self._measuring.submit(self._measure, job, built)))
            if not waiting:
                return search
            wait([measured for _, measured in waiting], return_when=FIRST_COMPLETED)
            place = next(index for index, (_, measured) in enumerate(waiting) if measured.done())
            job, measured = waiting[place]
            del waiting[place]
            record = measured.result()
            self._log.append(record)
            self.measurements += 1
            job.search.tell(job.parameters, record)
            self._drop_libraries(job.search)
            self._report(search, start, budget, job.search.task.text)

    def _next(self, search: Search, start: float, budget: Budget, waiting: int) -> Job | None:
        reserve = search.unconfirmed()
        if budget.trials is not None:
            left = budget.trials - self.measurements - waiting
            return search.next(closing=left <= reserve) if left > 0 else None
        assert budget.seconds is not None
        elapsed = time.monotonic() - start
        each = elapsed / self.measurements if self.measurements else 0.0
        if elapsed >= budget.seconds:
            return None
        return search.next(closing=budget.seconds - elapsed <= each * (reserve + waiting))

    def _build(self, job: Job) -> tuple[str, str]:
        """(the candidate's library, the default's); in the thread that alone talks to the builder."""
        task = job.search.task
        return self._library(task, job.parameters), self._library(task, task.choices.default)

    def _library(self, task: Task, parameters: Parameters) -> str:
        key = task.workload, candidate_key(parameters)
        if key not in self._libraries:
            if task.workload not in self._functions:
                self._functions[task.workload] = tvm.ir.save_json(task.function)
            path = str(Path(self._folder.name) / f"{len(self._libraries)}-{time.monotonic_ns()}.so")
            with self._alone:
                self._builder.call(
                    BUILD_LIMIT, function=self._functions[task.workload], target=dict(self._setup.target_json),
                    parameters=dict(parameters), path=path,
                )  # fmt: skip
            self._libraries[key] = path
        return self._libraries[key]

    def _measure(self, job: Job, built: Future[tuple[str, str]]) -> Record:
        task, setup = job.search.task, self._setup
        default = job.search.default_latency
        slow = SLOWEST * default if default is not None else RUN_LIMIT
        try:
            library, reference = built.result()
            answer = self._ask(
                library=library, reference=reference,
                arguments=[[asdict(a) for a in one] for one in task.arguments], scales=list(task.scales),
                results=task.results, cold_bytes=min(setup.weight_bytes, MOST_COLD), seconds=MEASURE_SECONDS,
                slow=slow, threads=setup.target.run_threads, **self._rpc,
            )  # fmt: skip
        except WorkerFailed as failure:
            return self._record(job, _status(failure.status), (), str(failure))
        if answer["status"] != "ok":
            return self._record(job, "wrong", (), answer["words"])
        return self._record(job, "ok", tuple(answer["seconds"]), "")

    def _ask(self, **arguments: Any) -> Any:
        """The answer of whichever runner is idle; a server that is lost is no fault of the candidate's."""
        runner = self._idle.get()
        try:
            for _ in range(MOST_LOST):
                try:
                    with self._alone:
                        return runner.call(RUN_LIMIT if not self._rpc else REMOTE_LIMIT, **arguments)
                except WorkerFailed as failure:
                    if not str(failure).startswith(LOST):
                        raise
                    words = str(failure)
            if self._setup.rpc is not None:
                servers(self._setup.rpc)  # raises where none is left
            raise WorkerFailed("crash", words)
        finally:
            self._idle.put(runner)

    def _record(self, job: Job, status: Status, seconds: tuple[float, ...], error: str) -> Record:
        task, key = job.search.task, self._setup.key
        now = datetime.datetime.now(datetime.UTC)
        return Record(
            workload=task.workload, task=task.text, template=task.choices.template,
            template_version=task.choices.version, algorithm=task.algorithm, parameters=dict(job.parameters),
            isa=key.isa, threads=key.threads, cache=key.cache, machine=key.machine, status=status, seconds=seconds,
            error=error, features=task.candidate_features(job.parameters, self._setup.target), versions=key.versions,
            when=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        )  # fmt: skip

    def _drop_libraries(self, search: TaskSearch) -> None:
        """Keep what may be measured again: hundreds of libraries would fill a disk."""
        kept = {search.default, search.leader, *search.pending}
        for key in [key for key in list(self._libraries) if key[0] == search.task.workload and key[1] not in kept]:
            Path(self._libraries.pop(key)).unlink(missing_ok=True)

    def _report(self, search: Search, start: float, budget: Budget, current: str) -> None:
        elapsed = time.monotonic() - start
        left = None if budget.seconds is None else max(0.0, budget.seconds - elapsed)
        self._observer(Snapshot(search, self.measurements, elapsed, left, budget.trials, current))


def _share(cpus: list[int], threads: int = 1) -> tuple[list[int] | None, list[int] | None]:
    """(processors to build on, those to measure on): the same where there are no others."""
    if not hasattr(os, "sched_setaffinity") or not cpus:
        return None, None
    return cpus[:-threads] or cpus, cpus[-threads:]


def _status(word: str) -> Status:
    return "timeout" if word == "timeout" else "crash" if word == "crash" else "error"
