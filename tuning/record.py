"""One measurement of one candidate: what a tuning log is made of, and its text form.

The text is one line of JSON with the fields in a fixed order, so equal records have equal text, and ``digest`` names
a record wherever it is stored. That a line is a record, and of which form, is said by its first key.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from ..errors import LogError

Status = Literal["ok", "timeout", "crash", "wrong", "error"]

FORM = 1
"""Version of the text form; another number is refused."""

FORM_KEY = "onnxkiln_record"
MAX_TEXT = 1 << 20
"""Characters of one record's text: far more than any record needs, little enough to read a hostile file safely."""

_WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


@dataclass(frozen=True)
class Record:
    """What was measured, where, and what came out.

    ``workload``: sha256 (hex) of the unscheduled fused function's canonical text; ``task`` says it for people.
    ``template``, ``template_version``, ``algorithm``, ``parameters`` name the candidate.
    ``isa``, ``threads``, ``cache`` are the class of machine in which the record may serve as a default;
    ``machine`` is the fingerprint (CPU model, threads, versions) for which it is exact.
    ``seconds``: latencies of the measurement's placements or repeats, empty unless ``status`` is "ok"; ``error``: why
    it isn't. ``features``: numbers for the cost model. ``versions``: of onnxkiln and TVM. ``when``: ISO 8601, UTC.
    ``trace``: for schedules that no template made, MetaSchedule's trace as JSON; such records have no parameters.
    """

    workload: str
    task: str
    template: str
    template_version: int
    algorithm: str
    parameters: Mapping[str, int]
    isa: str
    threads: int
    cache: str
    machine: str
    status: Status
    seconds: tuple[float, ...]
    error: str
    features: Mapping[str, float]
    versions: str
    when: str
    trace: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise LogError(f"not a tuning record: {problem}")

    @property
    def latency(self) -> float:
        """The median of ``seconds``; infinite unless ``status`` is "ok"."""
        return statistics.median(self.seconds) if self.status == "ok" else math.inf

    @property
    def candidate(self) -> tuple[Any, ...]:
        """What was tried, hashable: the same in every measurement of the same candidate."""
        parameters = tuple(sorted(self.parameters.items()))
        return (self.template, self.template_version, self.algorithm, parameters, self.trace)

    def to_text(self) -> str:
        """One line of JSON, without its line end."""
        values: dict[str, Any] = {FORM_KEY: FORM}
        for one in fields(self):
            value = getattr(self, one.name)
            values[one.name] = dict(sorted(value.items())) if isinstance(value, Mapping) else value
        if not self.trace:
            del values["trace"]
        return json.dumps(values, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the record's text."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()


def from_text(text: str) -> Record:
    """Read one line. Raises LogError that says what is wrong with it."""
    if len(text) > MAX_TEXT:
        raise LogError(f"not a tuning record: a line of {len(text)} characters")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LogError(f"not a tuning record: {error}") from error
    return from_values(values)


def from_values(values: Any) -> Record:
    """A record from decoded JSON. Raises LogError that says what is wrong with it."""
    if not isinstance(values, dict) or FORM_KEY not in values:
        raise LogError(f"not a tuning record: it has no {FORM_KEY!r}")
    if values[FORM_KEY] != FORM:
        raise LogError(
            f"a tuning record of form {values[FORM_KEY]!r}, and this version reads form {FORM}",
            hint="use the version of onnxkiln that wrote it, or a newer one",
        )
    names = {one.name for one in fields(Record)}
    given = {name: value for name, value in values.items() if name != FORM_KEY}
    missing, unknown = names - given.keys() - {"trace"}, given.keys() - names
    if missing or unknown:
        raise LogError(f"not a tuning record: missing {sorted(missing)}, unknown {sorted(unknown)}")
    if isinstance(given["seconds"], list):
        given["seconds"] = tuple(given["seconds"])
    return Record(**given)


def _problem(record: Record) -> str:
    """What is wrong with a record's values, or "" when nothing is."""
    for name in ("workload", "task", "template", "algorithm", "isa", "cache", "machine", "error", "versions", "trace"):
        if not isinstance(getattr(record, name), str):
            return f"{name} is not text"
    if not re.fullmatch("[0-9a-f]{64}", record.workload):
        return f"workload {record.workload[:80]!r} is not a sha256"
    if not _is_int(record.threads) or record.threads < 1 or not _is_int(record.template_version):
        return f"threads {record.threads!r} or template_version {record.template_version!r} is not a count"
    if not _are(record.parameters, _is_int) or not _are(record.features, _is_number):
        return "parameters or features are not numbers by name"
    if record.status not in get_args(Status):
        return f"status {record.status!r} is none of {', '.join(get_args(Status))}"
    if not isinstance(record.seconds, tuple) or not all(_is_number(one) and one > 0 for one in record.seconds):
        return "seconds are not positive numbers"
    if (record.status == "ok") != bool(record.seconds):
        return f"status {record.status!r} with {len(record.seconds)} latencies"
    if not isinstance(record.when, str) or not _WHEN.fullmatch(record.when):
        return f"when {record.when!r} is not a time in UTC, as 2026-01-31T12:00:00Z"
    return ""


def _are(values: Any, check: Any) -> bool:
    return isinstance(values, Mapping) and all(isinstance(k, str) and check(v) for k, v in values.items())


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_number(value: Any) -> bool:
    # A comparison, not math.isfinite: that raises for whole numbers past the largest float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
