"""The chain of transforms of the documentation, and small volumes for its steps."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

from medfuse import transforms as mt
from medfuse.errors import MedfuseError
from medfuse.imaging.monai_reader import ClinicalReader

IMAGES = ("fused", "luminance", "weights", "share")


def chain(out, *, method="mean", registration="identity", report=False) -> Compose:
    """The chain of the documentation."""
    return Compose(
        [
            LoadImaged(["mri", "pet"], reader=ClinicalReader, ensure_channel_first=True),
            mt.RegisterRigidd("pet", key_dst="mri", method=registration, preset="fast"),
            mt.FuseLuminanced("mri", "pet", method=method),
            mt.AuditFusiond(),
            mt.SaveFusiond(output_dir=out, report=report),
        ]
    )


def refusal(error: BaseException) -> BaseException:
    """What lies behind MONAI's "applying transform ..."."""
    while not isinstance(error, MedfuseError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def volume(shape=(10, 12, 8), *, spacing=(2.0, 1.5, 3.0), seed=0, **meta) -> MetaTensor:
    rng = np.random.default_rng(seed)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-9.0, 4.0, 7.0]
    values = torch.from_numpy(rng.random((1, *shape), np.float32))
    return MetaTensor(values, affine=torch.from_numpy(affine), meta=meta)


def files(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
