"""ONNX to simpler ONNX: functions inlined, constants folded, dead nodes dropped, dims named or fixed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript.optimizer import fold_constants

from ..contract import Dim, DimRange
from ..errors import ModelError, UsageError
from .function_bodies import inline_function_bodies

UserShapes = Mapping[str, Sequence[int | str | DimRange | None]]
"""What a user asks of the inputs: per input and dim a size, a name, a range, or None to leave it as it is."""

_UNNAMED = {"", "?", "None", "-1", "unk", "unknown"}

FOLD_INPUT_LIMIT = 1 << 20
FOLD_OUTPUT_LIMIT = 16 << 20
"""Bytes: a larger constant is left to run time, where it costs no space in the file."""


def normalize(model: ir.Model, path: Path) -> ir.Model:
    """Inline functions, lift ``Constant`` nodes to initializers, fold what the file alone decides, drop dead code."""
    try:
        common.InlinePass()(model)
        inline_function_bodies(model)
        common.RemoveUnusedNodesPass()(model)
        _fold(model)
        common.RemoveUnusedNodesPass()(model)
    except Exception as error:
        raise ModelError(f"{path}: the graph can't be normalised: {error}") from error
    return model


def _fold(model: ir.Model) -> None:
    noisy = logging.getLogger("onnxscript")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        fold_constants(
            model,
            onnx_shape_inference=False,
            input_size_limit=FOLD_INPUT_LIMIT,
            output_size_limit=FOLD_OUTPUT_LIMIT,
        )
    finally:
        noisy.setLevel(level)


def resolve_inputs(graph: ir.Graph, shapes: UserShapes | None, path: Path) -> tuple[dict[str, tuple[Dim, ...]], dict[str, DimRange]]:
    """Each input's shape and each symbolic dim's range, from what the model says and what the user asked for.

    A dim that the model names keeps its name everywhere, so fixing it on one input fixes it on all. A dim without a
    name gets one of its own, ``<input>_dim_<i>``. Raises UsageError for shapes that don't fit the model.
    """
    wanted = dict(shapes or {})
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    unknown = sorted(set(wanted) - {value.name for value in inputs})
    if unknown:
        raise UsageError(f"{path}: no input named {unknown[0]!r}", hint=f"the inputs are {', '.join(v.name or '' for v in inputs)}")
    fixed: dict[str, int | str] = {}
    ranges: dict[str, DimRange] = {}
    result = {value.name or "": _input_shape(value, wanted.get(value.name or ""), fixed, ranges, path) for value in inputs}
    final = {name: tuple(_follow(dim, fixed) for dim in dims) for name, dims in result.items()}
    used = {dim for dims in final.values() for dim in dims if isinstance(dim, str)}
    return final, {dim: ranges.get(dim, DimRange()) for dim in sorted(used)}


def _follow(dim: Dim, fixed: Mapping[str, Dim]) -> Dim:
    while isinstance(dim, str) and dim in fixed and fixed[dim] != dim:
        dim = fixed[dim]
    return dim


def _input_shape(
    value: ir.Value, wanted: Sequence[int | str | DimRange | None] | None, fixed: dict[str, int | str], ranges: dict[str, DimRange], path: Path
) -> tuple[Dim, ...]:
    name = value.name or ""
    if value.shape is None and wanted is None:
        raise ModelError(f"{path}: input {name!r} has no rank in the file", hint=f"give its shape: --shape {name}=...")
    own = [_model_dim(dim, name, i) for i, dim in enumerate(value.shape)] if value.shape is not None else None
    if wanted is None:
        assert own is not None
        return tuple(own)
    own = own if own is not None else [f"{name}_dim_{i}" for i in range(len(wanted))]
    if len(wanted) != len(own):
        raise UsageError(f"{path}: input {name!r} has rank {len(own)} {own}, the shape given has {len(wanted)} dims")
    for mine, theirs in zip(own, wanted, strict=True):
        _apply(name, mine, theirs, fixed, ranges, path)
    return tuple(own)


def _apply(name: str, mine: Dim, theirs: int | str | DimRange | None, fixed: dict[str, int | str], ranges: dict[str, DimRange], path: Path) -> None:
    if theirs is None or theirs == mine:
        return
    if isinstance(mine, int):
        if isinstance(theirs, str) or (isinstance(theirs, DimRange) and mine in theirs):
            return
        raise UsageError(f"{path}: input {name!r} has a fixed dim of {mine} in the model, the shape given says {theirs}")
    if isinstance(theirs, DimRange):
        if ranges.setdefault(mine, theirs) != theirs:
            raise UsageError(f"{path}: dim {mine!r} is given two ranges: {ranges[mine]} and {theirs}")
    elif fixed.setdefault(mine, theirs) != theirs:
        raise UsageError(f"{path}: dim {mine!r} is given two sizes: {fixed[mine]} and {theirs} (input {name!r})")


def _model_dim(dim: int | ir.SymbolicDim, name: str, index: int) -> Dim:
    if isinstance(dim, int):
        return dim if dim >= 0 else f"{name}_dim_{index}"
    text = dim.value
    return f"{name}_dim_{index}" if text is None or text.strip() in _UNNAMED else text
