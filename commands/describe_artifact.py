"""An artifact folder in figures, read from its manifest alone: nothing of it is opened or run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..artifacts.manifest import Device, Kernel
from ..artifacts.opening import OpenArtifact
from ..targets import ISAS
from .output import format_bytes, format_dims, format_specs, format_table, print_section


def describe(folder: Path) -> dict[str, Any]:
    """The manifest's content, kernels also summed by kind. Raises ArtifactError when it can't be read."""
    with OpenArtifact(folder) as artifact:
        manifest = artifact.manifest
    weights = manifest.weights.tensors
    return {
        "artifact": str(folder),
        "source": {"name": manifest.source.name, "sha256": manifest.source.sha256, "opsets": manifest.source.opsets},
        "created_by": vars(manifest.created_by),
        "level": manifest.level,
        **manifest.contract.to_json(),
        "libraries": [
            {"path": library.path, "isa": library.isa, "features": library.features} for library in manifest.libraries
        ],
        **({"device": _device(manifest.device)} if manifest.device else {}),
        "passes": [vars(report) for report in manifest.passes],
        "kernel_kinds": _kernel_kinds(manifest.kernels),
        "kernels": [vars(kernel) for kernel in manifest.kernels],
        "weights": {"tensors": len(weights), "bytes": sum(weight.nbytes for weight in weights)},
        "activations": vars(manifest.activations) if manifest.activations else None,
        "files": {entry.path: entry.size for entry in manifest.files},
        "bytes": sum(entry.size for entry in manifest.files),
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "toolkit": device.toolkit,
        "codes": [
            {
                "path": code.path,
                "form": code.form,
                "architecture": code.architecture,
                "kernels": [vars(use) for use in code.uses],
            }
            for code in device.codes
        ],
        "threads": {kernel.name: kernel.threads for kernel in device.kernels},
    }


def _kernel_kinds(kernels: tuple[Kernel, ...]) -> list[dict[str, Any]]:
    """How many functions and calls each kind has; a template counts as a kind of its own."""
    kinds: dict[str, dict[str, Any]] = {}
    for kernel in kernels:
        kind = f"{kernel.kind} {kernel.template}" if kernel.template else kernel.kind
        entry = kinds.setdefault(kind, {"kind": kind, "functions": 0, "vectorized": 0, "calls": 0})
        entry["functions"] += 1
        entry["vectorized"] += kernel.vectorized
        entry["calls"] += kernel.calls
    return sorted(kinds.values(), key=lambda entry: -entry["calls"])


def show(description: dict[str, Any]) -> None:
    made = description["created_by"]
    source = description["source"]
    print(f"{description['artifact']}: {source['name']} (sha256 {source['sha256'][:12]}) at {description['level']}")
    print(f"made by onnxkiln {made['onnxkiln']}, TVM {made['tvm']}, tvm-ffi {made['ffi']}")
    print_section("inputs", format_specs(description["inputs"]))
    print_section("outputs", format_specs(description["outputs"]))
    if description["dims"]:
        print_section("open dims", format_dims(description["dims"]))
    libraries = [(item["path"], item["isa"], _extras(item)) for item in description["libraries"]]
    print_section("libraries", format_table(("file", "isa", "needs beside it"), libraries))
    if "device" in description:
        _show_device(description["device"])
    passes = [(item["name"], "-" if item["applied"] is None else item["applied"]) for item in description["passes"]]
    print_section("passes", format_table(("pass", "applied"), passes))
    kernels = [tuple(kind.values()) for kind in description["kernel_kinds"]]
    print_section("kernels", format_table(("kind", "functions", "vectorized", "calls"), kernels))
    plain = [kernel["name"] for kernel in description["kernels"] if not kernel["vectorized"]]
    if plain and "device" not in description:
        print_section("functions without vector instructions", "\n".join(plain))
    print_section("memory of activations and outputs", _memory(description["activations"]))
    weights = description["weights"]
    files = [(path, format_bytes(size)) for path, size in description["files"].items()]
    print_section(
        f"files, {format_bytes(description['bytes'])} in all; {weights['tensors']} weights of "
        f"{format_bytes(weights['bytes'])}",
        format_table(("file", "size"), files),
    )


def _show_device(device: dict[str, Any]) -> None:
    codes = [(code["path"], code["form"], len(code["kernels"]) or "all", *_peaks(code)) for code in device["codes"]]
    heads = ("file", "form", "kernels", "most registers", "most shared", "with a stack")
    print_section(f"device code, by NVRTC {device['toolkit']}", format_table(heads, codes))
    machine = [code for code in device["codes"] if code["kernels"]]
    if not machine:
        return
    uses = sorted(machine[0]["kernels"], key=lambda use: (-use["stack_bytes"], -use["registers"], use["name"]))
    threads = device["threads"]
    rows = [
        (use["name"], threads.get(use["name"], "-"), use["registers"], use["shared_bytes"], use["stack_bytes"])
        for use in uses
    ]
    columns = ("kernel", "threads", "registers", "shared bytes", "stack bytes")
    print_section(f"kernels of {machine[0]['path']}; a stack holds spilled registers", format_table(columns, rows))


def _peaks(code: dict[str, Any]) -> tuple[Any, ...]:
    kernels = code["kernels"]
    if not kernels:
        return "-", "-", "-"
    return (
        max(use["registers"] for use in kernels),
        format_bytes(max(use["shared_bytes"] for use in kernels)),
        sum(use["stack_bytes"] > 0 for use in kernels),
    )


def _memory(activations: dict[str, Any] | None) -> str:
    if activations is None:
        return "not said: an older onnxkiln made the artifact"
    if activations["bytes"] is not None:
        return format_bytes(activations["bytes"])
    return f"{activations['formula']} bytes" if activations["formula"] else "known only at run time"


def _extras(library: dict[str, Any]) -> str:
    """The instruction sets that a library uses beside those that its level implies."""
    isa = ISAS.get(library["isa"])
    return " ".join(sorted(set(library["features"]) - (isa.features if isa else set()))) or "-"
