"""The report of one case: one HTML file that needs nothing else, from a result folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medfuse.errors import InputError
from medfuse.report.embedded import places, viewer_data
from medfuse.report.figures import INDEX, ReportVolumes, write_figures
from medfuse.report.page import inline_pictures, number, render
from medfuse.report.regions import case_regions
from medfuse.report.study import write_study_report
from medfuse.results.folder import MAX_JSON_BYTES, writing

__all__ = ["ReportVolumes", "render_report", "report_page", "write_figures", "write_study_report"]

SUSPECT = ("registration", "suspect")
_SUV_ROWS = {
    "units": ("Units in the file", ""),
    "suv_type": ("SUV type in the file", ""),
    "nuclide": ("Nuclide", ""),
    "corrected_image": ("Corrections", ""),
    "decay_correction": ("Decay correction", ""),
    "weight_kg": ("Body weight", "kg"),
    "dose_bq": ("Injected activity", "Bq"),
    "half_life_s": ("Half-life", "s"),
    "injection_time": ("Injection", ""),
    "injection_from": ("Injection time taken from", ""),
    "reference_time": ("Reference time", ""),
    "reference_rule": ("Reference time taken from", ""),
    "decay_s": ("Time between both", "s"),
    "decayed_dose_bq": ("Activity at reference time", "Bq"),
    "factor": ("SUVbw per value in the file", ""),
}
_SUV_TEXTS = ("available", "formula", "refusal", "remarks", "attributes")


def render_report(folder: Path) -> Path:
    """Write ``report.html`` from the files of a result folder.

    The page holds its pictures, asks no network, and is the same for the same result: when and
    how long the case ran is in provenance.json alone.

    Parameters
    ----------
    folder : Path
        With audit.json, provenance.json, transform.json and figures/.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT`` where one of these is missing or unreadable.
    OutputError
        ``E_WRITE``.
    """
    page = report_page(folder)
    path = folder / "report.html"
    with writing(path):
        path.write_text(page, encoding="utf-8")
    return path


def report_page(folder: Path) -> str:
    """The text of the page; parameters and errors as `render_report`."""
    audit, provenance, transform, figures = (
        _read(folder, name)
        for name in ("audit.json", "provenance.json", "transform.json", f"figures/{INDEX}")
    )
    viewer = viewer_data(folder / "figures", figures)
    return render(
        "report.html.j2",
        *("report.js", "viewer.js") if viewer else ("report.js",),
        others=[viewer["niivue_sha256"]] if viewer else [],
        viewer=viewer,
        jumps=places(audit, transform, figures) if viewer else {},
        case=provenance["case"],
        audit=audit,
        provenance=provenance,
        transform=transform,
        figures=figures,
        pictures=inline_pictures(sorted((folder / "figures").glob("*.png"))),
        regions=case_regions(folder, figures.get("regions") or ()),
        suv=_suv(provenance["inputs"]["functional"].get("suv")),
        worries=[
            check
            for check in audit["checks"]
            # A suspect registration has a box of its own.
            if check["verdict"] != "pass" and (check["id"], transform["verdict"]) != SUSPECT
        ],
    )


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        size = (folder / name).stat().st_size
        if not (folder / name).is_file() or size > MAX_JSON_BYTES:
            raise ValueError("a pipe, or larger than any record")
        content: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "E_NOT_A_RESULT",
            what="Cannot make a report",
            where=name,
            cause=getattr(error, "strerror", None) or "the file is not JSON of usual size",
            remedy="Run the case again",
        ) from error
    return content


def _suv(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """The SUV arithmetic as rows of (name, value); entries without a name of ours keep theirs."""
    if record is None:
        return None
    known = [name for name in _SUV_ROWS if name in record]
    others = [name for name in record if name not in _SUV_ROWS and name not in _SUV_TEXTS]
    rows = []
    for name in (*known, *others):
        label, unit = _SUV_ROWS.get(name, (name.replace("_", " "), ""))
        if record[name] not in (None, [], ""):
            rows.append((label, f"{_exact(record[name])} {unit}".strip()))
    return {
        "rows": rows,
        "numbers": _with_numbers(record),
        "formula": record.get("formula"),
        "refusal": record.get("refusal"),
        "remarks": record.get("remarks") or [],
    }


def _with_numbers(record: dict[str, Any]) -> str | None:
    """The arithmetic in one line that can be checked by hand; None where no dose was used."""
    names = ("weight_kg", "dose_bq", "decay_s", "half_life_s", "factor")
    if not record.get("decayed_dose_bq") or any(record.get(name) is None for name in names):
        return None
    weight, dose, decay, half_life, factor = (_exact(float(record[name])) for name in names)
    decayed = f"{dose} Bq × 2^(−{decay} s ÷ {half_life} s)"
    return f"{weight} kg × 1000 g/kg ÷ ({decayed}) = {factor} g/ml per Bq/ml"


def _exact(value: Any) -> str:
    """Nine digits, so that the arithmetic can be repeated."""
    return f"{value:,.9g}" if isinstance(value, float) else number(value)
