"""The inputs' shapes: what the model says, joined with the sizes, names and ranges that the user asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from ..contract import Dim, DimRange
from ..errors import ModelError, UsageError

UserShapes = Mapping[str, Sequence[int | str | DimRange | None]]
"""What a user asks of the inputs: per input and dim a size, a name, a range, or None to leave it as it is."""

_UNNAMED = {"", "?", "None", "-1", "unk", "unknown"}
"""What exporters write for "no name"."""


def resolve_inputs(
    graph: ir.Graph, shapes: UserShapes | None, path: Path
) -> tuple[dict[str, tuple[Dim, ...]], dict[str, DimRange]]:
    """Each input's shape and each symbolic dim's range, from what the model says and what the user asked for.

    A dim that the model names keeps its name everywhere, so fixing it on one input fixes it on all; giving it the name
    of another dim says that the two are equal. A dim without a name gets one of its own, ``<input>_dim_<i>``. Raises
    UsageError for shapes that don't fit the model.
    """
    wanted = dict(shapes or {})
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    unknown = sorted(set(wanted) - {value.name for value in inputs})
    if unknown:
        names = ", ".join(value.name or "" for value in inputs)
        raise UsageError(f"{path}: no input named {unknown[0]!r}", hint=f"the inputs are {names}")
    dims = _Dims(
        path, taken={dim.value for value in inputs for dim in value.shape or () if isinstance(dim, ir.SymbolicDim)}
    )
    own = {value.name or "": dims.of(value, wanted.get(value.name or "")) for value in inputs}
    for name, sizes in own.items():
        for index, theirs in enumerate(wanted.get(name, ())):
            dims.ask(name, index, sizes[index], theirs)
    final = {name: tuple(dims.final(dim) for dim in sizes) for name, sizes in own.items()}
    used = sorted({dim for sizes in final.values() for dim in sizes if isinstance(dim, str)})
    return final, {dim: dims.range_of(dim) for dim in used}


@dataclass
class _Dims:
    """What has been asked for, by the dims' names in the model."""

    path: Path
    taken: Iterable[str | None]
    renamed: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, DimRange] = field(default_factory=dict)

    def of(self, value: ir.Value, wanted: Sequence[object] | None) -> list[Dim]:
        """The input's dims as the model has them; all are open where it doesn't even say how many there are."""
        name = value.name or ""
        if isinstance(value.type, ir.SequenceType):
            if wanted is not None:
                raise UsageError(f"{self.path}: input {name!r} is a sequence, whose tensors have shapes of their own")
            return []
        if value.shape is not None:
            own = [self._model_dim(dim, name, i) for i, dim in enumerate(value.shape)]
        elif wanted is not None:
            own = [self._unnamed(name, i) for i in range(len(wanted))]
        else:
            hint = f"give its shape: --shape {name}=..."
            raise ModelError(f"{self.path}: input {name!r} has no rank in the file", hint=hint)
        if wanted is not None and len(wanted) != len(own):
            found = f"has rank {len(own)} {own}, the shape given has {len(wanted)} dims"
            raise UsageError(
                f"{self.path}: input {name!r} {found}", hint="give one dim for each, ? for what the model says"
            )
        return own

    def _model_dim(self, dim: int | ir.SymbolicDim, name: str, index: int) -> Dim:
        if isinstance(dim, int):
            return dim if dim >= 0 else self._unnamed(name, index)
        text = dim.value
        return self._unnamed(name, index) if text is None or text.strip() in _UNNAMED else text

    def _unnamed(self, name: str, index: int) -> str:
        made = f"{name}_dim_{index}"
        while made in set(self.taken):
            made += "_"
        return made

    def ask(self, name: str, index: int, mine: Dim, theirs: int | str | DimRange | None) -> None:
        """Take note of what the user says about one dim; refuse what contradicts the model or something said before."""
        where = f"{self.path}: dim {index} of input {name!r}"
        _check_request(where, theirs)
        if theirs is None or theirs == mine:
            return
        if isinstance(mine, int):
            if isinstance(theirs, int) or (isinstance(theirs, DimRange) and mine not in theirs):
                raise UsageError(f"{where} is {mine} in the model, the shape given says {theirs}")
            return
        said: dict = self.sizes if isinstance(theirs, int) else self.renamed if isinstance(theirs, str) else self.ranges
        if said.setdefault(mine, theirs) != theirs:
            raise UsageError(
                f"{where}: {mine!r} is said to be {said[mine]} and {theirs}", hint="the model has one dim there"
            )

    def _root(self, dim: str) -> str:
        """The name that a dim goes by in the end; names given in a circle are one dim."""
        seen = [dim]
        while seen[-1] in self.renamed and self.renamed[seen[-1]] not in seen:
            seen.append(self.renamed[seen[-1]])
        following = self.renamed.get(seen[-1])
        return min(seen[seen.index(following) :]) if following is not None else seen[-1]

    def final(self, dim: Dim) -> Dim:
        if isinstance(dim, int):
            return dim
        root = self._root(dim)
        sizes = {size for name, size in self.sizes.items() if self._root(name) == root}
        if len(sizes) > 1:
            raise UsageError(f"{self.path}: dim {root!r} is given two sizes: {' and '.join(map(str, sorted(sizes)))}")
        bounds = self.range_of(root)
        if not sizes:
            return root
        (size,) = sizes
        if size not in bounds:
            raise UsageError(f"{self.path}: dim {root!r} is given the size {size} and the range {bounds}")
        return size

    def range_of(self, root: str) -> DimRange:
        found = {bounds for name, bounds in self.ranges.items() if self._root(name) == root}
        if len(found) > 1:
            raise UsageError(f"{self.path}: dim {root!r} is given two ranges: {' and '.join(sorted(map(str, found)))}")
        return next(iter(found), DimRange())


def _check_request(where: str, theirs: object) -> None:
    if isinstance(theirs, DimRange):
        highest = theirs.minimum if theirs.maximum is None else theirs.maximum
        wrong = theirs.minimum < 0 or highest < theirs.minimum
    elif isinstance(theirs, bool) or not isinstance(theirs, int | str | None):
        wrong = True
    else:
        wrong = isinstance(theirs, int) and theirs < 0
    if wrong:
        raise UsageError(f"{where}: {theirs!r} is no size", hint="give a size, a name, a DimRange, or None")
