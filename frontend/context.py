"""What converters build with: emitting Relax, shape arithmetic with proofs, run-time checks of dims."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx
from tvm.ir import Range
from tvm.sym import Analyzer, ProofStrength

from ..errors import ConversionError
from .symbolic_ratio import as_scalar
from .values import (
    PrimExpr,
    SymbolicInts,
    Value,
    as_int,
    symbolic,
    tensor_dtype,
    tensor_shape,
    to_constant,
)

LARGEST_DIM = 24
"""Names in a dim's expression; larger ones are computed into a variable."""

MAX_DIM = 1 << 40
"""Bound of a dim that is computed at run time; proofs need one."""

SOLVER_LIMIT = 1_000_000
"""Z3's steps for one proof: about a second; a count and not a time, so that every run proves the same."""

MOST_FACTS = 16
"""Of the run-time checks that share a dim with what is to be proved, the latest so many are given to the solver."""


class Context:
    """One conversion: the Relax block builder, and an analyzer that knows symbolic dims to be non-negative."""

    def __init__(self, builder: relax.BlockBuilder):
        self.builder = builder
        self.analyzer = Analyzer()
        if self.analyzer.is_z3_enabled:
            self.analyzer.set_z3_rlimit(SOLVER_LIMIT)
        self.converter: Any = None
        """The ``GraphConverter`` at work, for operators that hold subgraphs."""
        self._fresh = 0
        self._facts: list[PrimExpr] = []

    # Emitting

    def emit(self, expr: relax.Expr, hint: str = "") -> relax.Var:
        """Bind an expression to a variable of its type, with dims simplified.

        Relax infers dims by appending to the input's; ten convolutions on, each would be a page long, and every later
        pass pays for it.
        """
        expr = self.builder.normalize(expr)
        simple = self._simplified(expr.ty)
        if simple is None:
            return self.builder.emit(expr, hint)
        var = relax.Var(self.builder.get_unique_name(hint or "gv"), simple)
        self.builder.emit_normalized(relax.VarBinding(var, expr))
        return var

    def _simplified(self, ty: relax.Type) -> relax.Type | None:
        """A tensor type with simpler dims, None where there is nothing to simplify."""
        if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
            return None
        if all(isinstance(dim, tirx.IntImm | tirx.Var) for dim in ty.shape.values):
            return None
        dims = [dim if isinstance(dim, tirx.IntImm) else _prim(self.simplify(dim)) for dim in ty.shape.values]
        return relax.TensorType(dims, ty.dtype)

    def te(self, function: Callable[..., te.Tensor], *args: Any, name: str | None = None, **kwargs: Any) -> relax.Var:
        """Emit a tensor expression; arguments may be values, scalars and nested lists of them."""
        hint = name or function.__name__.strip("_<>")
        arguments = [self._te_argument(arg) for arg in args]
        return self.emit(self.builder.call_te(function, *arguments, primfunc_name_hint=hint, **kwargs))

    def _te_argument(self, arg: Any) -> Any:
        if isinstance(arg, np.ndarray | SymbolicInts):
            return self.tensor(arg)
        if isinstance(arg, list | tuple):
            return [self._te_argument(item) for item in arg]
        return arg

    def tensor(self, value: Value) -> relax.Expr:
        """The value as a Relax tensor; integers that stand for shapes become a tensor of their own."""
        if isinstance(value, np.ndarray):
            return to_constant(value)
        if isinstance(value, SymbolicInts):
            return self._materialise(value)
        if not isinstance(value, tvm.ir.Expr):
            raise ConversionError("a tensor is needed here, found a sequence or an optional value")
        return value

    def _materialise(self, value: SymbolicInts) -> relax.Var:
        shape = value.shape

        def shape_values(*elements: PrimExpr) -> te.Tensor:
            def element(*index: tirx.Var) -> PrimExpr:
                flat = tirx.const(0, "int64")
                for position, extent in zip(index, shape, strict=True):
                    flat = flat * extent + position
                result = elements[-1]
                for i in range(len(elements) - 2, -1, -1):
                    result = tirx.Select(flat == i, elements[i], result)
                return result

            return te.compute(shape, element, name="shape_values")

        return self.te(shape_values, *(as_scalar(element, value.dtype) for element in value.elements.flat))

    # Knowing

    def constant(self, value: Value | None) -> np.ndarray | None:
        """The value's array when it is known now."""
        return value if isinstance(value, np.ndarray) else None

    def require_constant(self, value: Value | None, what: str) -> np.ndarray:
        """The value's array; a clear refusal when it is only known at run time."""
        array = self.constant(value)
        if array is None:
            raise ConversionError(f"{what} must be known when compiling, but is computed at run time")
        return array

    def ints(self, value: Value, what: str = "shape") -> list[PrimExpr]:
        """A rank-0 or rank-1 integer value as a list of scalar expressions.

        A tensor known only at run time is read there: each element becomes a fresh symbolic dim.
        """
        if isinstance(value, np.ndarray):
            return [int(element) for element in value.reshape(-1)]
        if isinstance(value, SymbolicInts):
            return list(value.elements.reshape(-1))
        return self._read_ints(value, what)

    def _read_ints(self, value: relax.Expr, what: str) -> list[PrimExpr]:
        dims = tensor_shape(value)
        count = 1 if not dims else as_int(dims[0])
        if len(dims) > 1 or count is None:
            raise ConversionError(f"{what} must be a vector of known length, found shape {list(dims)}")
        if count == 0:
            return []
        vector = value if len(dims) == 1 else self.emit(relax.op.reshape(value, (1,)))
        if tensor_dtype(vector) != "int64":
            vector = self.emit(relax.op.astype(vector, "int64"))
        elements = [self.fresh_dim() for _ in range(count)]
        shape = self.emit(relax.op.tensor_to_shape(vector))
        self.builder.match_cast(shape, relax.ShapeType(elements))
        return elements

    def fresh_dim(self, hint: str = "d") -> tirx.Var:
        """A new symbolic integer, bound where it is first matched."""
        self._fresh += 1
        return tirx.Var(f"{hint}_{self._fresh}", "int64")

    def compact(self, dim: PrimExpr) -> PrimExpr:
        """The dim itself, or a fresh one of 0 or more that a complex expression is computed into at run time.

        Nested choices cost TVM's simplifier exponential time, so each becomes a variable. It goes through
        a tensor: passes put an expression back in the place of a dim that is merely matched with it.
        """
        if as_int(dim) is not None or (expression_size(dim) <= LARGEST_DIM and "Select" not in str(dim)):
            return dim
        (fresh,) = self.ints(self.tensor(symbolic([dim])))
        self.assume_dim(fresh)
        return fresh

    def assume_dim(self, variable: tirx.Var) -> None:
        """Let proofs use that a variable which was read at run time is a dim's size, so 0 or more."""
        self.analyzer.bind(variable, Range(0, MAX_DIM))

    # Proving

    def simplify(self, expr: PrimExpr) -> PrimExpr:
        if as_int(expr) is not None:
            return as_int(expr)
        simple = self.analyzer.simplify(expr)
        known = as_int(simple)
        return simple if known is None else known

    def equal(self, left: PrimExpr, right: PrimExpr) -> bool:
        """Whether two dims are provably equal."""
        a, b = as_int(left), as_int(right)
        if a is not None and b is not None:
            return a == b
        if self.analyzer.can_prove_equal(_prim(left), _prim(right)):
            return True
        return self.prove(tirx.EQ(_prim(left), _prim(right)))

    def prove(self, condition: PrimExpr) -> bool:
        """Whether ``condition`` always holds, given the dims' ranges and what has been checked before."""
        if isinstance(condition, bool):
            return condition
        with ExitStack() as facts:
            variables = _variables(condition)
            relevant = [fact for fact in self._facts if variables & _variables(fact)]
            for fact in relevant[-MOST_FACTS:]:
                facts.enter_context(self.analyzer.constraint_scope(fact))
            return bool(self.analyzer.can_prove(condition, ProofStrength.SYMBOLIC_BOUND))

    def check(self, condition: PrimExpr, number: int = 1) -> None:
        """Make the compiled model fail, rather than answer wrongly, where ``condition`` (bool) doesn't hold.

        ``number`` tells why, if it is one of ``contract.REFUSALS``.
        """
        if self.prove(condition):
            return
        holds = tirx.Select(condition, tirx.const(number, "int64"), tirx.const(0, "int64"))
        shape = self.emit(relax.ShapeExpr([holds]), "checked")
        self.builder.match_cast(shape, relax.ShapeType([number]))
        self._facts.append(condition)

    def assume(self, condition: PrimExpr) -> None:
        """Let proofs use what holds by construction."""
        self._facts.append(condition)

    @contextmanager
    def branch(self) -> Iterator[None]:
        """For code that runs on a condition: what is checked inside is not taken for granted outside."""
        outer = len(self._facts)
        try:
            yield
        finally:
            del self._facts[outer:]

    def reshape(self, value: Value, shape: Sequence[PrimExpr]) -> Value:
        """The same elements in another shape (the caller has resolved 0 and -1)."""
        if isinstance(value, SymbolicInts) and all(as_int(dim) is not None for dim in shape):
            return symbolic(value.elements.reshape([int(d) for d in shape]), value.dtype)
        if isinstance(value, np.ndarray) and all(as_int(dim) is not None for dim in shape):
            return value.reshape([int(d) for d in shape])
        if any(as_int(dim) == 0 for dim in shape):
            return self.empty(tensor_dtype(value), shape)  # Relax takes a 0 for "as in the input"
        return self.emit(relax.op.reshape(self.tensor(value), relax.ShapeExpr(prim_list(shape))))

    def empty(self, dtype: str, shape: Sequence[PrimExpr]) -> relax.Var:
        """A tensor without elements: one of the dims is 0."""

        def nothing(shape: list[PrimExpr]) -> te.Tensor:
            return te.compute(prim_list(shape), lambda *_: tirx.const(0, dtype), name="nothing")

        return self.te(nothing, list(shape))


def expression_size(expr: PrimExpr) -> int:
    """How many variables and functions an expression names."""
    return len(re.findall(r"[A-Za-z_][\w.]*", str(expr)))


def _variables(expr: PrimExpr) -> set[tirx.Var]:
    return set(tirx.analysis.undefined_vars(expr))


def _prim(dim: PrimExpr) -> PrimExpr:
    return tirx.const(int(dim), "int64") if as_int(dim) is not None else dim


def prim_list(dims: Sequence[PrimExpr]) -> list[PrimExpr]:
    """Dims as int64 expressions, the form that Relax's shapes take."""
    return [_prim(dim) for dim in dims]
