"""ONNX to simpler ONNX: functions inlined, constants folded, dead nodes dropped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript.optimizer import fold_constants

from ..errors import ConversionError, ModelError
from .function_bodies import inline_function_bodies
from .input_shapes import UserShapes, resolve_inputs

__all__ = ["UserShapes", "normalize", "resolve_inputs"]

FOLD_INPUT_LIMIT = 1 << 20
FOLD_OUTPUT_LIMIT = 16 << 20
"""Bytes: a larger constant is left to run time, where it costs no space in the file."""

_NOT_FOLDED = ("SplitToSequence",)
"""The folder makes a Split of these, which fails on sizes that only come at run time and on some that don't."""

_KEPT = "_kept"


def normalize(model: ir.Model, path: Path) -> ir.Model:
    """Inline functions, lift ``Constant`` nodes to initializers, fold what the file alone decides, drop dead code."""
    try:
        with _quiet("onnxscript", "onnx_ir"):
            common.InlinePass()(model)
            inline_function_bodies(model)
            common.RemoveUnusedNodesPass()(model)
            _fold(model)
            common.RemoveUnusedNodesPass()(model)
    except ConversionError:
        raise
    except Exception as error:
        raise ModelError(f"{path}: the graph can't be normalised: {error}") from error
    return model


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without the warnings, with tracebacks, of passes that go on without what they could not infer."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _fold(model: ir.Model) -> None:
    kept = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.op_type in _NOT_FOLDED]
    for node in kept:
        node.op_type += _KEPT
    try:
        fold_constants(
            model,
            onnx_shape_inference=False,
            input_size_limit=FOLD_INPUT_LIMIT,
            output_size_limit=FOLD_OUTPUT_LIMIT,
            should_fold=lambda node: False if node.op_type.endswith(_KEPT) else None,
        )
    finally:
        for node in kept:
            node.op_type = node.op_type.removesuffix(_KEPT)
