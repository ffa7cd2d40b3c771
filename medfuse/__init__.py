"""medfuse: trustworthy fusion of MRI with PET, SPECT or CT of the same person.

Public names are imported on first use (PEP 562), so that ``import medfuse`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "load": "medfuse.imaging.reader",
    "register": "medfuse.imaging.registration",
    "Registration": "medfuse.imaging.registration",
    "fuse": "medfuse.fusion",
    "FusionResult": "medfuse.fusion",
    "MedfuseError": "medfuse.errors",
}
__all__ = [
    "FusionResult",
    "MedfuseError",
    "Registration",
    "__version__",
    "fuse",
    "load",
    "register",
]

if TYPE_CHECKING:
    from medfuse.errors import MedfuseError
    from medfuse.fusion import FusionResult, fuse
    from medfuse.imaging.reader import load
    from medfuse.imaging.registration import Registration, register


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'medfuse' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
