"""One hierarchy for everything that onnxkiln refuses or fails at.

A message says what happened and where, what was expected and what was found; ``hint`` says what to do now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class KilnError(Exception):
    """Base of all errors that a user of onnxkiln is meant to read.

    ``exit_code`` is what the command line returns: 1 for a failure, 2 for wrong usage.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  what to do: {self.hint}" if self.hint else self.message


class UsageError(KilnError):
    """The call itself is wrong: an unknown option value, a shape that can't be read, an output that exists."""

    exit_code = 2


class ToolchainError(KilnError):
    """What compiling needs is absent or of a version that is known to misbehave (TVM, tvm-ffi, a C compiler)."""


class ModelError(KilnError):
    """The model file is missing, damaged, hostile, or not valid ONNX."""


@dataclass(frozen=True)
class UnsupportedNode:
    """One node that has no converter. ``where`` is the path of (sub)graphs, e.g. ``main/if_3.then_branch``."""

    name: str
    op_type: str
    domain: str
    opset: int | None
    where: str
    reason: str = "no converter"

    def __str__(self) -> str:
        opset = "an opset that the model does not declare" if self.opset is None else f"opset {self.opset}"
        return f"{self.where}: node {self.name!r}: {self.domain or 'ai.onnx'}.{self.op_type}, {opset}: {self.reason}"


class UnsupportedOperators(ModelError):
    """The model uses operators that no converter covers; ``nodes`` lists every one of them, subgraphs included."""

    def __init__(self, nodes: Sequence[UnsupportedNode]):
        self.nodes = tuple(nodes)
        lines = "\n".join(f"  {node}" for node in self.nodes)
        super().__init__(
            f"{len(self.nodes)} node(s) of the model can't be compiled:\n{lines}",
            hint="export with another opset, replace these operators, or report the list",
        )


class ConversionError(ModelError):
    """A supported operator with arguments that its converter refuses; the message names the node."""


class CompileError(KilnError):
    """A pass, a schedule or code generation failed on a model that was imported."""


class LogError(KilnError):
    """A tuning log, or a record for one, can't be read or written: damaged, foreign, read-only, no room."""


class AccuracyError(KilnError):
    """No quantized form of a model keeps the accuracy budget that was asked for."""


class ArtifactError(KilnError):
    """An artifact folder can't be used as it is."""


class IntegrityError(ArtifactError):
    """A file of the artifact is missing, surplus or not the one that the manifest lists."""


class VersionError(ArtifactError):
    """The artifact was made for another version of the format or the runtime."""


class IsaError(ArtifactError):
    """This processor lacks instructions that the artifact's code uses."""


class DeviceError(ArtifactError):
    """No GPU, or none that can run the artifact: no driver, an old one, no code for it, no memory left."""


class InputError(KilnError, ValueError):
    """What ``Session.run`` was given doesn't fit the model: name, rank, dtype, dim or disagreeing symbolic dims."""
