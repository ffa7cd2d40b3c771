"""A pair of brains and its registration, found once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.data.meta_tensor import MetaTensor

from medfuse.imaging.reader import load
from medfuse.registration.result import Registration, register
from tests._helpers.motions import MOTION, moved


@pytest.fixture(scope="session")
def brain(shared_data: Path) -> tuple[MetaTensor, MetaTensor]:
    """T1 and blood-flow PET templates: left-handed storage, 2 mm, aligned to a few mm."""
    folder = shared_data / "volumes" / "mni-templates"
    fixed = load(folder / "spm-t1-avg.nii.gz", modality="MRI")
    return fixed, load(folder / "spm-pet.nii.gz", modality="PET", values_in="a.u.")


@pytest.fixture(scope="session")
def told() -> list[tuple[float, str]]:
    """What the progress callback of `found` was told."""
    return []


@pytest.fixture(scope="session")
def found(brain: tuple[MetaTensor, MetaTensor], told: list) -> Registration:
    fixed, moving = brain
    return register(
        fixed=fixed,
        moving=moved(moving, MOTION),
        preset="fast",
        progress=lambda fraction, text: told.append((fraction, text)),
    )
