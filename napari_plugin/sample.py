"""Sample data: a brain from the package; larger samples from a clone or fetched once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_plugin.reader import while_window_lives

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plugin.layers import LayerData


def brain() -> list[LayerData]:
    """T1 MRI of a brain and a simulated FDG PET of it, not aligned."""
    return while_window_lives(_brain)


def _brain() -> list[LayerData]:
    return _loaded(
        "brain",
        ("t1.nii.gz", "T1 brain", {"modality": "MRI"}),
        ("simulated-pet.nii.gz", "simulated FDG brain", {"modality": "PET"}),
    )


def sarcoma() -> list[LayerData]:
    """T2 MRI and FDG PET of a thigh with a sarcoma: clinical DICOM, far apart and turned."""
    return _open("sarcoma", ("mr-t2", "T2 thigh", {}), ("pet-fdg", "FDG thigh", {}))


def ct_mri() -> list[LayerData]:
    """T1 MRI and CT of the same thigh, aligned."""
    return _open(
        "ct-mri",
        ("mr-t1.nii.gz", "T1 thigh", {"modality": "MRI"}),
        ("ct.nii.gz", "CT thigh", {"modality": "CT", "values_in": "HU"}),
    )


def _open(sample: str, *parts: tuple[str, str, dict[str, str]]) -> list[LayerData]:
    return while_window_lives(lambda: _loaded(sample, *parts))


def _loaded(sample: str, *parts: tuple[str, str, dict[str, str]]) -> list[LayerData]:
    from medfuse.imaging.sample import sample_folder

    folder = sample_folder(sample)
    return [_load(folder / file, name, said) for file, name, said in parts]


def _load(path: Path, name: str, said: dict[str, str]) -> LayerData:
    from medfuse.imaging.reader import load
    from napari_plugin.layers import layer_data

    return layer_data(load(path, **said), name=name, path=str(path))
