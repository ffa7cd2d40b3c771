"""How much memory a case will need, and how much there is."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from medfuse.batch.worker import Job
from medfuse.imaging.memory import CASE_BASE_BYTES, CASE_BYTES_PER_VOXEL

#: Part of the free memory that cases may have; the rest is for the system's file cache.
USABLE = 0.9
_UNKNOWN_VOXELS = 256 * 256 * 180
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


@dataclass(frozen=True)
class Budget:
    """Bytes that all running cases may need together."""

    total: float = math.inf

    def allows(self, job: Job, *, beside: list[Job]) -> bool:
        """Whether a case fits beside those that run."""
        return sum(estimate(j) for j in (*beside, job)) <= self.total


def estimate(job: Job) -> float:
    """Peak memory of a case in bytes, from the header of its anatomical image and its limit."""
    needed = CASE_BASE_BYTES + CASE_BYTES_PER_VOXEL * _voxels(job.anatomical)
    return min(needed, (job.max_memory_gb or math.inf) * 2**30)


def available_bytes() -> float:
    """Memory that this process may still take: of the machine, or of its container if less."""
    free = float(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            free = min(free, float(Path(limit).read_text()) - float(Path(used).read_text()))
    return free


def _voxels(path: Path) -> float:
    """Voxels of a NIfTI or a DICOM folder, without reading pixels; a usual brain if unknown."""
    try:
        return _nifti_voxels(path) if path.is_file() else _dicom_voxels(path)
    except Exception:  # a broken file is for the case itself to report
        return _UNKNOWN_VOXELS


def _nifti_voxels(path: Path) -> float:
    import nibabel as nib

    image: Any = nib.load(path)
    return float(math.prod(image.shape[:3]))


def _dicom_voxels(folder: Path) -> float:
    from medfuse.imaging.dicom.deflated import read_dataset

    files = [p for p in sorted(folder.iterdir()) if p.is_file()]
    header = read_dataset(
        files[len(files) // 2],
        stop_before_pixels=True,
        specific_tags=["Rows", "Columns", "NumberOfFrames"],
    )
    frames = int(header.get("NumberOfFrames") or 1)
    return float(header.Rows * header.Columns * frames * len(files))
