"""The frontend's one door: a model file becomes a Relax module with an I/O contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import tvm
from tvm import relax, tirx

from ..contract import Contract, Dim, DimRange, TensorSpec
from ..errors import ConversionError, ModelError, UnsupportedOperators, UsageError
from .converter import GraphConverter, find_unsupported, symbolic_inputs
from .external_data import DataFiles
from .model_tensors import MAX_BYTES
from .normalize import UserShapes, normalize, resolve_inputs
from .reader import ModelSource, read_model
from .sequences import RunTimeSequence, emitted, is_sequence
from .values import as_int, tensor_dtype, tensor_shape

Rewrite = Callable[[ir.Model, ModelSource], None]
"""Changes a normalised graph in place."""


@dataclass(frozen=True)
class ImportedModel:
    """``module`` holds the Relax function ``main(*inputs) -> Tuple(outputs)`` with its weights as constants."""

    module: tvm.IRModule
    contract: Contract
    source: ModelSource


def import_model(
    path: str | Path,
    shapes: UserShapes | None = None,
    *,
    outputs: Sequence[str] | None = None,
    max_bytes: int = MAX_BYTES,
    rewrite: Rewrite | None = None,
) -> ImportedModel:
    """Read, check, normalise and convert the ONNX file at ``path``.

    ``shapes`` fixes, names or bounds dims of inputs; ``outputs`` names values of the main graph to give instead of the
    model's own outputs; ``max_bytes`` bounds what the model's tensors take. ``rewrite`` changes the normalised graph in
    place before it is converted: quantization does. Raises ModelError (UnsupportedOperators,
    ConversionError) and UsageError.
    """
    path = Path(path)
    with DataFiles(path) as files:
        model, source = read_model(path, files, max_bytes)
        if outputs is not None:
            _replace_outputs(path, model.graph, outputs)
        try:
            imported = _import(path, model, source, shapes, rewrite)
        except ConversionError as error:
            raise ConversionError(f"{path}: {error.message}", hint=error.hint) from error
        files.check_unchanged()
    return imported


def _import(
    path: Path,
    model: ir.Model,
    source: ModelSource,
    shapes: UserShapes | None,
    rewrite: Rewrite | None,
) -> ImportedModel:
    imports = dict(model.graph.opset_imports or model.opset_imports)
    model = normalize(model, path)
    if rewrite is not None:
        rewrite(model, source)
    imports = {**imports, **model.opset_imports}
    unsupported = find_unsupported(model.graph, imports)
    if unsupported:
        raise UnsupportedOperators(unsupported)
    input_shapes, ranges = resolve_inputs(model.graph, shapes, path)
    inputs = tuple(_input(model.graph, name, dims, path) for name, dims in input_shapes.items())
    module, outputs = _build(model, imports, inputs, ranges)
    return ImportedModel(module, Contract(inputs, outputs, ranges), source)


def _replace_outputs(path: Path, graph: ir.Graph, names: Sequence[str]) -> None:
    made = {value.name: value for node in graph for value in node.outputs if value.name}
    unknown = [name for name in names if name not in made]
    if unknown:
        raise UsageError(f"{path}: no node of the main graph makes a value named {unknown[0]!r}")
    graph.outputs[:] = [made[name] for name in names]


def _input(graph: ir.Graph, name: str, dims: tuple[Dim, ...], path: Path) -> TensorSpec:
    value = next(value for value in graph.inputs if value.name == name)
    sequence = isinstance(value.type, ir.SequenceType)
    return TensorSpec(name, _dtype(value, path), dims, sequence)


def _dtype(value: ir.Value, path: Path) -> str:
    name, kind = value.name, value.type
    if not isinstance(kind.elem_type if isinstance(kind, ir.SequenceType) else kind, ir.TensorType):
        raise ModelError(f"{path}: input {name!r} is a {kind}; only tensors and sequences of them are taken so far")
    if value.dtype is None or value.dtype == ir.DataType.STRING:
        raise ModelError(f"{path}: input {name!r} holds strings, which are not supported yet")
    return value.dtype.numpy().name


def _build(
    model: ir.Model, imports: dict[str, int], inputs: tuple[TensorSpec, ...], ranges: dict[str, DimRange]
) -> tuple[tvm.IRModule, tuple[TensorSpec, ...]]:
    dims = {name: tirx.Var(identifier, "int64") for name, identifier in _identifiers(ranges).items()}
    names = {var: name for name, var in dims.items()}
    parameters = symbolic_inputs(inputs, dims)
    builder = relax.BlockBuilder()
    converter = GraphConverter(builder, imports)
    for name, bounds in ranges.items():
        upper = bounds.maximum if bounds.maximum is not None else (1 << 40)
        converter.context.analyzer.bind(dims[name], tvm.ir.Range(bounds.minimum, upper - bounds.minimum + 1))
    with builder.function("main", [var for _, var in parameters]):
        converter.environment.update(parameters)
        converter.environment.update(_sequences(model.graph, inputs, dict(parameters)))
        results = converter.run(model.graph)
        outputs = [_output(converter, *pair) for pair in zip(model.graph.outputs, results, strict=True)]
        builder.emit_func_output(builder.emit(relax.Tuple([v.handle if is_sequence(v) else v for v in outputs])))
    module = _reachable(builder.finalize())
    module["main"] = _with_bounds(module["main"], dims, ranges).with_attr("num_input", len(parameters))
    pairs = zip(model.graph.outputs, outputs, strict=True)
    return module, tuple(_output_spec(value.name or "", out, names) for value, out in pairs)


def _sequences(
    graph: ir.Graph, inputs: Sequence[TensorSpec], parameters: dict[str, relax.Var]
) -> dict[str, RunTimeSequence]:
    """The inputs that are sequences, as values of the graph. "Of rank 0" is what many say who know nothing."""
    shapes = {value.name or "": value.shape for value in graph.inputs}
    ranks = {name: len(shape) if shape else None for name, shape in shapes.items()}
    return {
        spec.name: RunTimeSequence(parameters[spec.name], spec.dtype, ranks[spec.name])
        for spec in inputs
        if spec.sequence
    }


def _output_spec(name: str, value: Any, names: dict[tirx.Var, str]) -> TensorSpec:
    if is_sequence(value):
        return TensorSpec(name, value.dtype, (), sequence=True)
    return TensorSpec(name, tensor_dtype(value), _display(tensor_shape(value), names))


def _output(converter: GraphConverter, value: ir.Value, result: Any) -> Any:
    try:
        return emitted(converter.context, result)
    except ConversionError as error:
        raise ModelError(f"output {value.name!r} is an optional value, which can't be given so far") from error


def _reachable(module: tvm.IRModule) -> tvm.IRModule:
    """The module without what loops left that were converted more than once."""
    wanted = {module.get_global_var("main")}
    found: list[tvm.ir.GlobalVar] = []
    while wanted:
        gv = wanted.pop()
        found.append(gv)
        if isinstance(module[gv], relax.Function):
            wanted |= set(relax.analysis.all_global_vars(module[gv])) - set(found)
    return tvm.IRModule({gv: module[gv] for gv in found}, module.attrs, module.global_infos)


def _with_bounds(function: relax.Function, dims: dict[str, tirx.Var], ranges: dict[str, DimRange]) -> relax.Function:
    """Ranges go along as TVM's attributes: memory is planned for the upper bound."""
    upper = {dims[name].name: bounds.maximum for name, bounds in ranges.items() if bounds.maximum is not None}
    return function.with_attr("tir_var_upper_bound", upper) if upper else function


def _identifiers(names: Iterable[str]) -> dict[str, str]:
    """A name of its own for each dim that TVM can print and parse; bounds are attached to these names."""
    made: dict[str, str] = {}
    for name in names:
        cleaned = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
        cleaned = cleaned if cleaned and not cleaned[0].isdigit() else f"d_{cleaned}"
        while cleaned in made.values():
            cleaned += "_"
        made[name] = cleaned
    return made


def _display(shape: tuple, names: dict[tirx.Var, str]) -> tuple[Dim, ...]:
    shown: list[Dim] = []
    for dim in shape:
        known = as_int(dim)
        named = next((name for var, name in names.items() if known is None and dim.same_as(var)), None)
        shown.append(known if known is not None else named or _plain(dim, names))
    return tuple(shown)


def _plain(dim: tirx.PrimExpr, names: dict[tirx.Var, str]) -> str:
    """An expression over the contract's dims as text, without TVM's dtype wrappers."""
    text = re.sub(r"T\.int64\((-?\d+)\)", r"\1", str(dim)).replace("T.", "")
    contract = {var.name: name for var, name in names.items()}
    return re.sub(r"[A-Za-z_]\w*", lambda word: contract.get(word.group(), word.group()), text)
