"""Make every constant tensor of ``main`` an element of one ``weights`` argument.

The library then holds code alone: weights lie in a file of their own, mapped and shared, and several libraries can
serve over them. Equal constants become one weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

Weights = Sequence[tuple[str, np.ndarray]]


@mutator
class _Lifter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, names: dict[bytes, str]):
        super().__init__(mod)
        self.names = names
        self.variables: dict[bytes, relax.Var] = {}
        self.arrays: list[np.ndarray] = []

    def visit_generic_const_(self, const: tvm.ir.GenericConst) -> relax.Expr:
        if not isinstance(const.ty, relax.TensorType):
            return const
        array = const.value.numpy()
        key = digest(array)
        if key not in self.variables:
            self.variables[key] = relax.Var(self.names.get(key, f"w{len(self.arrays)}"), const.ty)
            self.arrays.append(array)
        return self.variables[key]


def digest(array: np.ndarray) -> bytes:
    """Names a tensor by dtype, shape and content."""
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data if array.size and array.ndim else array.tobytes(), key=head[:64]).digest()


def lift_weights(mod: tvm.IRModule) -> tuple[tvm.IRModule, Weights]:
    """``main(*inputs)`` becomes ``main(*inputs, weights)``; returns the weights in the order of that argument."""
    lifter = _Lifter(mod, {})
    function = mod["main"]
    body = lifter.visit_expr(function.body)
    weights = relax.Var("weights", relax.ObjectType())
    fetched = [_fetch(var, weights, index) for index, var in enumerate(lifter.variables.values())]
    blocks = [relax.BindingBlock(fetched), *body.blocks] if fetched else list(body.blocks)
    lifted = relax.Function(
        [*function.params, weights], relax.SeqExpr(blocks, body.body), function.ret_ty, function.is_pure, function.attrs
    )
    mod = mod.clone()
    mod["main"] = lifted
    return mod, [(var.name, array) for var, array in zip(lifter.variables.values(), lifter.arrays, strict=True)]


def _fetch(var: relax.Var, weights: relax.Var, index: int) -> relax.VarBinding:
    """No check of shape or dtype: the loader has verified the file, and a check would cost at each call."""
    item = tirx.IntImm("int64", index)
    value = relax.op.call_pure_packed("vm.builtin.tuple_getitem", weights, item, ty_args=[var.ty])
    return relax.VarBinding(var, relax.BlockBuilder().normalize(value))
