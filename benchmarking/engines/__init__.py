"""The engines that can be measured, by name; a file each that opens it, ``NAME_engine.py``.

Such a file runs in a process where nothing but the standard library is loaded, as importing is part of what is timed.
So it is run by its path, imports nothing of this package, and has two functions: ``import_library()``, and
``open_session(job)``, which takes the fields of ``processes.Job`` as a dict and returns a function from feeds (arrays
by input name) to the list of outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UsageError
from ...versions import installed

OURS = "onnxkiln"


@dataclass(frozen=True)
class Engine:
    """``distribution`` is what pip calls it, ``install`` what a user types to get it; ``remark`` goes below tables."""

    name: str
    title: str
    distribution: str
    install: str
    remark: str = ""

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        return installed(self.distribution)


_BENCH = "pip install 'onnxkiln[bench]'"

ENGINES = {
    engine.name: engine
    for engine in (
        Engine(OURS, "onnxkiln", "onnxkiln", "pip install onnxkiln"),
        Engine("onnxruntime", "ONNX Runtime", "onnxruntime", _BENCH),
        Engine("openvino", "OpenVINO", "openvino", _BENCH, "OpenVINO computes in float32, as all others here"),
        Engine("tract", "tract", "tract", _BENCH, "tract has one thread, whatever the number asked for"),
        Engine(
            "tvm", "TVM, untuned", "apache-tvm", "pip install 'onnxkiln[compile]'",
            "TVM is TVM's own importer and default CPU pipeline; its load time is that of compiling",
        ),
    )
}  # fmt: skip
PEERS = tuple(name for name in ENGINES if name != OURS)


def parse_peers(text: str) -> list[Engine]:
    """Engines from names with commas, each once. Raises UsageError for one that isn't known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise UsageError(f"there is no engine {name!r} to compare with", hint=f"known are {', '.join(PEERS)}")
    return [ENGINES[name] for name in dict.fromkeys(names)]
