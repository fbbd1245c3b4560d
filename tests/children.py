"""Run code that may crash, hang or exit in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def run_child(
    code: str,
    *arguments: str | Path,
    python: str = sys.executable,
    timeout: float = 60,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run dedented ``code`` with ``arguments`` in ``sys.argv[1:]``; whatever it does is in the result."""
    command = [python, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env)


def check_child(code: str, *arguments: str | Path, **options: object) -> str:
    """``run_child`` that must exit with 0; returns what it printed."""
    result = run_child(code, *arguments, **options)  # type: ignore[arg-type]
    assert result.returncode == 0, f"exit {result.returncode}\n{result.stdout}\n{result.stderr[-4000:]}"
    return result.stdout
