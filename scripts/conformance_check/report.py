"""Counts, and the list of failures: by operator, each with what happened and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from conformance_check.one_case import OUTCOMES, PASSED

Result = dict[str, Any]


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Counts of all outcomes, external functions by name, and the sum of the tests' seconds."""
    outcomes = Counter(result["outcome"] for result in results)
    external = Counter(name for result in results for name in result["external"])
    return {
        "tests": len(results),
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
        "external": dict(external),
        "seconds": round(sum(result["seconds"] for result in results), 1),
    }


def format_summary(results: Sequence[Result]) -> str:
    """A few lines for the terminal."""
    found = summarise(results)
    counts = " · ".join(f"{count} {outcome}" for outcome, count in found["outcomes"].items())
    external = ", ".join(f"{name} ({count})" for name, count in found["external"].items()) or "none"
    return f"{found['tests']} tests: {counts}\nexternal functions: {sum(found['external'].values())} ({external})"


def format_failures(results: Iterable[Result]) -> str:
    """Markdown: a section per operator, most failures first."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result["outcome"] != PASSED:
            groups[", ".join(result["operators"])].append(result)
    lines = []
    for name, failures in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        counts = Counter(result["outcome"] for result in failures)
        lines += [f"\n## {name}: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}\n"]
        lines += [format_failure(result) for result in sorted(failures, key=lambda item: item["name"])]
    return "\n".join(lines).strip() + "\n"


def format_failure(result: Result) -> str:
    return f"- {result['name']}: {result['outcome']}: {result['reason']}"
