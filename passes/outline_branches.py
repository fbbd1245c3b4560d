"""Make each branch of an ``If`` a function of its own.

TVM plans memory over a whole function, and gives one branch storage that only the other branch allocates: a crash.
Each function is planned alone.
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.relax.utils import copy_with_new_vars


@mutator
class _Outliner(PyExprMutator):
    def __init__(self, mod: tvm.IRModule):
        super().__init__(mod)
        self.count = 0

    def visit_if_(self, op: relax.If) -> relax.Expr:
        condition = self.visit_expr(op.cond)
        branches = [self._call(branch) for branch in (op.true_branch, op.false_branch)]
        return relax.If(condition, *branches)

    def _call(self, branch: relax.Expr) -> relax.Call:
        """Add ``branch``, its inner branches outlined first, as a function, and call that with all that it reads."""
        body = self.visit_with_new_scope(branch)
        dims = sorted(relax.analysis.free_symbolic_vars(_function([], body)), key=lambda var: var.name)
        tensors = [var for var in relax.analysis.free_vars(body) if not tvm.ir.is_prim_expr(var)]
        function = _function([relax.Var("dims", relax.ShapeType(dims)), *tensors], body)
        self.count += 1
        callee = self.builder_.add_func(copy_with_new_vars(function), f"branch_{self.count}")
        return relax.Call(callee, [relax.ShapeExpr(dims), *tensors])


def _function(params: list[relax.Var], body: relax.Expr) -> relax.Function:
    return relax.Function(params, body, body.ty, is_pure=True)


def outline_branches(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module and the number of branches, of all its functions, that became functions."""
    outliner = _Outliner(mod)
    for gv in mod.get_global_vars():
        if isinstance(mod[gv], relax.Function):
            function = outliner.visit_expr(mod[gv])
            if not function.same_as(mod[gv]):
                outliner.builder_.update_func(gv, function)
    if not outliner.count:
        return mod, 0
    return outliner.builder_.finalize(), outliner.count
