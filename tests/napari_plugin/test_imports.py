"""The modules of the plugin import one another in one direction."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import napari_plugin

ROOT = Path(napari_plugin.__file__).parent


def test_no_circle_of_imports_not_even_inside_functions_or_for_types_alone():
    modules = {_name(path): path for path in ROOT.rglob("*.py")}
    arrows = {name: _imported(path) & modules.keys() for name, path in modules.items()}
    assert "napari_plugin.records" in arrows["napari_plugin.work"]
    TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere, also by a name in a text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module=str(module)):
                found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.Constant(value=str(text)):
                found.add(text)
    return found - {"napari_plugin", "napari_plugin._qt"}
