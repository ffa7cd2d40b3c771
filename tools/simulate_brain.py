"""Simulate an FDG brain PET from a T1-weighted MRI, with everything about it known.

Tissue classes from the T1, uptake by class, two lesions that the T1 does not show, the blur of a
scanner, noise and a rigid misalignment. Whatever is written says "simulated".

    python tools/simulate_brain.py --t1 t1.nii.gz -o simulated-brain --truth truth
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Array = NDArray[np.float64]

NAME = "simulated-pet"
TISSUES = ("csf", "grey", "white")
#: Thalamus and putamen are grey matter that looks half white in a T1: (|x|, y, z) of the centre
#: and half axes in mm, T1 world (MNI), on both sides; within, T1 values in DEEP_GREY_T1 are grey.
DEEP_GREY = (((12.0, -19.0, 8.0), (9.0, 13.0, 9.0)), ((26.0, 3.0, 2.0), (8.0, 17.0, 12.0)))
DEEP_GREY_T1 = (130.0, 193.0)
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True)
class Lesion:
    """A ball whose uptake differs from its surroundings.

    Attributes
    ----------
    centre_mm : tuple of float
        T1 world, RAS.
    uptake_suv : float
        Before the blur of the scanner.
    """

    name: str
    centre_mm: tuple[float, float, float]
    radius_mm: float
    uptake_suv: float


@dataclass(frozen=True)
class Simulation:
    """All that decides a simulated PET.

    Attributes
    ----------
    uptake_suv : tuple of float
        CSF, grey and white matter; in FDG about 0 : 4 : 1.
    psf_fwhm_mm : float
        Resolution of the scanner, a Gaussian.
    noise_at_grey_suv : float
        Standard deviation in grey matter; it grows with the root of the uptake.
    noise_fwhm_mm : float
        Reconstructed noise is correlated; 0 makes it white.
    spacing_mm, shape
        PET grid, stored right to left as many scanners do.
    rotation_deg : tuple of float
        About the x, y and z axis (applied in the order x, y, z), around the centre of the brain.
    shift_mm : tuple of float
        Of the centre of the brain, from T1 to PET world.
    """

    uptake_suv: tuple[float, float, float] = (0.0, 8.0, 2.0)
    lesions: tuple[Lesion, ...] = (
        Lesion("hot", (-30.0, 26.0, 20.0), 7.0, 13.0),
        Lesion("cold", (52.0, -46.0, 30.0), 15.0, 2.0),
    )
    psf_fwhm_mm: float = 5.0
    noise_at_grey_suv: float = 0.55
    noise_fwhm_mm: float = 3.5
    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 3.0)
    shape: tuple[int, int, int] = (80, 92, 66)
    rotation_deg: tuple[float, float, float] = (7.0, -5.0, 11.0)
    shift_mm: tuple[float, float, float] = (9.0, -14.0, 21.0)
    quantum_suv: float = 0.01
    seed: int = 20240607


def tissue_fractions(t1: Array, *, iterations: int = 200) -> Array:
    """Posterior probability of CSF, grey and white matter from intensity alone.

    Three Gaussians are fitted to the histogram of the brain by expectation maximisation.

    Parameters
    ----------
    t1 : (X, Y, Z) in [0, 255]
        Brain without skull, 0 outside.

    Returns
    -------
    (3, X, Y, Z)
        Sums to 1 in the brain, 0 outside.
    """
    levels = np.arange(256.0)
    index = np.clip(np.rint(t1), 0, 255).astype(int)
    counts = np.bincount(index[t1 > 0], minlength=256).astype(float)
    mean, sd, share = np.array([40.0, 136.0, 196.0]), np.array([30.0, 18.0, 10.0]), np.ones(3) / 3
    posterior = np.zeros((3, 256))
    for _ in range(iterations):
        density = share / sd * np.exp(-0.5 * ((levels[:, None] - mean) / sd) ** 2) + 1e-300
        posterior = (density / density.sum(1, keepdims=True)).T
        weight = posterior * counts
        total = weight.sum(1)
        mean = weight @ levels / total
        sd = np.sqrt((weight * (levels - mean[:, None]) ** 2).sum(1) / total).clip(1.0)
        share = total / total.sum()
    posterior[:, levels < mean[0]] = np.array([[1.0], [0.0], [0.0]])
    posterior[:, levels > mean[2]] = np.array([[0.0], [0.0], [1.0]])
    return posterior[:, index] * (t1 > 0)


def uptake_map(t1: Array, affine: Array, settings: Simulation) -> Array:
    """(X, Y, Z) SUV on the T1 grid before blur and noise."""
    uptake = np.tensordot(np.array(settings.uptake_suv), tissue_fractions(t1), 1)
    points = world_points(t1.shape, affine)
    uptake[_is_deep_grey(t1, points)] = settings.uptake_suv[1]
    for lesion in settings.lesions:
        distance = np.linalg.norm(points - np.array(lesion.centre_mm), axis=-1)
        inside = np.clip(lesion.radius_mm + 0.5 - distance, 0, 1) * (t1 > 0)
        uptake = uptake * (1 - inside) + lesion.uptake_suv * inside
    return uptake


def _is_deep_grey(t1: Array, points: Array) -> NDArray[np.bool_]:
    mirrored = np.abs(points) * [1, 0, 0] + points * [0, 1, 1]
    in_region = np.zeros(t1.shape, dtype=bool)
    for centre, half_axes in DEEP_GREY:
        in_region |= np.linalg.norm((mirrored - centre) / np.array(half_axes), axis=-1) <= 1
    return in_region & (t1 > DEEP_GREY_T1[0]) & (t1 < DEEP_GREY_T1[1])


def world_points(shape: tuple[int, ...], affine: Array) -> Array:
    """(X, Y, Z, 3) RAS mm of the voxel centres."""
    index = np.moveaxis(np.indices(shape, dtype=float), 0, -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def moving_from_fixed(t1: Array, affine: Array, settings: Simulation) -> Array:
    """4x4 point map T1 world -> PET world, RAS mm."""
    centre = world_points(t1.shape, affine)[t1 > 0].mean(axis=0)
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(settings.rotation_deg)):
        a, b = [i for i in range(3) if i != axis]
        if axis == 1:  # right-handed about y
            a, b = b, a
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + np.array(settings.shift_mm) - rotation @ centre
    return matrix


def pet_affine(t1: Array, affine: Array, settings: Simulation) -> Array:
    """4x4 of the PET grid: axes of its own world, x stored from right to left."""
    centre = world_points(t1.shape, affine)[t1 > 0].mean(axis=0)
    spacing = np.array(settings.spacing_mm) * [-1, 1, 1]
    matrix = np.diag([*spacing, 1.0])
    middle = spacing * (np.array(settings.shape) - 1) / 2
    # The scanner's field of view is not centred on the head.
    matrix[:3, 3] = np.round(centre + np.array(settings.shift_mm) + [3.0, -4.0, 2.0] - middle, 2)
    return matrix


def blur(values: Array, spacing_mm: Array, fwhm_mm: float) -> Array:
    """Gaussian of a given width; outside the grid there is nothing."""
    image = sitk.GetImageFromArray(np.pad(values, 8).T)
    image.SetSpacing([float(s) for s in spacing_mm])
    sigma = fwhm_mm / FWHM_PER_SIGMA
    smooth = sitk.DiscreteGaussian(
        image, [sigma**2] * 3, maximumKernelWidth=64, useImageSpacing=True
    )
    return sitk.GetArrayFromImage(smooth).T[8:-8, 8:-8, 8:-8].astype(float)


def sample(values: Array, index_from_index: Array, shape: tuple[int, int, int]) -> Array:
    """Trilinear values on another grid; 0 outside.

    Parameters
    ----------
    index_from_index : (4, 4)
        Voxel index of the new grid -> voxel index of `values`.
    """
    # Index space serves as physical space, so no LPS is needed.
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(index_from_index[:3, :3].ravel().tolist())
    transform.SetTranslation(index_from_index[:3, 3].tolist())
    image = sitk.GetImageFromArray(values.T)
    size = [int(n) for n in shape]
    axes = np.eye(3).ravel().tolist()
    out = sitk.Resample(image, size, transform, sitk.sitkLinear, (0, 0, 0), (1, 1, 1), axes, 0.0)
    return sitk.GetArrayFromImage(out).T.astype(float)


def add_noise(clean: Array, settings: Simulation) -> Array:
    """Correlated noise whose variance is in proportion to the uptake; never below 0."""
    generator = np.random.default_rng(settings.seed)
    noise = generator.standard_normal(clean.shape)
    if settings.noise_fwhm_mm:
        noise = blur(noise, np.array(settings.spacing_mm), settings.noise_fwhm_mm)
    noise = noise / noise.std()
    scale = settings.noise_at_grey_suv * np.sqrt(np.clip(clean, 0, None) / settings.uptake_suv[1])
    return np.clip(clean + scale * noise, 0, None)


def simulate(t1: Array, affine: Array, settings: Simulation) -> tuple[Array, Array, Array, Array]:
    """Make the PET.

    Parameters
    ----------
    t1 : (X, Y, Z) in [0, 255]
        Brain without skull.
    affine : (4, 4)
        T1 index -> RAS mm.

    Returns
    -------
    noisy, clean : (X', Y', Z') SUV
        With and without noise, both blurred.
    pet_affine : (4, 4)
        PET index -> PET world, RAS mm.
    moving_from_fixed : (4, 4)
        T1 world -> PET world.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    blurred = blur(uptake_map(t1, affine, settings), spacing, settings.psf_fwhm_mm)
    matrix, grid = moving_from_fixed(t1, affine, settings), pet_affine(t1, affine, settings)
    clean = sample(blurred, np.linalg.inv(matrix @ affine) @ grid, settings.shape)
    return add_noise(clean, settings), clean, grid, matrix


def write_quantised(path: Path, values: Array, affine: Array, quantum: float) -> None:
    """Write int16 NIfTI with ``scl_slope`` = `quantum`, the same bytes every time."""
    image = nib.Nifti1Image(np.rint(values / quantum).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    content = bytearray(image.to_bytes())
    struct.pack_into("<ff", content, 112, quantum, 0.0)  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(bytes(content), 9, mtime=0))


def sidecar(settings: Simulation) -> dict[str, object]:
    """BIDS-like facts about the image, and that it is no measurement."""
    return {
        "Description": "SIMULATED FDG PET, made by tools/simulate_brain.py from the T1 beside "
        "it. No measurement of a person.",
        "Simulated": True,
        "Modality": "PT",
        "Units": "SUVbw",
        "TracerName": "FDG",
        "TracerRadionuclide": "F18",
        "SimulationParameters": asdict(settings),
    }


def truth(settings: Simulation, matrix: Array) -> dict[str, object]:
    """What a test may compare with."""
    lesions = [
        asdict(lesion) | {"centre_pet_mm": _map(matrix, lesion.centre_mm)}
        for lesion in settings.lesions
    ]
    return {
        "simulated": True,
        "fixed": "t1",
        "moving": NAME,
        "moving_from_fixed_ras_mm": matrix.tolist(),
        "lesions": lesions,
        "uptake_suv": dict(zip(TISSUES, settings.uptake_suv, strict=True)),
        "psf_fwhm_mm": settings.psf_fwhm_mm,
        "noise_at_grey_suv": settings.noise_at_grey_suv,
    }


def _map(matrix: Array, point: tuple[float, ...]) -> list[float]:
    return [round(float(v), 4) for v in matrix[:3, :3] @ np.array(point) + matrix[:3, 3]]


def write_case(t1_path: Path, out: Path, truth_folder: Path, settings: Simulation) -> None:
    """Simulate from a T1 file; write the PET with its sidecar, and the truth."""
    image = nib.load(t1_path)
    t1, affine = np.asarray(image.dataobj, dtype=float), np.asarray(image.affine, dtype=float)
    noisy, clean, grid, matrix = simulate(t1, affine, settings)
    for folder in (out, truth_folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_quantised(out / f"{NAME}.nii.gz", noisy, grid, settings.quantum_suv)
    _write_json(out / f"{NAME}.json", sidecar(settings))
    write_quantised(truth_folder / f"{NAME}-noise-free.nii.gz", clean, grid, settings.quantum_suv)
    _write_json(truth_folder / "simulated-brain.json", truth(settings, matrix))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--t1", type=Path, required=True, help="brain without skull, uint8 NIfTI")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the PET")
    parser.add_argument("--truth", type=Path, required=True, help="folder of the truth")
    parser.add_argument("--seed", type=int, default=Simulation.seed, help="of the noise")
    arguments = parser.parse_args()
    write_case(arguments.t1, arguments.out, arguments.truth, Simulation(seed=arguments.seed))


if __name__ == "__main__":
    main()
