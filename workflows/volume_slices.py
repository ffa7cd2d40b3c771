"""Slices of registered volumes of persons as pictures: training data of the ``volume-*`` guides.

    python workflows/volume_slices.py --volumes DATA/volumes/sts-patients --out SLICES

Writes SLICES/sts/{CT-MRI,PET}/train/{functional,anatomical}/PERSONnnn.png: the functional volume
registered to the anatomical one as a user of medfuse gets it, and both as a guide sees them. PET
lies over MRI (slices 0 to 499) and over CT (from 500 on), in one customary color map after the
other, slice by slice. Of persons who are held out nothing is written.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medfuse.case.pipeline import align, load_pair
from medfuse.fusion import fuse
from medfuse.settings import CaseSettings
from medfuse.training.from_study import CONTRAST, DIGITS, slices

#: Judged once, after every choice.
HELD_OUT = ("STS_002", "STS_012", "STS_019", "STS_024", "STS_047")
#: All maps whose brightness tells the uptake; the two-way maps leave the luminance to the anatomy.
MAPS = ("hot", "ember", "hot-iron", "rainbow", "gray", "hot-metal", "viridis", "dusk", "inferno")


@dataclass(frozen=True)
class Kind:
    """Two scans of a person: file names, modalities, unit of the functional one."""

    functional: str
    anatomical: str
    modalities: tuple[str, str]
    folder: str
    first: int = 0
    unit: str | None = None
    maps: tuple[str | None, ...] = (None,)


KINDS = (
    Kind("ct", "mr-t1", ("CT", "MRI"), "CT-MRI"),
    Kind("pet-suv", "mr-t1", ("PET", "MRI"), "PET", unit="SUVbw", maps=MAPS),
    Kind("pet-suv", "ct", ("PET", "CT"), "PET", first=500, unit="SUVbw", maps=MAPS),
)


def main() -> None:
    """Write the slices of every person who is not held out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=Path, required=True, help="a folder per person")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for folder in sorted(options.volumes.glob("STS_*")):
        if folder.name in HELD_OUT:
            continue
        for kind in KINDS:
            count = write_person(folder, kind, options.out / "sts" / kind.folder / "train")
            print(f"{folder.name} {' and '.join(kind.modalities)}: {count} slices", flush=True)


def write_person(folder: Path, kind: Kind, root: Path) -> int:
    """Register two scans and write the slices in which both have contrast; how many."""
    functional, anatomical = kind.modalities
    settings = CaseSettings(
        anatomical_modality=anatomical,
        functional_modality=functional,
        functional_unit=kind.unit,
        accept_suspect=True,
    )
    fixed, moving = load_pair(
        folder / f"{kind.anatomical}.nii.gz", folder / f"{kind.functional}.nii.gz", settings
    )
    moved = align(fixed, moving, settings).resample(moving)
    sides = (root / "functional", root / "anatomical")
    for side in sides:
        side.mkdir(parents=True, exist_ok=True)
    count = 0
    for turn, colormap in enumerate(kind.maps):
        seen = fuse(
            functional=moved, anatomical=fixed, method="mean", colormap=colormap, audit=False
        )
        images = [slices(x, fixed) for x in (seen.functional_luminance, seen.anatomical)]
        for k in range(turn, len(images[0]), len(kind.maps)):
            if min(np.ptp(image[k]) for image in images) >= CONTRAST:
                count += 1
                for side, image in zip(sides, images, strict=True):
                    name = f"{folder.name.replace('_', '')}{kind.first + k:0{DIGITS}d}.png"
                    Image.fromarray(image[k]).save(side / name)
    return count


if __name__ == "__main__":
    main()
