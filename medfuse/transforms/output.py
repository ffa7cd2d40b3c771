"""Result folders from a MONAI workflow: the same files as ``medfuse fuse`` writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

import medfuse
from medfuse.audit import Audit
from medfuse.imaging.export import ResultFolder
from medfuse.imaging.folder import inventory
from medfuse.imaging.registration import Registration
from medfuse.pipeline import CaseSettings
from medfuse.pipeline import _write_images as write_images
from medfuse.pipeline import _write_json as write_json
from medfuse.provenance import build_provenance, write_provenance
from medfuse.transforms.facts import IMAGES, audit_of, case_name, require_unchanged, require_volume


class SaveFusiond(MapTransform):
    """Write one result folder for each fused pair, whole or not at all.

    The five NIfTI files, transform and audit are byte for byte those of ``medfuse fuse``;
    provenance.json says how they were made.

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
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dir = Path(output_dir)
        self.case_key = case_key
        self.audit_key = audit_key
        self.transform_key = transform_key
        self.folder_key = folder_key
        self.png = png

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            require_unchanged(d, d[key])
            d[self.folder_key] = str(self._save(self._case(d, d[key])))
        return d

    def _case(self, d: Mapping[Hashable, Any], fusion: Mapping[str, Any]) -> _Case:
        for key in (self.audit_key, self.transform_key):
            if key not in d:
                raise KeyError(
                    f"SaveFusiond needs {key!r}: put AuditFusiond and RegisterRigidd before it "
                    '(RegisterRigidd(method="identity") for images that are aligned)'
                )
        images = {name: require_volume(d[key], key) for name, key in fusion["keys"].items()}
        sources = [images["anatomical"], images["functional"]]
        return _Case(
            name=case_name(d, self.case_key, sources),
            images=images,
            fusion=fusion,
            audit=audit_of(d[self.audit_key]),
            registration=Registration.from_dict(d[self.transform_key]),
        )

    def _save(self, case: _Case) -> Path:
        with ResultFolder(self.output_dir / case.name, key=case.key()) as folder:
            write_images(
                folder.path,
                case.results(),
                case.images["functional"],
                case.registration,
                CaseSettings(png=self.png),
            )
            write_json(folder.path / "audit.json", {**case.audit.to_dict(), "case": case.name})
            hashes = {name: file["sha256"] for name, file in inventory(folder.path).items()}
            write_provenance(folder.path, case.provenance(hashes))
        return folder.target


@dataclass(frozen=True)
class _Case:
    """One fused pair as it stands in the data dictionary."""

    name: str
    images: Mapping[str, MetaTensor]  # rgb, luminance, weights, share, anatomical, functional
    fusion: Mapping[str, Any]
    audit: Audit
    registration: Registration

    def results(self) -> Any:
        """The part of a FusionResult that is written."""
        return SimpleNamespace(**{name: self.images[name] for name in IMAGES})

    def settings(self) -> dict[str, Any]:
        known = ("mode", "kernel", "levels", "colormap", "window", "anatomical_window")
        facts = {name: self.fusion.get(name) for name in known}
        return {"method": self.fusion["guide"]["name"], **facts, "seed": self.registration.seed}

    def key(self) -> str:
        """Hash of all that decides the result."""
        sources = (self.images[name].meta.get("source") for name in ("anatomical", "functional"))
        parts = {
            "sources": [(source or {}).get("sha256") for source in sources],
            "registration": self.registration.matrix.tolist(),
            "settings": self.settings(),
            "guide": self.fusion["guide"].get("weights_sha256"),
            "version": medfuse.__version__,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def provenance(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        anatomical, functional = self.images["anatomical"], self.images["functional"]
        settings = self.settings()
        parameters = {key: settings.pop(key) for key in ("window", "anatomical_window", "colormap")}
        steps = [
            {
                "name": "register",
                "parameters": {"seed": settings.pop("seed")},
                "result": self.registration.to_dict(),
            },
            {"name": "resample", "parameters": {"interpolation": "linear"}},
            {"name": "colour", "parameters": parameters},
            {"name": "fuse", "parameters": settings},
        ]
        notes = [*anatomical.meta.get("notes", ()), *functional.meta.get("notes", ())]
        return build_provenance(
            case=self.name,
            anatomical=anatomical,
            functional=_as_loaded(functional),
            steps=steps,
            settings=self.settings(),
            key=self.key(),
            guide=self.fusion["guide"],
            outputs=hashes,
            verdict=self.audit.verdict,
            command="python: medfuse.transforms",
            notes=[*notes, *self.registration.reasons],
        )


def _as_loaded(functional: MetaTensor) -> Any:
    """A resampled volume as it was before, for provenance, which asks for shape and grid only."""
    view = functional.meta["field_of_view"]
    shape = (1, *(int(n) for n in view["shape"]))
    return SimpleNamespace(shape=shape, affine=view["affine"], meta=functional.meta)


SaveFusionD = SaveFusionDict = SaveFusiond
