"""How commands print: aligned tables, sizes, and JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """One JSON object on standard output; paths and other objects appear as their text."""
    json.dump(value, sys.stdout, indent=2, default=str)
    print()


def format_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under a header, columns aligned; numbers (what starts with a digit, or a dash for none) to the right."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(header), *lines]) for column in range(len(header))]
    numeric = [_numeric([line[column] for line in lines]) for column in range(len(header))]

    def align(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(cells, widths, numeric)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([align(header), *(align(line) for line in lines)])


def _numeric(cells: Sequence[str]) -> bool:
    numbers = [cell for cell in cells if cell != "-"]
    return bool(numbers) and all(cell[:1].isdigit() for cell in numbers)


def print_section(title: str, text: str) -> None:
    """A title and indented lines under it."""
    print(f"\n{title}")
    print("\n".join(f"  {line}" for line in text.splitlines()))


def format_bytes(count: float) -> str:
    """A size in decimal units, as file managers show it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def format_specs(specs: Iterable[dict[str, Any]]) -> str:
    """Inputs or outputs, one a line: ``x: float32[batch, 3]``."""
    lines = []
    for spec in specs:
        shape = "of unknown rank" if spec["shape"] is None else f"[{', '.join(map(str, spec['shape']))}]"
        lines.append(f"{spec['name']}: {spec['dtype']}{shape}")
    return "\n".join(lines)


def format_dims(dims: dict[str, Sequence[int | None]]) -> str:
    """Open dims with their ranges: ``batch: 1..64``."""
    return "\n".join(f"{name}: {low}..{'' if high is None else high}" for name, (low, high) in dims.items())
