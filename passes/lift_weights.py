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

from .bindings import relax_functions, typed

Weights = Sequence[tuple[str, np.ndarray]]


@mutator
class _Lifter(PyExprMutator):
    """Rewrites one function at a time; the weights are numbered over all of them."""

    def __init__(self, mod: tvm.IRModule):
        super().__init__(mod)
        self.numbers: dict[bytes, int] = {}
        self.arrays: list[np.ndarray] = []
        self.lifted: dict[str, tvm.ir.GlobalVar] = {}
        self._weights = relax.Var("weights", relax.ObjectType())
        self._variables: dict[int, relax.Var] = {}

    def lift(self, function: relax.Function) -> relax.Function:
        """``function`` with ``weights`` as one more parameter in place of its constants."""
        self._weights = relax.Var("weights", relax.ObjectType())
        self._variables = {}
        body = self.visit_expr(function.body)
        fetched = [_fetch(var, self._weights, number) for number, var in self._variables.items()]
        blocks = [relax.BindingBlock(fetched), *body.blocks] if fetched else list(body.blocks)
        params = [*function.params, self._weights]
        return relax.Function(params, typed(blocks, body.body), function.ret_ty, function.is_pure, function.attrs)

    def visit_generic_const_(self, const: tvm.ir.GenericConst) -> relax.Expr:
        if not isinstance(const.ty, relax.TensorType):
            return const
        array = const.value.numpy()
        number = self.numbers.setdefault(digest(array), len(self.numbers))
        if number == len(self.arrays):
            self.arrays.append(array)
        return self._variables.setdefault(number, relax.Var(f"w{number}", const.ty))

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if isinstance(call.op, tvm.ir.GlobalVar) and call.op.name_hint in self.lifted:
            return relax.Call(self.lifted[call.op.name_hint], [*call.args, self._weights])
        return call


def digest(array: np.ndarray) -> bytes:
    """Names a tensor by dtype, shape and content."""
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, key=head[:64]).digest()


def lift_weights(mod: tvm.IRModule) -> tuple[tvm.IRModule, Weights]:
    """``main(*inputs)`` becomes ``main(*inputs, weights)``; returns the weights in the order of that argument.

    Branches and loops, functions of their own, get the argument too, passed on by their callers.
    """
    lifter = _Lifter(mod)
    for name in _callees_first(mod):
        lifted = lifter.lift(mod[name])
        if name == "main":
            lifter.builder_.update_func(mod.get_global_var("main"), lifted)
        else:
            lifter.lifted[name] = lifter.builder_.add_func(lifted.without_attr("global_symbol"), f"{name}_lifted")
    # The unlifted ones have no caller any more.
    result = lifter.builder_.get().clone()
    for name in set(relax_functions(result)) - {"main", *(gv.name_hint for gv in lifter.lifted.values())}:
        del result[name]
    result = relax.transform.DeadCodeElimination()(result)
    return result, [(f"w{number}", array) for number, array in enumerate(lifter.arrays)]


def _callees_first(mod: tvm.IRModule) -> list[str]:
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for callee in sorted(_called(mod[name]) & set(relax_functions(mod))):
            visit(callee)
        order.append(name)

    visit("main")
    return order


def _called(function: relax.Function) -> set[str]:
    return {var.name_hint for var in relax.analysis.all_global_vars(function)}


def _fetch(var: relax.Var, weights: relax.Var, index: int) -> relax.VarBinding:
    """No check of shape or dtype: the loader has verified the file, and a check would cost at each call."""
    item = tirx.IntImm("int64", index)
    value = relax.op.call_pure_packed("vm.builtin.tuple_getitem", weights, item, ty_args=[var.ty])
    return relax.VarBinding(var, relax.BlockBuilder().normalize(value))
