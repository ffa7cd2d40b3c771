"""Fusion and its audit as dictionary transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, TransformBackends, convert_to_tensor
from torch import Tensor

from medfuse.case.record import registration_checks, unit_check
from medfuse.fusion import FusionResult, fuse
from medfuse.imaging.fingerprint import as_read
from medfuse.methods.base import Method, Painter
from medfuse.registration.result import Registration
from medfuse.results.export import band_name
from medfuse.settings import DEFAULT_METHOD, PAIR_SETTINGS, CaseSettings, fusion_keywords
from medfuse.transforms.facts import (
    IMAGES,
    audit_of,
    batchable,
    checksum,
    collatable,
    facts_of,
    require_unchanged,
)
from medfuse.transforms.settings import takes_settings


@takes_settings(
    "mode", "colormap", "kernel", "gamut", "style", "bias", "bounded", "device", "window",
    "anatomical_window", *PAIR_SETTINGS,
)  # fmt: skip
class FuseLuminanced(MapTransform):
    """Fuse two images on one grid as :func:`medfuse.fuse` does.

    Adds four images on the anatomical grid and a dictionary of facts: method, windows, audit,
    the keys it wrote, and a checksum by which later steps notice changed images. The images
    inherit the applied operations of the anatomical one, so ``Invertd`` undoes its cropping or
    resampling on them. Fusion itself has no inverse.

    Parameters
    ----------
    anatomical_key, functional_key : str
        (1, ...) images in a unit (``ClinicalReader``) or in [0, 1]; the functional one may be
        (3, ...) RGB. For volumes that are not aligned put ``RegisterRigidd`` before.
    rgb_key, luminance_key, weights_key, share_key, fusion_key : str
        Where results go.
    bound_change_key, painted_key : str
        Where ``bounded``, and a network that paints, leave what they added.
    method : str, Path, Method or Painter
    mode, colormap, kernel, gamut, bias, bounded, window, anatomical_window
        As of :func:`medfuse.fuse`, by keyword.
    accept_pair : {"roles", "same-image"}, optional
        Go on although modalities contradict the roles, or both are one image; by keyword.
    allow_patient_mismatch : bool
        Go on although the headers name two patients; by keyword.

    Raises
    ------
    UsageError, SeriesError
        ``E_ROLES``, ``E_SAME_IMAGE``, ``E_MIXED_PATIENT``.
    ValueError, GeometryError, UsageError, WeightsError
        As :func:`medfuse.fuse`.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's convention

    def __init__(
        self,
        anatomical_key: str = "anatomical",
        functional_key: str = "functional",
        rgb_key: str = "fused",
        luminance_key: str = "luminance",
        weights_key: str = "weights",
        share_key: str = "share",
        fusion_key: str = "fusion",
        bound_change_key: str = "bound_change",
        painted_key: str = "painted",
        method: str | Path | Method | Painter = DEFAULT_METHOD,
        allow_missing_keys: bool = False,
        *,
        settings: CaseSettings,
    ) -> None:
        super().__init__((anatomical_key, functional_key), allow_missing_keys)
        names = (rgb_key, luminance_key, weights_key, share_key)
        self.output_keys = dict(zip(IMAGES, names, strict=True))
        self.fusion_key = fusion_key
        self.addition_keys = {"bound_change": bound_change_key, "painted": painted_key}
        self.method = method
        self.settings = settings

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if len(list(self.key_iterator(d))) < 2:  # raises unless keys may be missing
            return d
        d.update((key, as_read(d[key])) for key in self.keys)
        anatomical, functional = (d[key] for key in self.keys)
        result = fuse(
            functional=functional,
            anatomical=anatomical,
            method=self.method,
            **fusion_keywords(self.settings),
        )
        images = [_on_grid_of(anatomical, getattr(result, name)) for name in IMAGES]
        d.update(zip(self.output_keys.values(), images, strict=True))
        d.update((key, batchable(d[key])) for key in self.keys)
        d[self.fusion_key] = {
            **_facts(result),
            "bias": self.settings.bias,
            "bounded": self.settings.bounded,
            "device": self.settings.device,
            "checksum": checksum(images),
        }
        d[self.fusion_key]["keys"] = {
            **dict(zip(("anatomical", "functional"), self.keys, strict=True)),
            **self.output_keys,
        }
        for level, weights in enumerate(result.band_weights):
            name = band_name(level)
            d[name] = convert_to_tensor(weights, track_meta=True)
            d[self.fusion_key]["keys"][name] = name
        for name, volume in result.additions().items():
            d[self.addition_keys[name]] = _on_grid_of(anatomical, volume)
            d[self.fusion_key]["keys"][name] = self.addition_keys[name]
        return d


class AuditFusiond(MapTransform):
    """Put the audit of a fusion into the dictionary, with registration and unit judged too.

    Parameters
    ----------
    keys : str or sequence of str
        Facts that ``FuseLuminanced`` left.
    audit_key : str or sequence of str
        Receives the content of ``audit.json``: ``verdict`` ("pass", "look" or "fail") and
        ``checks``, with their ``details`` as JSON text.
    transform_key : str
        Registration that ``RegisterRigidd`` left, if it ran.

    Raises
    ------
    UsageError
        ``E_CHANGED`` if an image is not the one that was fused.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(
        self,
        keys: KeysCollection = "fusion",
        audit_key: str = "audit",
        transform_key: str = "registration",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.audit_key = audit_key
        self.transform_key = transform_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            require_unchanged(d, d[key])
            more = []
            if self.transform_key in d:
                more += registration_checks(Registration.from_dict(d[self.transform_key]))
            functional = d[d[key]["keys"]["functional"]]
            if isinstance(functional, MetaTensor) and "unit" in functional.meta:
                more.append(unit_check(functional))
            audit = audit_of(d[key]["audit"]).with_checks(more)
            d[self.audit_key] = facts_of(audit)
        return d


def _facts(result: FusionResult) -> dict[str, Any]:
    """What was done, in plain values."""
    assert result.audit is not None  # fuse() was not told to leave it out
    windows = {"window": result.window, "anatomical_window": result.anatomical_window}
    facts: dict[str, Any] = collatable(
        {
            "guide": {
                "name": result.method.name,
                "kind": result.method.kind,
                "weights_sha256": result.method.weights_sha256,
                "card": result.method.card,
            },
            "mode": result.mode,
            "kernel": result.kernel,
            "levels": result.levels,
            "colormap": result.colormap,
            "gamut": result.gamut,
            "style": "overlay" if result.gamut == "overlay" else "fusion",
            "chosen": result.chosen or None,
            "diagnostics": result.diagnostics or None,
            **{name: window and asdict(window) for name, window in windows.items()},
            "audit": facts_of(result.audit),
        }
    )
    return facts


def _on_grid_of(anatomical: Any, image: Tensor) -> Tensor:
    """Give a result the geometry and the applied operations of the anatomical image."""
    out: Tensor = convert_to_tensor(image, track_meta=get_track_meta())
    if not (isinstance(out, MetaTensor) and isinstance(anatomical, MetaTensor)):
        return out
    out.affine = anatomical.affine.clone()
    out.applied_operations = deepcopy(anatomical.applied_operations)
    name = (anatomical.meta.get("source") or {}).get("name")
    if name:  # SaveImaged names files after it; MONAI keeps a path here, we only the name
        out.meta[ImageMetaKey.FILENAME_OR_OBJ] = name
    return out


FuseLuminanceD = FuseLuminanceDict = FuseLuminanced
AuditFusionD = AuditFusionDict = AuditFusiond
