"""What a compiled model takes and gives: names, dtypes and shapes with named symbolic dims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import UsageError

COPIED_SIZE = 20_201
OTHER_BRANCH = 20_202
"""What a run-time check that fails is known by: a number that TVM's message holds. Others are 1."""

REFUSALS = {
    COPIED_SIZE: "a new shape (Reshape) holds an open dim that is 0 here, which ONNX reads as 'the size of the input'; "
    "that is not supported where the two differ",
    OTHER_BRANCH: "for these inputs the model takes a branch (If) whose result has another rank than what follows is "
    "made for",
}
"""Words for the checks that have a number of their own."""

LOOP = "onnxkiln.loop"
"""Attribute of a graph function that is one iteration of a loop: its callers mean all of them."""

QUANTIZATION, SCALE, ZERO = "onnxkiln.quantization", "onnxkiln.scale", "onnxkiln.zero"
"""Attributes of a kernel that is one QuantizeLinear or DequantizeLinear with known parameters: which of the two, and
its scale (float32) and zero point (int32), tensors that broadcast to the data. What the kernel computes is in its body;
passes that see pairs around an operator may compute with the integers instead."""

EXTREME, EXTREME_AXES, EXTREME_KEPT = "onnxkiln.extreme", "onnxkiln.extreme_axes", "onnxkiln.extreme_kept"
"""Attributes of a kernel that reduces its operand to the largest ("max") or smallest ("min") elements, and NaN where
there is one: which of the two, over which axes, and whether they are kept as axes of size 1."""

Dim = int | str
"""A size, the name of a symbolic dim, or (in outputs) the text of an expression over such names."""


@dataclass(frozen=True)
class DimRange:
    """Inclusive range of a symbolic dim; ``maximum`` None means unbounded."""

    minimum: int = 0
    maximum: int | None = None

    def __contains__(self, size: int) -> bool:
        return size >= self.minimum and (self.maximum is None or size <= self.maximum)

    def __str__(self) -> str:
        return f"{self.minimum}..{'' if self.maximum is None else self.maximum}"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. ``dtype`` is NumPy's name ("float32", "int64", "bool", "bfloat16").

    With ``sequence`` it is a list of tensors of that dtype, each with a shape of its own: ``shape`` is then empty.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    sequence: bool = False

    def __str__(self) -> str:
        if self.sequence:
            return f"{self.name}: a list of {self.dtype} tensors"
        return f"{self.name}: {self.dtype}[{', '.join(str(dim) for dim in self.shape)}]"

    def to_json(self) -> dict[str, Any]:
        plain = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        return {**plain, "sequence": True} if self.sequence else plain

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec(data["name"], data["dtype"], tuple(data["shape"]), data.get("sequence", False))


@dataclass(frozen=True)
class Contract:
    """Inputs and outputs in the model's order; ``dims`` bounds each symbolic dim that appears in the inputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, DimRange] = field(default_factory=dict)

    def require_tensors(self, what: str) -> None:
        """Raises UsageError, naming it, where an input or output is a sequence; ``what`` is what can't be done then."""
        for spec in (*self.inputs, *self.outputs):
            if spec.sequence:
                raise UsageError(f"{what}: {spec}", hint="load the artifact from Python and run it there")

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "dims": {name: [bounds.minimum, bounds.maximum] for name, bounds in self.dims.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Contract:
        return Contract(
            tuple(TensorSpec.from_json(spec) for spec in data["inputs"]),
            tuple(TensorSpec.from_json(spec) for spec in data["outputs"]),
            {name: DimRange(*bounds) for name, bounds in data["dims"].items()},
        )
