"""8-bit models against ONNX Runtime running its own quantized model of the same scheme, one thread, calls in turn.

    scripts/measure.py quantized [MODEL...]

Two builds of each model: ``theirs`` is ONNX Runtime's quantized graph compiled here, ``own`` is the float model
compiled with ``--quantize``. Times are CPU times of the calling thread, the least of many calls, so that other work
on the machine counts little. An output's quantum is the scale of the DequantizeLinear that gives it, else a 255th of
its largest magnitude. Models and artifacts are kept in build/bench/quantized.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper as nh
import onnxruntime

import onnxkiln
from bench_models.artifacts import FOLDER
from bench_models.catalog import GENERATED, generate
from onnxkiln.commands.output import format_table
from zoo_check.cases import Feeds, Input, listed_sizes, random_feeds
from zoo_check.quantized_forms import FORMS, prepare
from zoo_check.realistic import MAKERS
from zoo_models.catalog import load_catalog
from zoo_models.fetch import fetch

STATIC = ("resnet50", "mobilenet_v2", "efficientnet_lite0", "ppocr_det")
DYNAMIC = ("minilm_l6", "bert_base")
AS_FOUND = ("minilm_qdq", "t5_encoder_int8")
MOST = {"static": 0.80, "dynamic": 0.80, "as found": 0.90}
"""Of ONNX Runtime's time: of static models the geometric mean, none above 1; of the others each."""
MOST_OF_FLOAT = {"resnet50": 0.26}
LEAST_WITHIN, SAMPLES, CALLS, AT_ONCE = 0.99, 4, 40, 3

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """``model`` is the quantized graph, ``source`` the float one, None for models that come as integers."""

    name: str
    form: str
    model: Path
    source: Path | None
    feeds: Sequence[Feeds]


def measure(*names: str) -> list[dict[str, Any]]:
    """A row for each model; every static row says whether their mean is reached."""
    wanted = names or (*STATIC, *DYNAMIC, *AS_FOUND)
    found = []
    for name in wanted:
        found.append(_measure(_case(name)))
        print(f"{name} {found[-1]['ratio']:.2f}", file=sys.stderr, flush=True)
    static = [row["ratio"] for row in found if row["form"] == "static"]
    mean = float(np.exp(np.mean(np.log(static)))) if static else None
    for row in found:
        row["mean"] = mean if row["form"] == "static" else None
        most = 1.0 if row["form"] == "static" else MOST[row["form"]]
        fast = row["ratio"] <= most and (row["mean"] is None or row["mean"] <= MOST["static"])
        if row["name"] in MOST_OF_FLOAT:
            fast = fast and row["of_float"] <= MOST_OF_FLOAT[row["name"]]
        row["passed"] = bool(fast and row["same_top"] and row["within"] >= LEAST_WITHIN)
    return found


def _case(name: str) -> Case:
    folder = FOLDER / "quantized"
    folder.mkdir(parents=True, exist_ok=True)
    generated = next((item for item in GENERATED if item.name == name), None)
    listed: Any = generated or load_catalog([name])[0]
    source = generate(generated) if generated else fetch(listed)
    reference = _session(source)
    inputs = [Input(item.name, _dtype(item.type), _dims(item.shape, item.name)) for item in reference.get_inputs()]
    feeds = [random_feeds(listed, inputs, listed_sizes(listed, inputs), seed) for seed in range(SAMPLES)]
    if not generated and listed.realistic in MAKERS:
        realistic = MAKERS[listed.realistic](inputs, lambda given: reference.run(None, given))
        feeds = [realistic] if name in STATIC else [*feeds, realistic]
    if name in AS_FOUND:
        return Case(name, "as found", source, None, feeds)
    form = "static" if name in STATIC else "dynamic"
    model, prepared = folder / f"{name}.{form}.onnx", folder / f"{name}.float.onnx"
    if not model.is_file():
        prepare(source, prepared)
        FORMS["qdq" if form == "static" else "dynamic"](prepared, model, feeds)
    return Case(name, form, model, source, feeds)


def _dtype(kind: str) -> str:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def _dims(shape: Sequence[Any], name: str) -> list[int | str]:
    return [dim if isinstance(dim, int | str) else f"{name}.{axis}" for axis, dim in enumerate(shape)]


def _session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _measure(case: Case) -> dict[str, Any]:
    folder = FOLDER / "quantized"
    theirs = onnxkiln.compile(case.model, folder / f"{case.name}.theirs", force=True)
    built = {"theirs": theirs}
    if case.source is not None:
        scheme: dict[str, Any] = {"quantize": "int8-dynamic"}
        if case.form == "static":
            scheme = {"quantize": "int8", "calibrate": list(case.feeds)}
        built["own"] = onnxkiln.compile(case.source, folder / f"{case.name}.own", force=True, **scheme)
    sessions = {name: onnxkiln.load(path, threads=1) for name, path in built.items()}
    peer = _session(case.model)
    feeds = case.feeds[0]
    calls: dict[str, Call] = {name: _call(session, feeds) for name, session in sessions.items()}
    calls["peer"] = _call(peer, feeds)
    if case.source is not None:
        calls["float"] = _call(_session(case.source), feeds)
    within, same = _agreement(case, sessions["theirs"], peer)
    times = _times(calls)
    for session in sessions.values():
        session.close()
    return {
        "name": case.name,
        "form": case.form,
        "ours_ms": times["theirs"],
        "own_ms": times.get("own"),
        "peer_ms": times["peer"],
        "ratio": times["theirs"] / times["peer"],
        "own_ratio": times["own"] / times["peer"] if "own" in times else None,
        "of_float": times["theirs"] / times["float"] if "float" in times else None,
        "within": within,
        "same_top": same,
        "weights": _share(built.get("own"), case.source),
        "kernels": _kernels(theirs),
    }


def _call(session: Any, feeds: Feeds) -> Call:
    return lambda: session.run(None, feeds)


def _times(calls: dict[str, Call]) -> dict[str, float]:
    """Milliseconds, the least of each."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(CALLS):
        for name, call in calls.items():
            for _ in range(AT_ONCE):
                start = time.thread_time_ns()
                call()
                best[name] = min(best[name], (time.thread_time_ns() - start) / 1e6)
    return best


def _agreement(case: Case, session: Any, peer: Any) -> tuple[float, bool]:
    """The share of outputs within two quanta of ONNX Runtime's, and whether the largest is the same one."""
    steps = _quanta(case.model)
    near, total, same = 0, 0, True
    for feeds in case.feeds:
        names = [item.name for item in peer.get_outputs()]
        for name, ours, theirs in zip(names, session.run(None, feeds), peer.run(None, feeds), strict=True):
            quantum = steps.get(name) or float(np.abs(theirs).max()) / 255
            near += int((np.abs(ours.astype(np.float64) - theirs) <= 2.001 * quantum).sum())
            total += theirs.size
            if case.name in STATIC and theirs.ndim == 2:
                same = same and bool((ours.argmax(-1) == theirs.argmax(-1)).all())
    return near / total, same


def _quanta(model: Path) -> dict[str, float]:
    graph = onnx.load(model, load_external_data=False).graph
    constants = {item.name: item for item in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[1] in constants:
            found[node.output[0]] = float(nh.to_array(constants[node.input[1]]).max())
    return {item.name: found[item.name] for item in graph.output if item.name in found}


def _share(artifact: Path | None, source: Path | None) -> float | None:
    """The weights file, as a share of the float model's file."""
    if artifact is None or source is None:
        return None
    return sum(file.stat().st_size for file in artifact.glob("weights.*")) / source.stat().st_size


def _kernels(artifact: Path) -> dict[str, int]:
    """How often each template runs."""
    counts: dict[str, int] = {}
    for kernel in json.loads((artifact / "manifest.json").read_text())["kernels"]:
        name = kernel.get("template") or "generic"
        counts[name] = counts.get(name, 0) + kernel["calls"]
    return counts


def show(found: list[dict[str, Any]]) -> str:
    """A table, and what it has to keep."""
    header = ("model", "form", "ORT ms", "ours", "ratio", "--quantize", "of fp32", "within 2", "top-1", "weights")
    rows = []
    for row in found:
        own, whole = ("" if row[key] is None else f"{row[key]:.2f}" for key in ("own_ratio", "of_float"))
        weights = "" if row["weights"] is None else f"{row['weights']:.1%}"
        numbers = (f"{row['peer_ms']:.2f}", f"{row['ours_ms']:.2f}", f"{row['ratio']:.2f}", own)
        quality = (whole, f"{row['within']:.2%}", "same" if row["same_top"] else "other", weights)
        rows.append((row["name"], row["form"], *numbers, *quality))
    lines = [format_table(header, rows)]
    mean = next((row["mean"] for row in found if row["mean"] is not None), None)
    if mean is not None:
        lines.append(f"geometric mean of static models {mean:.2f} (at most {MOST['static']:.2f}, none above 1)")
    lines += [f"{row['name']}: {row['kernels']}" for row in found]
    lines += [f"{row['name']} misses what is promised" for row in found if not row["passed"]]
    return "\n".join(lines)
