"""`napari_plugin`, the old name of `medfuse_napari`, for one release; a wheel alone has this file.

A module and no folder: another plugin whose package has that common name is found before it.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OLD, NEW = "napari_plugin", "medfuse_napari"


class _Alias(MetaPathFinder, Loader):
    """Finds modules of the package under its old name; they are the same module objects."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith(f"{OLD}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return import_module(NEW + spec.name.removeprefix(OLD))

    def exec_module(self, module: ModuleType) -> None:
        """The module has run already."""


warnings.warn(
    f"import {NEW} instead of {OLD}: the old name ends with the next release of medfuse",
    DeprecationWarning,
    stacklevel=2,
)
sys.meta_path.insert(0, _Alias())
__path__: list[str] = []  # a package, as far as importing its modules goes
