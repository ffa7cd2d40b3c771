"""What the panel shares with the command line: the checks of a case and its result folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medfuse.audit import Check

if TYPE_CHECKING:
    from medfuse.imaging.registration import Registration


def case_checks(registration: Registration | None, pair: Any) -> list[Check]:
    """Checks of registration and unit, as ``medfuse fuse`` has them."""
    from medfuse.pipeline import registration_check, unit_check

    functional = pair.functional.volume()
    checks = [] if registration is None else [registration_check(registration)]
    return checks if pair.functional.rgb else [*checks, unit_check(functional)]
