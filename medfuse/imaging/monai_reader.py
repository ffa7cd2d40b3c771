"""The checked reader as MONAI knows readers: ``LoadImaged(keys, reader=ClinicalReader)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config.type_definitions import PathLike
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys, SpaceKeys
from monai.utils.misc import ensure_tuple

from medfuse.errors import UsageError
from medfuse.imaging.memory import usable_memory
from medfuse.imaging.nifti.colors import CHANNELS, color_bytes, color_layout
from medfuse.imaging.nifti.stream import MAX_RATIO
from medfuse.imaging.reader import read_volume
from medfuse.imaging.volume import spacing_of


class ClinicalReader(ImageReader):
    """Read DICOM series and NIfTI files as `medfuse.load` does, refusals included.

    Parameters
    ----------
    **options
        `series`, `unit`, `frame`, `modality`, `values_in`, as of `medfuse.load`. `LoadImaged`
        hands its own further keywords on.

    Notes
    -----
    MONAI's ``LoadImage`` swallows whatever `read` raises and tries its own readers next, which
    would load what is refused here. So `read` only remembers the path, and `get_data`, which
    MONAI calls unguarded, reads.

    ``LoadImage`` writes the path as given to ``meta["filename_or_obj"]``; medfuse never writes it
    on.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Accept every path: content decides, and a refusal says more than another reader."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Remember path and options for `get_data`."""
        return ensure_tuple(data), {**self.options, **kwargs}

    def get_data(self, img: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the volume.

        Returns
        -------
        values : (X, Y, Z) float32, or (X, Y, Z, 3) in [0, 1]
            The latter of a color volume, such as ``fused_rgb.nii.gz`` in either layout.
        meta : dict
            That of `medfuse.load`, with ``affine`` and MONAI's mark that there is no channel axis.

        Raises
        ------
        MedfuseError
            As of `medfuse.load`; ``E_USAGE`` for a list of several paths.
        """
        paths, options = img
        if len(paths) != 1:
            raise UsageError(
                "E_USAGE",
                what="Cannot read",
                cause=f"expected one path, got {len(paths)}",
                remedy="Give the folder of a series, or one file of it",
            )
        if (fused := color_volume(Path(paths[0]))) is not None:
            return fused
        volume = read_volume(paths[0], **options)
        meta = {
            **volume.meta,
            str(MetaKeys.AFFINE): volume.affine,
            str(MetaKeys.SPACE): SpaceKeys.RAS,
            str(MetaKeys.ORIGINAL_CHANNEL_DIM): "no_channel",
        }
        return volume.values, meta


def color_volume(path: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """RGB of a color volume, RGB24 or marked 4-D; None for all that is no such file."""
    if not (path.is_file() and path.name.lower().endswith((".nii", ".nii.gz"))):
        return None
    try:
        image = nib.Nifti1Image.from_filename(path)
        if color_layout(image.header) is None:
            return None
        # Bytes, and float32 made of them; a gzip file holds a thousandth of its content at least.
        most = path.stat().st_size * MAX_RATIO
        needed = len(CHANNELS) * math.prod(image.shape[:3])
        if needed > most or 5 * needed > usable_memory():
            return None
        voxels = color_bytes(image)
    except Exception:  # of nibabel, whose errors have no common parent
        return None  # the other reader says what is wrong
    assert voxels is not None  # its header said so
    values = voxels.astype(np.float32) / 255
    affine = np.asarray(image.affine, dtype=np.float64)
    meta = {
        "modality": "unknown",
        "unit": None,
        "spacing": spacing_of(affine),
        "notes": ["a color picture: its values are colors and no measurement"],
        str(MetaKeys.AFFINE): affine,
        str(MetaKeys.SPACE): SpaceKeys.RAS,
        str(MetaKeys.ORIGINAL_CHANNEL_DIM): -1,
    }
    return values, meta
