"""Units and alignment: refuse what is not SUV, register and resample, and bring results back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, SpatialResample, Transform
from monai.utils import TraceKeys, TransformBackends, ensure_tuple_rep
from torch import Tensor

from medfuse.case.focus import read_region
from medfuse.case.pipeline import CaseSettings, align
from medfuse.errors import MedfuseError, UsageError
from medfuse.imaging.fingerprint import CHANGED, as_read
from medfuse.imaging.grid import Grid, transform_points
from medfuse.imaging.pairing import require_pair
from medfuse.imaging.pet.header import suv_unavailable
from medfuse.registration.deformation import Deformation
from medfuse.registration.region import Region, region_of
from medfuse.registration.result import Registration
from medfuse.settings import PAIR_SETTINGS, pair_keywords
from medfuse.transforms.facts import (
    batchable,
    collatable,
    region_text,
    require_volume,
)
from medfuse.transforms.settings import takes_settings

_ON_FIXED_GRID = ("affine", "field_of_view", "spacing")
_INTERPOLATION = {"bilinear": "linear", "nearest": "nearest"}


class ToSUV(Transform):
    """Let a PET volume pass only if its values are SUVbw.

    ``ClinicalReader`` has converted them wherever the header allows it; this step is where a
    workflow says that nothing else will do.

    Raises
    ------
    SuvUnavailable
        Names the DICOM tag that is missing or implausible.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's convention

    def __call__(self, img: Tensor) -> Tensor:
        img = as_read(img)
        meta = getattr(img, "meta", {})
        unit = meta.get("unit")
        if unit == "SUVbw":
            return img
        name = (meta.get("source") or {}).get("name") or ""
        refusal = (meta.get("suv") or {}).get("refusal")
        found = f"the values are in {unit}" if unit else "the image does not say its unit"
        if meta.get(CHANGED):
            refusal = (meta.get("notes") or [""])[-1]
        raise suv_unavailable(refusal or f"{found} and it holds no DICOM header", where=name)


class ToSUVd(MapTransform):
    """Dictionary form of :class:`ToSUV`."""

    backend = ToSUV.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ToSUV()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


@takes_settings("preset", "choose", "accept_suspect", *PAIR_SETTINGS, "seed")
class RegisterRigidd(MapTransform, InvertibleTransform):
    """Register a functional volume to an anatomical one and resample it onto that grid.

    The first key is registered; further keys (labels drawn on the functional volume) follow it.
    ``Invertd`` brings anything on the anatomical grid back to the functional one.

    Parameters
    ----------
    keys : str or sequence of str
        Moving volumes on one grid, (1, X, Y, Z).
    key_dst : str
        Fixed volume.
    mode : {"bilinear", "nearest"} or one for each key
        Interpolation; "nearest" for labels.
    transform_key : str
        Receives the registration as plain numbers; ``Registration.from_dict`` reads it.
    initial_key : str
        Where a case holds the path of a start that says itself how it maps: an ITK or ANTs
        transform, or 4x4 text (fixed -> moving point, RAS mm); cases without it start on their own.
    region_key : str
        Where a case holds what must fit above all (tumor, brain): a mask (1, X, Y, Z) on the grid
        of one of the two volumes, or text: the path of a NIfTI mask, DICOM SEG or RTSTRUCT, for one
        of several structures ``NAME=path``. Cases without it are registered by the whole body.
    method : {"auto", "rigid", "identity", "deformable"}
        ``auto`` trusts a shared frame of reference; ``deformable`` adds an estimated local
        deformation to that.
    preset : {"fast", "default", "thorough"}
    accept_suspect : bool
        Go on with a registration that failed its own checks.
    accept_pair : {"roles", "same-image"}, optional
        Go on although modalities contradict the roles, or both are one image.
    allow_patient_mismatch : bool
        Go on although the headers name two patients.
    seed : int

    Raises
    ------
    RegistrationError
        ``E_REGISTRATION`` with the reasons.
    UsageError, SeriesError
        ``E_ROLES``, ``E_SAME_IMAGE``, ``E_MIXED_PATIENT``.
    InputError
        ``E_REGION``.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(
        self,
        keys: KeysCollection,
        key_dst: str,
        mode: str | Sequence[str] = "bilinear",
        transform_key: str = "registration",
        initial_key: str = "initial",
        region_key: str = "region",
        method: Literal["auto", "rigid", "identity", "deformable"] = "auto",
        allow_missing_keys: bool = False,
        *,
        settings: CaseSettings,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.key_dst = key_dst
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        for name in self.mode:
            if name not in _INTERPOLATION:
                raise ValueError(f"mode must be bilinear or nearest, got {name!r}")
        self.transform_key = transform_key
        self.initial_key = initial_key
        self.region_key = region_key
        self.settings = settings.model_copy(update={"registration": method})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        moving_key = self.first_key(d)
        if moving_key == () or (self.allow_missing_keys and self.key_dst not in d):
            return d
        fixed, moving = (require_volume(d[key], key) for key in (self.key_dst, moving_key))
        settings = self._settings(d)
        require_pair(fixed, moving, **pair_keywords(settings))
        fixed, d[moving_key] = as_read(fixed), as_read(moving)
        moving = d[moving_key]
        try:
            region = self._region(d, fixed, moving, settings)
            registration = align(fixed, moving, settings, region=region)
        except MedfuseError as error:
            names = {"initial": self.initial_key, "region": self.region_key}
            raise error.renamed({"registration": "method", **names}) from error
        for key, mode in self.key_iterator(d, self.mode):
            d[key] = self._resample(require_volume(d[key], key), registration, mode)
        d[self.key_dst] = batchable(fixed)
        record = registration_record(registration)
        record["settings"] = settings.model_dump(exclude_defaults=True)
        if region is not None:
            record |= {"region": region_text(region)}
        d[self.transform_key] = collatable(record)
        return d

    def _settings(self, d: Mapping[Hashable, Any]) -> CaseSettings:
        initial = d.get(self.initial_key)
        if not initial:
            return self.settings
        if not isinstance(initial, str | Path):
            raise UsageError(
                "E_SETTINGS",
                what="Cannot start the registration",
                cause=f"{self.initial_key!r} must be the path of a 4x4 matrix, "
                f"got {type(initial).__name__}",
                remedy="Write the matrix to a text file (fixed -> moving point, RAS mm)",
            )
        return self.settings.model_copy(update={"initial": str(initial)})

    def _region(
        self,
        d: Mapping[Hashable, Any],
        fixed: MetaTensor,
        moving: MetaTensor,
        settings: CaseSettings,
    ) -> Region | None:
        given = d.get(self.region_key)
        if given is None:
            return None
        if isinstance(given, str | Path):
            allowed = settings.allow_patient_mismatch
            return read_region(given, fixed, moving, allow_patient_mismatch=allowed)
        return region_of(require_volume(given, self.region_key), fixed, moving, self.region_key)

    def _resample(self, moving: MetaTensor, registration: Registration, mode: str) -> MetaTensor:
        out = batchable(registration.resample(moving, interpolation=_INTERPOLATION[mode]))
        out.applied_operations = list(moving.applied_operations)
        moved: MetaTensor = self.push_transform(  # type: ignore[no-untyped-call]
            out,
            orig_size=tuple(moving.shape[1:]),
            extra_info={
                "mode": mode,
                "affine": np.asarray(moving.affine, dtype=np.float64),
                "moving_from_fixed": np.asarray(registration.matrix, dtype=np.float64),
                "deformation": registration.deformation and registration.deformation.to_meta(),
            },
        )
        return moved

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring volumes on the fixed grid to the grid that the moving ones came from."""
        d = dict(data)
        for key in self.key_iterator(d):
            done = self.pop_transform(d[key])
            d[key] = self._back(d[key], done[TraceKeys.ORIG_SIZE], done[TraceKeys.EXTRA_INFO])
        return d

    def _back(self, image: MetaTensor, size: Sequence[int], info: Mapping[str, Any]) -> MetaTensor:
        if info.get("deformation"):
            return _undeformed(image, size, info)
        # A rigid motion of the whole grid is a change of its affine: one interpolation is enough.
        moved = MetaTensor(
            image.as_tensor(),
            affine=torch.as_tensor(info["moving_from_fixed"] @ np.asarray(image.affine)),
            meta={k: v for k, v in image.meta.items() if k not in _ON_FIXED_GRID},
            applied_operations=image.applied_operations,
        )
        resampler = SpatialResample(mode=info["mode"], padding_mode="zeros", dtype=np.float64)
        with resampler.trace_transform(False):
            out = resampler(
                moved, dst_affine=torch.as_tensor(info["affine"]), spatial_size=tuple(size)
            )
        return require_volume(out, "inverse")


def registration_record(registration: Registration) -> dict[str, Any]:
    """A registration as plain numbers, with the displacements of a deformation."""
    record = registration.to_dict()
    if registration.deformation is not None:
        displacement = registration.deformation.displacement
        record["deformation"] = {**record["deformation"], "displacement": displacement}
    return record


def _undeformed(image: MetaTensor, size: Sequence[int], info: Mapping[str, Any]) -> MetaTensor:
    """Bring a volume on the fixed grid to the moving one, by the inverse of both maps."""
    grid = Grid((size[0], size[1], size[2]), np.asarray(info["affine"], dtype=np.float64))
    matrix = np.asarray(info["moving_from_fixed"], dtype=np.float64)
    deformation = Deformation.from_meta(info["deformation"])
    to_index = np.linalg.inv(np.asarray(image.affine, dtype=np.float64))
    values = image.as_tensor()
    out = torch.zeros((len(values), *grid.shape), dtype=values.dtype)
    last = np.array(values.shape[1:]) - 1
    for x in range(grid.shape[0]):  # a plane at a time: coordinates are eight times the values
        plane = np.stack(np.meshgrid([x], *map(np.arange, grid.shape[1:]), indexing="ij"), axis=-1)
        points = transform_points(np.linalg.inv(matrix) @ grid.affine, plane.reshape(-1, 3))
        index = transform_points(to_index, deformation.origins(points))
        at = torch.from_numpy(2 * index / np.maximum(last, 1) - 1).flip(-1)
        read = torch.nn.functional.grid_sample(
            values[None].double(), at[None, None, None], mode=info["mode"], align_corners=True
        )
        out[:, x] = read[0, :, 0, 0].reshape(-1, *grid.shape[1:]).to(values.dtype)
    meta = {k: v for k, v in image.meta.items() if k not in _ON_FIXED_GRID}
    return MetaTensor(
        out,
        affine=torch.tensor(grid.affine),
        meta=meta,
        applied_operations=image.applied_operations,
    )


RegisterRigidD = RegisterRigidDict = RegisterRigidd
ToSUVD = ToSUVDict = ToSUVd
