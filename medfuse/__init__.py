"""medfuse: trustworthy fusion of MRI with PET, SPECT or CT of the same person.

Public names are imported on first use (PEP 562), so that ``import medfuse`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_PUBLIC = {
    "load": "medfuse.imaging.reader",
    "load_picture": "medfuse.imaging.color_volume",
    "register": "medfuse.registration",
    "Registration": "medfuse.registration",
    "fuse": "medfuse.fusion.pair",
    "measure": "medfuse.measurement.measure",
    "FusionResult": "medfuse.fusion.pair",
    "MedfuseError": "medfuse.errors",
}
__all__ = [
    "FusionResult",
    "MedfuseError",
    "Registration",
    "__version__",
    "fuse",
    "load",
    "load_picture",
    "measure",
    "register",
]

if TYPE_CHECKING:
    from medfuse.errors import MedfuseError
    from medfuse.fusion import FusionResult, fuse
    from medfuse.imaging.color_volume import load_picture
    from medfuse.imaging.reader import load
    from medfuse.measurement.measure import measure
    from medfuse.registration import Registration, register


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'medfuse' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


# Aliases, for one release: where modules lay that others import (docs/changes in CHANGELOG.md).
_MOVED = {
    "medfuse.pipeline": "medfuse.case.pipeline",
    "medfuse.imaging.registration": "medfuse.registration",
    "medfuse.kernel.fusion": "medfuse.kernel.blend",
}


class _Alias(MetaPathFinder, Loader):
    """Finds a module that has moved under its old name; it is the same module object."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return import_module(_MOVED[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """The module has run already."""


sys.meta_path.append(_Alias())
