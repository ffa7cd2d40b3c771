"""What a result folder says in names and numbers, for a line of the summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medfuse.results.folder import read_json

INPUTS = ("anatomical", "functional")
#: Beside these, each check of the audit has a column ``audit_ID`` with its value.
FIGURES = (
    *INPUTS, "modality", "registration", "shift_mm", "rotation_deg", "overlap",
    "expected_error_mm", "window_low", "window_high", "unit", "suv",
)  # fmt: skip
AUDIT = "audit_"


def figures_of(folder: Path) -> dict[str, Any]:
    """Names and numbers of a result; what cannot be read is missing, and harms nothing else.

    Inputs are named as the record names them: by their paths in a BIDS data set, else only where
    names were to be kept.
    """
    found: dict[str, Any] = {}
    for name, reader in (
        ("provenance", _of_provenance), ("transform", _of_transform), ("audit", _of_audit),
    ):  # fmt: skip
        try:
            found |= reader(read_json(folder / f"{name}.json") or {})
        except (KeyError, TypeError, AttributeError):
            continue
    return {key: value for key, value in found.items() if isinstance(value, str | int | float)}


def _of_provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    functional = record["inputs"]["functional"]
    sources = (record.get("bids") or {}).get("Sources") or ()
    names = [record["inputs"][role].get("name") for role in INPUTS]
    if len(sources) == len(INPUTS):
        names = [source.removeprefix("bids:raw:") for source in sources]
    windows = [s["parameters"] for s in record["steps"] if s["name"] == "window"]
    window = (windows[0].get("functional") if windows else None) or {}
    suv = functional.get("suv")
    return {
        **dict(zip(INPUTS, names, strict=True)),
        "modality": functional["modality"],
        "unit": functional["unit"],
        "window_low": window.get("low"),
        "window_high": window.get("high"),
        "suv": ("yes" if suv.get("available") else "no") if suv else None,
    }


def _of_transform(transform: Mapping[str, Any]) -> dict[str, Any]:
    places = (transform.get("expected_error") or {}).get("places") or ()
    bounds = [place["within_mm"] for place in places]
    return {
        "registration": transform["verdict"],
        **{name: transform[name] for name in ("shift_mm", "rotation_deg", "overlap")},
        "expected_error_mm": max(bounds) if bounds else None,
    }


def _of_audit(audit: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{AUDIT}{check['id']}": check["value"] for check in audit["checks"]}
