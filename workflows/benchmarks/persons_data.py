"""Images of persons and of brain templates for the benchmarks, and who is kept for the check."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from monai.data.meta_tensor import MetaTensor
from registration import Volumes, foreground, random_move, simulated_brain
from scipy import ndimage

import medfuse
from medfuse.imaging.grid import Grid, transform_points

DEV = ("STS_001", "STS_002", "STS_004", "STS_006", "STS_014", "STS_024", "STS_036", "STS_042")
CHECK = ("STS_012", "STS_019", "STS_023", "STS_028", "STS_047")
#: Templates of the check: whatever shows these.
CHECK_BRAINS = ("spm-single-subject-t1", "dat-spect")
PAIRS = {"hybrid": ("ct", "pet"), "mr-pet": ("mr", "pet"), "ct-mr": ("ct", "mr")}
FILE_OF = {"ct": "ct", "mr": "mr-t1"}
POINTS = 200
RING_MM = 15.0


def person(name: str, data: Path) -> dict[str, MetaTensor]:
    """CT, MR and PET of one person in one world."""
    aligned = data / "sts001-aligned-pet-ct-mr"
    folder = aligned if name == "STS_001" else data / "sts-patients" / name
    ct = medfuse.load(folder / "ct.nii.gz", modality="CT", values_in="HU")
    mr = medfuse.load(folder / "mr-t1.nii.gz", modality="MRI")
    if name == "STS_001":
        return {"ct": ct, "mr": mr, "pet": medfuse.load(folder / "pet-suv-dicom")}
    pet = medfuse.load(folder / "pet-suv.nii.gz", modality="PET", values_in="SUVbw")
    return {"ct": ct, "mr": mr, "pet": pet}


def brains(data: Path) -> Iterator[tuple[str, Volumes]]:
    """Every anatomical template with every functional one."""
    templates, maps = data / "mni-templates", data / "juspace-nuclear-maps"
    anatomical = {
        name: medfuse.load(templates / f"{name}.nii.gz", modality="MRI")
        for name in ("cit168-t1-brain", "spm-t1-avg", "spm-single-subject-t1")
    }
    ct = medfuse.load(
        templates / "clinical-ct-older-adults.nii.gz", modality="CT", values_in="a.u."
    )
    functional = {
        path.name: medfuse.load(folder / f"{path.name}.nii.gz", modality=kind, values_in="a.u.")
        for folder, path, kind in (
            (templates, Path("spm-pet"), "PET"),
            (templates, Path("spm-spect"), "SPECT"),
            (maps, Path("fdopa-pet"), "PET"),
            (maps, Path("dat-spect"), "SPECT"),
        )
    }
    for one, fixed in {**anatomical, "ct": ct}.items():
        for two, moving in {**functional, "ct": ct}.items():
            if one != two:
                yield f"{one}|{two}", Volumes(fixed, moving, np.eye(4))
    yield "simulated|pet", simulated_brain()


def cases(
    kinds: list[str], people: list[str], data: Path
) -> Iterator[tuple[str, str, Callable[[], Volumes]]]:
    """Kind, name and volumes of all pairs."""
    names = [*(DEV if "dev" in people else ()), *(CHECK if "check" in people else ())]
    for name in names:
        images: dict[str, MetaTensor] = {}
        for kind in [k for k in PAIRS if k in kinds]:

            def pair(kind: str = kind, name: str = name, images: dict = images) -> Volumes:
                images.update(images or person(name, data))
                fixed, moving = PAIRS[kind]
                return Volumes(images[fixed], images[moving], np.eye(4))

            yield kind, name, pair
    if "brain" in kinds:
        for name, volumes in brains(data):
            if group(name) in people:
                yield "brain", name, lambda volumes=volumes: volumes


def group(name: str) -> str:
    """Dev or check."""
    held_out = name in CHECK or any(part in CHECK_BRAINS for part in name.split("|"))
    return "check" if held_out else "dev"


def with_header(volume: MetaTensor, move: np.ndarray) -> MetaTensor:
    """The same voxels, said to lie elsewhere."""
    meta = {key: value for key, value in volume.meta.items() if key != "affine"}
    return MetaTensor(volume.as_tensor(), affine=move @ np.asarray(volume.affine), meta=meta)


def trial(
    kind: str, name: str, pair: Volumes, seed: int
) -> tuple[MetaTensor, np.ndarray, np.ndarray]:
    """The moving volume with a moved header, the true map, and points of the fixed foreground."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), len(kind)])
    move = random_move(rng, Grid.from_volume(pair.moving).centre, 20, 40) if seed else np.eye(4)
    points = foreground(pair.fixed)
    points = points[:: max(1, len(points) // POINTS)]
    return with_header(pair.moving, move), move @ pair.truth, points


def contour(name: str, image: str, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of an expert's contour as (X, Y, Z) bool, and its affine."""
    volume = medfuse.load(
        data / "sts-patients" / name / f"{image}-gtv.nii.gz", modality="MRI", values_in="a.u."
    )
    return np.asarray(volume)[0] > 0.5, np.asarray(volume.affine, dtype=float)


def roc_area(name: str, moving_from_fixed: np.ndarray, data: Path) -> float:
    """PET inside the MR contour against a ring of 15 mm around it."""
    return roc_values(name, lambda points: transform_points(moving_from_fixed, points), data)


def roc_values(name: str, there: Callable[[np.ndarray], np.ndarray], data: Path) -> float:
    """The same for any map of points of the MR to those of the PET, RAS mm."""
    inside, affine = contour(name, "mr-t1", data)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    far = ndimage.distance_transform_edt(~inside, sampling=spacing)
    pet = person(name, data)["pet"]
    to_index = np.linalg.inv(np.asarray(pet.affine))
    values = []
    for where in (inside, (far > 0) & (far <= RING_MM)):
        points = there(transform_points(affine, np.argwhere(where)[::3]))
        index = transform_points(to_index, points).T
        values.append(ndimage.map_coordinates(np.asarray(pet)[0], index, order=1))
    ranks = np.concatenate(values).argsort().argsort()
    n, m = len(values[0]), len(values[1])
    return float((ranks[:n].sum() - n * (n - 1) / 2) / (n * m))
