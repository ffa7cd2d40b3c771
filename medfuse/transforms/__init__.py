"""MONAI transforms: thin wrappers over reading, registration, fusion, audit and writing."""

from __future__ import annotations

from medfuse.transforms.clinical import (
    RegisterRigidD,
    RegisterRigidd,
    RegisterRigidDict,
    ToSUV,
    ToSUVD,
    ToSUVd,
    ToSUVDict,
)
from medfuse.transforms.color import (
    ColorizeFunctional,
    ColorizeFunctionalD,
    ColorizeFunctionald,
    ColorizeFunctionalDict,
    RGBToYCbCr,
    RGBToYCbCrD,
    RGBToYCbCrd,
    RGBToYCbCrDict,
    YCbCrToRGB,
    YCbCrToRGBD,
    YCbCrToRGBd,
    YCbCrToRGBDict,
)
from medfuse.transforms.fusion import (
    AuditFusionD,
    AuditFusiond,
    AuditFusionDict,
    FuseLuminanceD,
    FuseLuminanced,
    FuseLuminanceDict,
)
from medfuse.transforms.measure import MeasureRegionsD, MeasureRegionsd, MeasureRegionsDict
from medfuse.transforms.output import SaveFusionD, SaveFusiond, SaveFusionDict

__all__ = [
    "AuditFusionD",
    "AuditFusionDict",
    "AuditFusiond",
    "ColorizeFunctional",
    "ColorizeFunctionalD",
    "ColorizeFunctionalDict",
    "ColorizeFunctionald",
    "FuseLuminanceD",
    "FuseLuminanceDict",
    "FuseLuminanced",
    "MeasureRegionsD",
    "MeasureRegionsDict",
    "MeasureRegionsd",
    "RGBToYCbCr",
    "RGBToYCbCrD",
    "RGBToYCbCrDict",
    "RGBToYCbCrd",
    "RegisterRigidD",
    "RegisterRigidDict",
    "RegisterRigidd",
    "SaveFusionD",
    "SaveFusionDict",
    "SaveFusiond",
    "ToSUV",
    "ToSUVD",
    "ToSUVDict",
    "ToSUVd",
    "YCbCrToRGB",
    "YCbCrToRGBD",
    "YCbCrToRGBDict",
    "YCbCrToRGBd",
]
