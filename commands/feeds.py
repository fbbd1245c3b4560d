"""From ``--input`` texts to the arrays that a session takes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..artifacts.random_feeds import random_feeds
from ..contract import Contract
from ..errors import InputError, UsageError

Feeds = dict[str, np.ndarray]


def read_feeds(texts: Sequence[str], dims: Sequence[str], contract: Contract) -> Feeds:
    """The arrays by input name. Raises UsageError for texts that make no sense, InputError for unreadable files."""
    if "random" in texts:
        if len(texts) > 1:
            raise UsageError("random inputs can't be mixed with files", hint="give --input random alone")
        return random_feeds(contract, parse_sizes(dims, contract))
    if dims:
        raise UsageError("--dim is for random inputs; files have sizes of their own", hint="leave --dim out")
    feeds: Feeds = {}
    for text in texts:
        for name, array in _read(text, contract).items():
            if name in feeds:
                raise UsageError(f"input {name!r} is given twice", hint="give each input once")
            feeds[name] = array
    return feeds


def _read(text: str, contract: Contract) -> Mapping[str, np.ndarray]:
    """One ``--input``: a file name that exists wins over NAME=FILE, so that a "=" in a file's name does no harm."""
    name, separator, rest = text.partition("=")
    named = bool(separator) and not Path(text).exists()
    content = _load(Path(rest if named else text))
    if named and isinstance(content, np.ndarray):
        return {name: content}
    if named:
        raise UsageError(f"--input {text}: a .npz file names its arrays itself", hint=f"give --input {rest}")
    if isinstance(content, dict):
        return content
    if len(contract.inputs) != 1:
        names = ", ".join(spec.name for spec in contract.inputs)
        raise UsageError(f"--input {text}: which input is it? the model has {names}", hint=f"give NAME={text}")
    return {contract.inputs[0].name: content}


def _load(path: Path) -> Any:
    """An array or a dict of arrays; pickled content is refused, as it could run code."""
    try:
        content = np.load(path, allow_pickle=False)
        return content if isinstance(content, np.ndarray) else dict(content)
    except FileNotFoundError:
        raise UsageError(f"there is no input file {path}", hint="check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        message = f"{path} is not a readable .npy or .npz file: {error}"
        raise InputError(message, hint="save it with numpy.save") from error


def parse_sizes(texts: Sequence[str], contract: Contract) -> dict[str, int]:
    """Sizes of open dims from texts such as ``batch=4``."""
    sizes = {}
    for text in texts:
        name, separator, size = text.rpartition("=")
        if not separator or not (size.isascii() and size.isdigit()):
            raise UsageError(f"--dim {text}: not NAME=SIZE", hint="for example --dim batch=4")
        if name not in contract.dims:
            known = ", ".join(contract.dims) or "none"
            raise UsageError(f"--dim {text}: the model has no open dim {name!r}", hint=f"its open dims: {known}")
        sizes[name] = int(size)
    return sizes
