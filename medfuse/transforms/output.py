"""Result folders from a MONAI workflow: the same files as ``medfuse fuse`` writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

import medfuse
from medfuse.case.record import (
    CaseRecord,
    contradiction_of,
    displacement_at,
    error_at,
    write_case,
)
from medfuse.case.start import start_matrix
from medfuse.fusion.choice import OVERLAY_MAP
from medfuse.imaging.grid import Grid
from medfuse.imaging.nifti.colors import ColorLayout
from medfuse.imaging.windows import Window, apply_window
from medfuse.registration.deformation import covered
from medfuse.registration.region import Region
from medfuse.registration.result import Registration
from medfuse.report.figures import ReportVolumes
from medfuse.results.export import ResultFolder, band_name
from medfuse.settings import FILES, CaseSettings
from medfuse.transforms.facts import (
    IMAGES,
    audit_of,
    case_name,
    region_from,
    require_unchanged,
    require_volume,
)


class SaveFusiond(MapTransform):
    """Write one result folder for each fused pair, whole or not at all.

    Images, transform, audit and report are made by the code of ``medfuse fuse``; NIfTI files are
    byte for byte the same.

    Parameters
    ----------
    keys : str
        Facts that ``FuseLuminanced`` left.
    output_dir : path-like
        Receives a folder for each case.
    case_key : str
        Where a case holds its name; nameless cases are named by the content of their images.
    audit_key, transform_key : str
        What ``AuditFusiond`` and ``RegisterRigidd`` left.
    folder_key : str
        Receives the path of the result folder.
    png : bool
        Also every fused slice as a picture.
    rgb : {"rgb24", "4d"}
        How NIfTI files hold colors: three bytes a voxel, or a fourth axis of red, green and blue.
    report : bool
        Also figures and report.html.

    Raises
    ------
    UsageError
        ``E_CHANGED`` if an image is not the one that was fused, ``E_CASE_NAME``.
    OutputError
        ``E_WRITE``.
    """

    def __init__(
        self,
        keys: KeysCollection = "fusion",
        output_dir: str | Path = "fused",
        case_key: str = "case",
        audit_key: str = "audit",
        transform_key: str = "registration",
        folder_key: str = "result_folder",
        png: bool = False,
        rgb: ColorLayout = "rgb24",
        report: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dir = Path(output_dir)
        self.case_key = case_key
        self.audit_key = audit_key
        self.transform_key = transform_key
        self.folder_key = folder_key
        self.output = {"png": png, "rgb": rgb}
        self.report = report

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            require_unchanged(d, d[key])
            for needed in (self.audit_key, self.transform_key):
                if needed not in d:
                    raise KeyError(
                        f"SaveFusiond needs {needed!r}: put AuditFusiond and RegisterRigidd "
                        'before it (RegisterRigidd(method="identity") for aligned images)'
                    )
            d[self.folder_key] = str(self._save(d, d[key]))
        return d

    def _save(self, d: Mapping[Hashable, Any], fusion: Mapping[str, Any]) -> Path:
        images = {name: require_volume(d[key], key) for name, key in fusion["keys"].items()}
        anatomical, on_grid = images["anatomical"], images["functional"]
        registration = Registration.from_dict(d[self.transform_key])
        registered = d[self.transform_key].get("settings", {})
        region = region_from(d[self.transform_key].get("region"))
        if region is not None:
            registered = {**registered, "region": "given"}
        settings = _settings(fusion, {**registered, **self.output}, images)
        audit, loaded = audit_of(d[self.audit_key]), _as_loaded(on_grid)
        notes = [note for image in (anatomical, on_grid) for note in image.meta.get("notes", ())]
        record = CaseRecord(
            case=case_name(d, self.case_key, [anatomical, on_grid]),
            command="",
            key=_key(anatomical, on_grid, settings, fusion, registration, region),
            settings=settings,
            anat=anatomical,
            func=loaded,
            registration=registration,
            initial=start_matrix(settings, anatomical, loaded),
            region=region,
            on_grid=on_grid,
            result=_result(images, fusion),
            audit=audit,
            notes=(*notes, *registration.reasons),
        )
        target = self.output_dir / record.case
        with ResultFolder(target, case=record.case, key=record.key) as folder:
            volumes = _report_volumes(images, record) if self.report else None
            write_case(folder.path, record, volumes=volumes, report=self.report)
        return folder.target


def _settings(
    fusion: Mapping[str, Any], registered: Mapping[str, Any], images: Mapping[str, MetaTensor]
) -> CaseSettings:
    """Settings with which ``medfuse fuse`` gives the same result."""
    windows = {
        name: (fusion[name]["low"], fusion[name]["high"])
        for name in ("window", "anatomical_window")
        if fusion.get(name, {}).get("rule") == "given"
    }
    stated = {}
    for role in ("anatomical", "functional"):  # a NIfTI file does not say what it shows
        meta = images[role].meta
        if (meta.get("source") or {}).get("kind") == "nifti":
            stated[f"{role}_modality"] = meta["modality"]
            if role == "functional" and any(" stated " in note for note in _about_unit(meta)):
                stated["functional_unit"] = meta["unit"]
    names = ("mode", "kernel", "gamut", "style", "bias", "bounded", "device")
    chosen = {name: fusion[name] for name in names}
    if chosen["style"] == "overlay":
        chosen["gamut"] = None
    chosen |= {"method": fusion["guide"]["name"], "colormap": fusion.get("colormap")}
    return CaseSettings.model_validate({**chosen, **registered, **windows, **stated})


def _about_unit(meta: Mapping[str, Any]) -> list[str]:
    """Notes that say where the unit comes from: the file, or whoever stated it."""
    return [note for note in meta["notes"] if f"unit {meta['unit']} " in note]


def _key(
    anatomical: MetaTensor,
    functional: MetaTensor,
    settings: CaseSettings,
    fusion: Mapping[str, Any],
    registration: Registration,
    region: Region | None,
) -> str:
    """Hash of all that decides the result; another one than of files given to medfuse fuse."""
    sources = (image.meta.get("source") or {} for image in (anatomical, functional))
    parts = {
        "sources": [source.get("sha256") for source in sources],
        "registration": np.asarray(registration.matrix).tolist(),
        "deformation": registration.deformation and registration.deformation.sha256,
        "region": region and region.to_dict(),
        "settings": settings.model_dump(mode="json", exclude=set(FILES)),
        "guide": fusion["guide"].get("weights_sha256"),
        "version": medfuse.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _result(images: Mapping[str, MetaTensor], fusion: Mapping[str, Any]) -> Any:
    """The part of a FusionResult that is written."""
    windows = {
        name: Window(**fusion[name]) if name in fusion else None
        for name in ("window", "anatomical_window")
    }
    return SimpleNamespace(
        **{name: images[name].as_tensor() for name in IMAGES},
        **windows,
        **{name: fusion[name] for name in ("mode", "kernel", "levels", "gamut")},
        colormap=fusion.get("colormap"),
        diagnostics=fusion.get("diagnostics", {}),
        bias=fusion.get("bias", 0.0),
        chosen=fusion.get("chosen") or "",
        band_weights=tuple(
            images[band_name(level)] for level in range(len(images)) if band_name(level) in images
        ),
        additions=lambda: {n: images[n] for n in ("bound_change", "painted") if n in images},
        method=SimpleNamespace(**{"weights_sha256": None, "card": {}, **fusion["guide"]}),
    )


def _report_volumes(images: Mapping[str, MetaTensor], record: CaseRecord) -> ReportVolumes:
    """What the report shows; the functional volume before registration is no longer at hand."""
    result = record.result
    anatomical, functional = (
        np.asarray(images[n].as_tensor()) for n in ("anatomical", "functional")
    )
    scalar = functional[0] if len(functional) == 1 else None  # else it came as RGB
    view = images["functional"].meta["field_of_view"]
    grid = Grid.from_volume(images["anatomical"])
    return ReportVolumes(
        anatomical=_windowed(anatomical[0], result.anatomical_window),
        functional=functional if scalar is None else _windowed(scalar, result.window),
        fused=np.asarray(result.rgb),
        weights=np.asarray(result.weights)[0],
        share=np.asarray(result.share)[0],
        coverage=covered(grid, view),
        affine=grid.affine,
        functional_values=scalar,
        colormap=result.colormap or "gray",
        window=result.window,
        anatomical_window=result.anatomical_window,
        contradiction=contradiction_of(
            result, images["functional"], images["anatomical"], record.audit
        ),
        overlay=None if result.gamut == "overlay" else OVERLAY_MAP,
        error_at=error_at(record.registration),
        displacement_at=displacement_at(record.registration),
    )


def _windowed(values: np.ndarray, window: Window | None) -> np.ndarray:
    return values if window is None else apply_window(values, window)


def _as_loaded(functional: MetaTensor) -> Any:
    """A resampled volume as it was before, for provenance, which asks for shape and grid only."""
    view = functional.meta["field_of_view"]
    shape = (1, *(int(n) for n in view["shape"]))
    return SimpleNamespace(shape=shape, affine=view["affine"], meta=functional.meta)


SaveFusionD = SaveFusionDict = SaveFusiond
