"""What a task is known by: text of its function that no name of the model, or of a pass, has part in.

The same layer in another model, or in the same model imported anew, has other variable and function names and the
same workload.
"""

from __future__ import annotations

import hashlib
import keyword
import re

from tvm import tirx

_KEPT = {"T", "range", *keyword.kwlist}
"""Words of the script language itself; its functions stand behind a dot."""

_TOKEN = re.compile(r'#[^\n]*|T\.sblock\("(?P<block>[^"]*)"\)|"[^"]*"|\.\w+|(?<![\w.])(?P<name>[A-Za-z_]\w*)')


def canonical_text(function: tirx.PrimFunc) -> str:
    """TVM's text of the function with every name replaced by its number, in the order of appearance."""
    for key in ("global_symbol", "op_pattern"):
        function = function.without_attr(key)
    script = function.script(show_meta=False)
    # In front stand the open dims in the order of their names; they are numbered where they are first used.
    return rename(script[script.index("\ndef ") + 1 :])


def rename(script: str) -> str:
    """``script`` without comments, its variables, functions and blocks numbered in order of appearance."""
    numbers: dict[str, str] = {}

    def number(name: str) -> str:
        return numbers.setdefault(name, f"n{len(numbers)}")

    def replaced(match: re.Match[str]) -> str:
        if match["block"] is not None:
            return f"T.sblock({number(match['block'])})"
        if match["name"] is None:
            return "" if match[0].startswith("#") else match[0]
        return match[0] if match[0] in _KEPT else number(match[0])

    return _TOKEN.sub(replaced, script)


def workload_of(function: tirx.PrimFunc, sizes: tuple[int, ...] = ()) -> str:
    """sha256 (hex) of the canonical text, and of the ``sizes`` at which its open dims are measured, in their order."""
    return hashlib.sha256(f"{canonical_text(function)}\n{sizes}".encode()).hexdigest()
