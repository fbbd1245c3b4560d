"""An ONNX file in figures: what the compiler sees of it before anything is converted."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

from ..versions import check_compiler
from .output import format_bytes, format_dims, format_specs, format_table, print_section


def describe(path: Path) -> dict[str, Any]:
    """Interface, operators and unsupported nodes. Raises ModelError when the file can't be read."""
    check_compiler()
    from ..frontend.converter import find_unsupported
    from ..frontend.external_data import DataFiles
    from ..frontend.normalize import normalize, resolve_inputs
    from ..frontend.reader import read_model

    with DataFiles(path) as files:
        model, source = read_model(path, files)
    operators = collections.Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph.all_nodes()
    )
    imports = dict(model.opset_imports)
    shapes, dims = resolve_inputs(model.graph, None, path)
    dtypes = {value.name: _dtype(value) for value in [*model.graph.inputs, *model.graph.outputs]}
    outputs = [
        {"name": value.name, "dtype": dtypes[value.name], "shape": None if value.shape is None else _dims(value.shape)}
        for value in model.graph.outputs
    ]
    normal = normalize(model, path)
    initializers = [value.const_value for value in normal.graph.initializers.values() if value.const_value is not None]
    unsupported = find_unsupported(normal.graph, {**imports, **normal.opset_imports})
    return {
        "model": str(path),
        "sha256": source.sha256,
        "producer": source.producer,
        "ir_version": source.ir_version,
        "opsets": source.opsets,
        "inputs": [{"name": name, "dtype": dtypes[name], "shape": list(shape)} for name, shape in shapes.items()],
        "outputs": outputs,
        "dims": {name: [bounds.minimum, bounds.maximum] for name, bounds in dims.items()},
        "nodes": sum(operators.values()),
        "operators": dict(operators.most_common()),
        "weights": {"tensors": len(initializers), "bytes": sum(tensor.nbytes for tensor in initializers)},
        "unsupported": [vars(node) for node in unsupported],
    }


def _dtype(value: Any) -> str:
    return "unknown" if value.dtype is None else value.dtype.numpy().name


def _dims(shape: Any) -> list[int | str]:
    return [dim if isinstance(dim, int) else str(dim.value or "?") for dim in shape]


def show(description: dict[str, Any]) -> None:
    opsets = ", ".join(f"{domain} {version}" for domain, version in description["opsets"].items())
    weights = description["weights"]
    producer = f", made by {description['producer']}" if description["producer"] else ""
    print(f"{description['model']}: {description['nodes']} nodes, opset {opsets}{producer}")
    print(f"{weights['tensors']} weights of {format_bytes(weights['bytes'])}, sha256 {description['sha256'][:12]}")
    print_section("inputs", format_specs(description["inputs"]))
    print_section("outputs", format_specs(description["outputs"]))
    if description["dims"]:
        print_section("open dims", format_dims(description["dims"]))
    print_section("operators", format_table(("operator", "nodes"), description["operators"].items()))
    if description["unsupported"]:
        rows = [
            (node["where"], node["name"], node["domain"] or "ai.onnx", node["op_type"], node["reason"])
            for node in description["unsupported"]
        ]
        print_section("can't be compiled", format_table(("where", "node", "domain", "operator", "reason"), rows))
    else:
        print("\nevery operator has a converter")
