"""Sample data: the small open study that comes with the source of medfuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medfuse.errors import InputError
from napari_plugin.reader import while_window_lives

if TYPE_CHECKING:
    from napari_plugin.layers import LayerData

STUDY = Path(__file__).resolve().parent.parent / "sample_data" / "study"


def brain() -> list[LayerData]:
    """T1 MRI of a brain and a simulated FDG PET of it, not aligned."""
    return while_window_lives(_brain)


def _brain() -> list[LayerData]:
    from medfuse.imaging.sample import sample_folder

    folder = sample_folder()
    return _loaded(
        (folder / "t1.nii.gz", "T1 brain", {"modality": "MRI"}),
        (folder / "simulated-pet.nii.gz", "simulated FDG brain", {"modality": "PET"}),
    )


def sarcoma() -> list[LayerData]:
    """T2 MRI and FDG PET of a thigh with a sarcoma: clinical DICOM, far apart and turned."""
    folder = STUDY / "sts001"
    return _open((folder / "mr-t2", "T2 thigh", {}), (folder / "pet-fdg", "FDG thigh", {}))


def ct_mri() -> list[LayerData]:
    """T1 MRI and CT of the same thigh, aligned."""
    folder = STUDY / "sts001-aligned"
    return _open(
        (folder / "mr-t1.nii.gz", "T1 thigh", {"modality": "MRI"}),
        (folder / "ct.nii.gz", "CT thigh", {"modality": "CT", "values_in": "HU"}),
    )


def _open(*parts: tuple[Path, str, dict[str, str]]) -> list[LayerData]:
    return while_window_lives(lambda: _loaded(*parts))


def _loaded(*parts: tuple[Path, str, dict[str, str]]) -> list[LayerData]:
    return [_load(path, name, said) for path, name, said in parts]


def _load(path: Path, name: str, said: dict[str, str]) -> LayerData:
    from medfuse.imaging.reader import load
    from napari_plugin.layers import layer_data

    if not path.exists():
        raise InputError(
            "E_NO_SAMPLE",
            what="Cannot open the sample",
            where=path.name,
            cause="the sample data are part of the source repository and not of this installation",
            remedy="Install from a clone of the repository with pip install -e .",
        )
    return layer_data(load(path, **said), name=name, path=str(path))
