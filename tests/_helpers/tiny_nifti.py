"""NIfTI files of 24 voxels, for tests that ask for names alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np


def nifti(path: Path, **sidecar: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)), path)
    if sidecar:
        path.with_name(re.sub(r"\.nii(\.gz)?$", ".json", path.name)).write_text(json.dumps(sidecar))
    return path
