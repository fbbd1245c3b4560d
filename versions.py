"""Which versions belong together, and what to say when they don't.

Compiling needs one exact pair of TVM and tvm-ffi; loading an artifact needs only tvm-ffi of a compatible series.
"""

from __future__ import annotations

from importlib import metadata

from .errors import ToolchainError, VersionError

VERSION = "0.1.0"
"""The version of onnxkiln itself."""

TVM_VERSION = "0.27.0.post1"
"""The TVM that compiles, and whose runtime travels with an artifact."""

FFI_VERSION = "0.1.14.post1"
"""The tvm-ffi that compiles: 0.1.15 crashes inside TVM 0.27 as soon as a module is saved as JSON."""

FFI_SERIES = ((0, 1, 14), (0, 2))
"""Releases of tvm-ffi that load artifacts: from the first, inclusive, to the second, exclusive."""

_PINS = {"apache-tvm": TVM_VERSION, "apache-tvm-ffi": FFI_VERSION}


def installed(distribution: str) -> str | None:
    """The version of an installed distribution, or None; nothing is imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "0.1.14.post1" gives (0, 1, 14)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def check_compiler() -> None:
    """Raise ToolchainError unless exactly the pinned TVM and tvm-ffi are installed."""
    found = {name: installed(name) for name in _PINS}
    wrong = [name for name, pin in _PINS.items() if found[name] != pin]
    if not wrong:
        return
    lines = "; ".join(f"{name} {_PINS[name]} is needed, {found[name] or 'none'} is installed" for name in wrong)
    cure = " ".join(f"'{name}=={pin}'" for name, pin in _PINS.items())
    raise ToolchainError(
        f"compiling needs one exact pair of TVM and tvm-ffi (others are known to crash): {lines}",
        hint=f"pip install {cure}, or pip install 'onnxkiln[compile]' in a fresh environment",
    )


def check_loader(found: str) -> None:
    """Raise VersionError unless a tvm-ffi of version ``found`` can load artifacts."""
    low, high = FFI_SERIES
    if low <= release(found) < high:
        return
    wanted = f"apache-tvm-ffi>={'.'.join(map(str, low))},<{'.'.join(map(str, high))}"
    raise VersionError(
        f"loading an artifact needs {wanted}; found {found}",
        hint=f"pip install '{wanted}'",
    )
