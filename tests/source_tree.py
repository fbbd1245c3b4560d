"""The package's source as data: its modules and what each of them imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_PACKAGE = {"tests", "scripts", "docs", "build", "dist"}


def package_folders() -> list[Path]:
    """Every folder of the package, the root first."""
    folders = {path.parent for path in package_files()}
    return sorted(folders)


def package_files() -> list[Path]:
    """Every Python file of the package, as git would see it: neither hidden folders nor build products."""
    found = list(ROOT.glob("*.py"))
    for folder in ROOT.iterdir():
        hidden = folder.name.startswith(".") or folder.name.endswith(".egg-info")
        if folder.is_dir() and not hidden and folder.name not in NOT_PACKAGE:
            found += folder.rglob("*.py")
    return sorted(found)


def module_name(path: Path) -> str:
    """The name inside the package: "" for the root's ``__init__``, "passes.pipeline" for a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, *, lazy: bool = True) -> Iterator[tuple[str, bool]]:
    """What a file imports: (name, True) for modules of the package, (top-level name, False) for others.

    Imports under ``if TYPE_CHECKING`` don't count; those inside functions count unless ``lazy`` is False.
    """
    source, is_package = path.read_text(encoding="utf-8"), path.name == "__init__.py"
    yield from resolve_imports(source, module_name(path), is_package, lazy=lazy)


def resolve_imports(source: str, module: str, is_package: bool, *, lazy: bool = True) -> Iterator[tuple[str, bool]]:
    """As ``imports_of``, for a source text that stands at ``module``."""
    here = module.split(".") if module else []
    folder = here if is_package else here[:-1]
    for node in _statements(ast.parse(source), lazy):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] + (node.module.split(".") if node.module else [])
            yield from ((_module_of(base, alias.name), True) for alias in node.names)


def _module_of(base: list[str], name: str) -> str:
    """``from base import name`` names the module base.name if there is one, else something in base."""
    path = ROOT.joinpath(*base, name)
    is_module = path.with_suffix(".py").is_file() or path.is_dir()
    return ".".join([*base, name] if is_module else base)


def _statements(tree: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        yield child
        yield from _statements(child, lazy)
