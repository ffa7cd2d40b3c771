"""Makes result folders and studies for the tests of the report: small, anisotropic, asymmetric."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.record.provenance import build_provenance, write_provenance
from medfuse.report.case import ReportVolumes, render_report, write_figures, write_study_report
from medfuse.results.folder import ResultFolder

# Patient axes are stored in the order S, R, A, with A and R reversed: 3 x 1 x 2 mm voxels.
AFFINE = np.array([[0, -1.0, 0, 20], [0, 0, -2.0, 30], [3.0, 0, 0, -15], [0, 0, 0, 1]])
SHAPE = (14, 40, 30)
SPOT_RAS = (-9.0, 12.0, 9.0)  # left, front, above
EVIL = "<script>alert('x')</script>"
SUV = {
    "available": True,
    "formula": "SUVbw = activity * weight / dose",
    "weight_kg": 71.0,
    "dose_bq": 388777472.0,
    "decay_s": 2711.0,
    "factor": 2.42902977e-4,
    "refusal": None,
    "remarks": ["body weight is assumed"],
}


def world(shape: tuple[int, int, int] = SHAPE, affine: np.ndarray = AFFINE) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.moveaxis(index @ affine[:3, :3].T + affine[:3, 3], -1, 0)


def make_volumes(**more: Any) -> ReportVolumes:
    """A head-like ball with a bright left half and one hot spot."""
    right, front, top = world()
    ball = ((right**2 + front**2) < 17**2) & (np.abs(top) < 14)
    anatomical = (ball * (0.5 + 0.4 * (right < 0))).astype(np.float32)
    distance = np.linalg.norm(world() - np.reshape(SPOT_RAS, (3, 1, 1, 1)), axis=0)
    values = (0.5 * ball + 9.5 * np.exp(-((distance / 3) ** 2))).astype(np.float32)
    functional = np.clip(values / 6, 0, 1)
    content: dict[str, Any] = {
        "anatomical": anatomical,
        "functional": functional,
        "fused": np.stack([functional, anatomical / 2, anatomical]),
        "weights": anatomical,
        "share": anatomical,
        "coverage": np.ones(SHAPE, bool),
        "affine": AFFINE,
        "functional_values": values,
        "functional_before": np.roll(functional, 3, axis=1),
        "window": SimpleNamespace(low=0.0, high=6.0, unit="SUVbw", rule="SUV default"),
        "anatomical_window": SimpleNamespace(low=0.0, high=900.0, unit="a.u.", rule="percentiles"),
    }
    return ReportVolumes(**(content | more))


def make_registration(verdict: str = "good", shift: float = 3.2) -> dict[str, Any]:
    return {
        "matrix": np.eye(4).tolist(),
        "inverse": np.eye(4).tolist(),
        "method": "rigid",
        "verdict": verdict,
        "reasons": ["overlap 12 % is below 25 %"] if verdict == "suspect" else [],
        "metric_before": 0.21,
        "metric_after": 0.37,
        "iterations": 61,
        "stop_reason": "step too small",
        "overlap": 0.93,
        "shift_mm": shift,
        "rotation_deg": 1.5,
        "seed": 0,
        "sharpness": 1.31,
    }


def make_audit(verdict: str = "pass", value: float = 0.01) -> dict[str, Any]:
    checks = [
        {
            "id": "linearity",
            "title": "Exact two-source decomposition",
            "value": 2.4e-7,
            "unit": "luminance",
            "threshold": 1e-5,
            "verdict": "pass",
            "text": "Largest difference.",
            "details": {},
        },
        {
            "id": "overshoot",
            "title": "Inside the range",
            "value": value,
            "unit": "fraction of voxels",
            "threshold": None,
            "verdict": verdict,
            "text": f"Edges & corners {EVIL}",
            "details": {},
        },
    ]
    return {"schema": "medfuse-audit/1", "verdict": verdict, "checks": checks}


def make_image(modality: str, unit: str, **more: Any) -> MetaTensor:
    source = {
        "kind": "dicom",
        "name": "ZZPHI/series".rpartition("/")[2],
        "files": 74,
        "sha256": "1" * 64,
        "patient": "ZZPHI-patient",
    }
    meta = {"modality": modality, "unit": unit, "source": source, "notes": [], **more}
    return MetaTensor(torch.zeros(1, *SHAPE), affine=torch.from_numpy(AFFINE), meta=meta)


def make_case(
    target: Path,
    *,
    audit: dict[str, Any] | None = None,
    registration: dict[str, Any] | None = None,
    volumes: ReportVolumes | None = None,
    created: str = "2026-01-01T00:00:00+00:00",
) -> Path:
    audit = audit or make_audit()
    registration = registration or make_registration()
    with ResultFolder(target, key="k") as result:
        (result.path / "audit.json").write_text(json.dumps(audit))
        (result.path / "transform.json").write_text(json.dumps(registration))
        write_figures(result.path, volumes or make_volumes())
        record = build_provenance(
            case=target.name,
            inputs={
                "anatomical": make_image("MRI", "a.u."),
                "functional": make_image("PET", "SUVbw", suv=SUV),
            },
            steps=[{"name": "register", "result": registration}],
            settings={"method": "swift", "initial": "/home/zzphi/start.txt"},
            key="k",
            guide={"name": "swift", "weights_sha256": "2" * 64, "card": {"data": "msrs"}},
            audit=audit,
            colormap="hot",
            command="medfuse fuse /home/zzphi/t1.nii.gz /home/zzphi/pet -o out",
            notes=[f"Remark {EVIL}"],
            created=created,
        )
        write_provenance(result.path, record)
        render_report(result.path)
    return target / "report.html"


def make_study(out: Path) -> Path:
    """Seven finished cases, one of them odd and one to look at, and one failure."""
    for n in range(5):
        make_case(out / f"sub-{n}", audit=make_audit(value=0.01 + n / 1000))
    make_case(out / "sub-odd", registration=make_registration(shift=48.0))
    make_case(out / "sub-look", audit=make_audit("look"))
    events = [
        {"event": "case-end", "case": "sub-bad", "status": "done"},
        {"event": "case-start", "case": "sub-bad"},
        {
            "event": "case-end",
            "case": "sub-bad",
            "status": "failed",
            "code": "E_MISSING_SLICE",
            "message": f"gap of 6.00 mm {EVIL}. Re-export the series. [E_MISSING_SLICE]",
        },
        {"event": "case-end", "case": "sub-0", "status": "failed", "code": "E_X", "message": "old"},
        {"event": "case-end", "case": "sub-0", "status": "skipped"},
    ]
    lines = [json.dumps(event) for event in events]
    (out / "batch.jsonl").write_text("\n".join([*lines, '{"case": "cut o']))
    write_study_report(out)
    return out


class PageText(HTMLParser):
    """Visible text and every address of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.addresses, self.scripts, self._hidden = "", [], 0, False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        self.scripts += tag == "script" and "type" not in dict(attrs)  # else it holds data
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data


def read_page(path: Path) -> PageText:
    return PageText(path.read_text("utf-8"))
