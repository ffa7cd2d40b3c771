"""Where two volumes of one person lie to each other: search, refinement, verdict."""

from medfuse.registration.result import Registration, register

__all__ = ["Registration", "register"]
