"""The form of quantized graphs that passes see: kernels marked as one QuantizeLinear or DequantizeLinear.

The frontend makes each of them one elementwise kernel whose attributes hold scale and zero point, where these are known
(``contract.QUANTIZATION``). The kernel is right as it is; whoever sees more of the graph may take the integers instead.
Weights stay bytes, with a dequantizing kernel behind them; what no pass has taken is computed here, when compiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from ..contract import QUANTIZATION, SCALE, ZERO
from .constants import op_name, shape_of


@dataclass(frozen=True)
class Quantization:
    """``real = (integer - zero) * scale``; ``kind`` is "quantize" or "dequantize".

    ``scale`` (float32) and ``zero`` (int32) broadcast to the data, which is ``data``.
    """

    kind: str
    data: relax.Expr
    scale: np.ndarray
    zero: np.ndarray

    @property
    def single(self) -> bool:
        """Whether one scale and zero point serve the whole tensor."""
        return self.scale.size == 1 and self.zero.size == 1


def quantization_of(mod: tvm.IRModule, value: Any) -> Quantization | None:
    """What ``value``, a binding's, quantizes or dequantizes; None where it does something else."""
    if op_name(value) != "relax.call_tir":
        return None
    attrs = mod[value.args[0]].attrs
    if attrs is None or QUANTIZATION not in attrs:
        return None
    kind, data = str(attrs[QUANTIZATION]), value.args[1].fields[0]
    return Quantization(kind, data, attrs[SCALE].numpy(), attrs[ZERO].numpy())


def dequantized(array: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """The constant that a marked kernel would compute."""
    return np.asarray((array.astype(np.float32) - zero.astype(np.float32)) * scale)


def dequantize(builder: relax.BlockBuilder, data: relax.Expr, scale: np.ndarray, zero: np.ndarray) -> relax.Expr:
    """A marked kernel over ``data``, with one scale and zero point, as the frontend makes them."""
    by, offset = tirx.const(float(scale.reshape(-1)[0]), "float32"), tirx.const(float(zero.reshape(-1)[0]), "float32")
    shape = shape_of(data)
    assert shape is not None

    def dequantize(integers: te.Tensor) -> te.Tensor:
        return te.compute(
            integers.shape, lambda *index: (integers(*index).astype("float32") - offset) * by, name="dequantize"
        )

    marks = {
        QUANTIZATION: "dequantize",
        SCALE: tvm.runtime.tensor(scale.reshape(()).copy()),
        ZERO: tvm.runtime.tensor(zero.reshape(()).copy()),
    }
    return builder.call_te(dequantize, data, primfunc_name_hint="dequantize", primfunc_attrs=marks)
