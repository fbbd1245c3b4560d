"""An artifact folder in figures, read from its manifest alone: nothing of it is opened or run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..artifacts.manifest import Kernel
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
        "passes": [vars(report) for report in manifest.passes],
        "kernel_kinds": _kernel_kinds(manifest.kernels),
        "kernels": [vars(kernel) for kernel in manifest.kernels],
        "weights": {"tensors": len(weights), "bytes": sum(weight.nbytes for weight in weights)},
        "files": {entry.path: entry.size for entry in manifest.files},
        "bytes": sum(entry.size for entry in manifest.files),
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
    passes = [(item["name"], "-" if item["applied"] is None else item["applied"]) for item in description["passes"]]
    print_section("passes", format_table(("pass", "applied"), passes))
    kernels = [tuple(kind.values()) for kind in description["kernel_kinds"]]
    print_section("kernels", format_table(("kind", "functions", "vectorized", "calls"), kernels))
    plain = [kernel["name"] for kernel in description["kernels"] if not kernel["vectorized"]]
    if plain:
        print_section("functions without vector instructions", "\n".join(plain))
    weights = description["weights"]
    files = [(path, format_bytes(size)) for path, size in description["files"].items()]
    print_section(
        f"files, {format_bytes(description['bytes'])} in all; {weights['tensors']} weights of "
        f"{format_bytes(weights['bytes'])}",
        format_table(("file", "size"), files),
    )


def _extras(library: dict[str, Any]) -> str:
    """The instruction sets that a library uses beside those that its level implies."""
    isa = ISAS.get(library["isa"])
    return " ".join(sorted(set(library["features"]) - (isa.features if isa else set()))) or "-"
