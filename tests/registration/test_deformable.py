"""A local deformation: found on a phantom whose deformation is known, written, and judged."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data.meta_tensor import MetaTensor

from medfuse.case.deformation import CHECKS, deformation_checks
from medfuse.case.pipeline import run_case
from medfuse.cli.app import run
from medfuse.errors import InputError, RegistrationError, UsageError
from medfuse.imaging.grid import Grid, transform_points
from medfuse.kernel.threads import one_thread
from medfuse.measurement.deformed import ESTIMATED
from medfuse.registration.deformation import FILE, Deformation, HotRegion, covered
from medfuse.registration.deformed import deformation_signs, with_deformation
from medfuse.registration.inputs import prepare
from medfuse.registration.progress import Meter
from medfuse.registration.result import Registration, register
from medfuse.registration.start import read_matrix
from medfuse.registration.tfm import itk_bytes
from medfuse.results.export import write_nifti
from medfuse.results.vectors import write_vectors
from medfuse.settings import CaseSettings
from medfuse.transforms.clinical import _undeformed
from medfuse.verification.deformation import stored_registration
from medfuse.verification.verify import verify
from tests._helpers.forger import edit_json, reseal, text_of, wrong

SHAPE, STEP = (48, 44, 40), 4.0
AFFINE = np.diag([STEP, STEP, STEP, 1.0])
AFFINE[:3, 3] = (-94.0, -86.0, -78.0)

_RNG = np.random.default_rng(3)
LOBULES = [(_RNG.uniform((-50, -50, -75), (50, 50, 75)), _RNG.uniform(6, 10)) for _ in range(90)]


def true_shift(points: np.ndarray) -> np.ndarray:
    """(N, 3) known displacement, up to about 15 mm, smooth."""
    x, y, z = points.T / 100.0
    across = 1.2 * np.cos(2 * z) + 0.5 * np.cos(2 * y) - 1.1
    return 9.0 * np.stack([across, np.cos(2 * z + x) - 0.6, 0.4 * np.sin(x)], axis=-1)


def tissue(points: np.ndarray) -> np.ndarray:
    """(N,) 0 air, 1 fat, 2 muscle, 3 bone, 4 lesion of a thigh that tapers."""
    x, y, z = points.T
    radius = 62.0 + 0.16 * z
    skin = np.hypot(x / 1.1, y)
    kind = np.where(skin < radius, 1, 0)
    kind[np.hypot(x / 1.1 + 3, y - 2) < radius - 12] = 2
    kind[np.hypot(x - 22, y + 26 + 0.1 * z) < 11 + 0.05 * z] = 1
    kind[np.hypot(x + 6, y + 0.08 * z) < 13] = 3
    for lobule, size in LOBULES:  # fat between the muscles, which marks places along the thigh
        kind[np.linalg.norm(points - lobule, axis=1) < size] = 1
    kind[np.linalg.norm(points - (26, 18, 10), axis=1) < 15] = 4
    return kind


def volume(values: np.ndarray, modality: str, unit: str, seed: int) -> MetaTensor:
    noise = np.random.default_rng(seed).normal(scale=0.01 * values.max(), size=values.shape)
    image = sitk.GetImageFromArray((values + noise).astype(np.float32))
    blurred = sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, 0.5 if seed else 0.1))
    meta = {"modality": modality, "unit": unit, "source": {}, "notes": []}
    return MetaTensor(torch.from_numpy(blurred)[None], affine=torch.tensor(AFFINE), meta=meta)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return transform_points(AFFINE, index.reshape(-1, 3))


@pytest.fixture(scope="module")
def pair(points: np.ndarray) -> tuple[MetaTensor, MetaTensor]:
    """An MRI of the thigh, and a PET of it after it was deformed."""
    fixed = np.array([0.02, 1.0, 0.45, 0.1, 0.6])[tissue(points)].reshape(SHAPE)
    origin = points.copy()  # a moving point y shows the tissue at x, where y = x + shift(x)
    for _ in range(20):
        origin = points - true_shift(origin)
    moving = np.array([0.01, 0.3, 1.0, 0.5, 6.0])[tissue(origin)].reshape(SHAPE)
    return volume(fixed, "MRI", "a.u.", 0), volume(moving, "PET", "SUVbw", 1)


@pytest.fixture(scope="module")
def result(pair: tuple[MetaTensor, MetaTensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``medfuse fuse`` makes of it; the inputs lie beside it."""
    folder = tmp_path_factory.mktemp("deformable")
    inputs = folder / "inputs"
    inputs.mkdir()
    for name, image in zip(("mri", "pet"), pair, strict=True):
        write_nifti(inputs / f"{name}.nii.gz", np.asarray(image)[0], AFFINE)
    images = [str(inputs / f"{name}.nii.gz") for name in ("mri", "pet")]
    stated = ["--anatomical-modality", "MRI", "--functional-modality", "PET"]
    chosen = ["--registration", "deformable", "--preset", "fast", "--functional-unit", "SUVbw"]
    assert run(["fuse", *images, "-o", str(folder / "case"), *stated, *chosen, "--quiet"]) == 0
    return folder / "case"


@pytest.fixture(scope="module")
def found(result: Path) -> Registration:
    return stored_registration(result)


def body(points: np.ndarray) -> np.ndarray:
    inner = tissue(points) > 0
    inner &= (np.abs(points[:, 2]) < 60) & (np.abs(points[:, :2]) < 75).all(axis=1)
    return points[inner][::17]


def error(matrix: np.ndarray, shifts: np.ndarray, at: np.ndarray) -> float:
    gap = transform_points(matrix, at + shifts) - (at + true_shift(at))
    return float(np.linalg.norm(gap, axis=1).mean())


def test_recovers_at_least_half_of_a_known_deformation(
    found: Registration, points: np.ndarray
) -> None:
    at = body(points)
    assert found.deformation is not None
    rigid = error(found.matrix, np.zeros_like(at), at)
    deformed = error(found.matrix, found.deformation.shifts(at), at)
    assert rigid > 2.0
    assert deformed <= 0.5 * rigid
    assert found.deformation.least_jacobian > 0.3


def test_is_never_called_good_and_says_that_it_is_an_estimate(
    found: Registration, result: Path
) -> None:
    assert found.verdict == "look"
    assert any("estimate" in reason for reason in found.reasons)
    assert "before the deformation" in found.error_words()
    checks = {c["id"]: c for c in json.loads((result / "audit.json").read_text())["checks"]}
    assert checks["deformation"]["verdict"] == "pass"
    assert checks["deformation"]["value"] == found.deformation.least_jacobian
    assert "Mean value before" in checks["deformation_volume"]["text"]
    report = (result / "report.html").read_text()
    assert "Displacement" in report
    assert "nothing in the images proves that tissue moved like this" in report


def test_two_images_of_a_body_that_did_not_bend_are_not_deformed(points: np.ndarray) -> None:
    kinds = tissue(points)
    values = [
        np.array(v)[kinds].reshape(SHAPE) for v in ([0.02, 1, 0.4, 0.1, 0.6], [0, 3, 9, 5, 30])
    ]
    fixed, moving = volume(values[0], "MRI", "a.u.", 0), volume(values[1], "PET", "SUVbw", 1)
    one, two = (prepare(image, base_mm=2.0) for image in (fixed, moving))
    linear = Registration.given(np.eye(4), Grid(SHAPE, AFFINE))
    found = with_deformation(linear, one, two, moving, preset="fast", meter=Meter(None))
    assert not found.bends
    assert found.verdict == "good"
    assert found.method == linear.method
    assert "nothing that a rigid motion leaves open" in found.reasons[0]
    assert torch.equal(found.resample(moving), linear.resample(moving))


def test_itk_gives_our_image_with_the_files_of_the_result(
    found: Registration, result: Path, tmp_path: Path
) -> None:
    ours = sitk.ReadImage(str(result / "functional_on_anatomical.nii.gz"))
    moving = sitk.ReadImage(str(result.parent / "inputs" / "pet.nii.gz"))
    field = sitk.ReadImage(str(result / FILE), sitk.sitkVectorFloat64)
    linear = sitk.ReadTransform(str(result / "transform.tfm"))
    both = sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(field)])
    paths = [tmp_path / f"whole{suffix}" for suffix in (".h5", ".tfm")]
    for path in paths:
        path.write_bytes(itk_bytes(found.itk(), path.suffix))
    for transform in (both, *(sitk.ReadTransform(str(path)) for path in paths)):
        again = sitk.Resample(moving, ours, transform, sitk.sitkLinear, 0.0)
        gap = sitk.GetArrayFromImage(again) - sitk.GetArrayFromImage(ours)
        assert np.abs(gap).max() < 1e-3
    header = nib.load(result / FILE).header
    assert header["intent_code"] == 1007
    assert header.get_data_shape()[3:] == (1, 3)


def test_verify_finds_the_same_deformation_again(result: Path) -> None:
    with one_thread():
        findings = verify(result, inputs=result.parent / "inputs")
    assert wrong(findings) == set()
    assert "measured again" in text_of(findings, "deformation")


def test_a_deformation_of_a_result_is_taken_again_and_replayed(
    result: Path, points: np.ndarray, tmp_path: Path
) -> None:
    """Also with a region drawn on the MRI: measured, and right in the registration."""
    inputs = result.parent / "inputs"
    lesion = np.linalg.norm(points - (26, 18, 10), axis=1).reshape(SHAPE) < 15
    mask = tmp_path / "lesion.nii.gz"
    write_nifti(mask, lesion.astype(np.float32), AFFINE)
    stated = ["--anatomical-modality", "MRI", "--functional-modality", "PET"]
    stated += ["--functional-unit", "SUVbw", "--preset", "fast", "--quiet"]
    again = ["--registration", "identity", "--initial", str(result / "transform.json")]
    drawn = ["--region", f"lesion={mask}"]
    out, images = tmp_path / "again", [str(inputs / f"{name}.nii.gz") for name in ("mri", "pet")]
    assert run(["fuse", *images, "-o", str(out), *stated, *again, *drawn]) == 0
    for name in (FILE, "functional_on_anatomical.nii.gz"):
        assert (out / name).read_bytes() == (result / name).read_bytes()
    told = json.loads((out / "transform.json").read_text())
    assert (told["method"], told["deformation"]["given"]) == ("identity + deformation", True)
    table = tmp_path / "table.tsv"
    drawn = ["--regions", f"lesion={mask}", "--drawn-on", "anatomical", "--inputs", str(inputs)]
    assert run(["measure", str(out), *drawn, "-o", str(table), "--quiet"]) == 0
    (row,) = csv.DictReader(table.read_text().splitlines(), delimiter="\t")
    assert "through a local deformation, which is an estimate" in row["remark"]
    assert float(row["mean"]) > 4.0  # of 6 in the lesion and 1 around it
    with one_thread():
        findings = verify(out, inputs=inputs)
    assert wrong(findings) == set()
    assert run(["fuse", *images, "-o", str(tmp_path / "no"), *stated, *again[2:]]) != 0


@pytest.mark.slow
def test_a_tumour_of_a_person_is_measured_through_the_deformation(
    shared_data: Path, tmp_path: Path
) -> None:
    """The contour on the MRI is the region of the registration and is measured on the PET."""
    person = shared_data / "volumes" / "sts-patients" / "STS_019"
    drawn = str(person / "mr-t1-gtv.nii.gz")
    settings = CaseSettings(
        registration="deformable", preset="fast", method="mean", region=drawn,
        regions=(f"GTV={drawn}",), functional_unit="SUVbw",
        anatomical_modality="MRI", functional_modality="PET",
    )  # fmt: skip
    out = tmp_path / "case"
    images = person / "mr-t1.nii.gz", person / "pet-suv.nii.gz"
    assert run_case(*images, out, settings, case="case").verdict == "look"
    told = json.loads((out / "transform.json").read_text())
    assert told["expected_error"]["places"][0]["name"] == "the region"
    assert told["deformation"]["least_jacobian"] > 0
    (row,) = csv.DictReader((out / "measurements.tsv").read_text().splitlines(), delimiter="\t")
    assert ESTIMATED in row["remark"]
    assert (row["region"], row["space"], row["measured_on"]) == ("GTV", "anatomical", "unresampled")
    drawn_ml, hot_ml = float(row["volume_ml"]), float(row["mtv_ml"])
    assert 0.5 * drawn_ml < hot_ml <= drawn_ml  # the uptake of this tumour fills its contour
    assert [f for f in verify(out) if not f.ok] == []


def test_a_forged_field_is_found_without_the_inputs(result: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(result, tmp_path / "case"))
    found = stored_registration(copy).deformation
    assert found is not None
    half = (found.displacement / 2).astype(np.float32)
    write_vectors(copy / FILE, half, found.lattice.affine)
    reseal(copy)
    assert "deformation" in wrong(verify(copy))


def test_a_record_that_calls_a_fold_smooth_is_found(result: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(result, tmp_path / "case"))
    edit_json(copy / "transform.json", lambda t: t["deformation"].update(least_jacobian=0.9))
    reseal(copy)
    assert {"deformation", "verdicts"} <= wrong(verify(copy))


def test_a_lattice_without_its_file_and_a_file_without_a_record_are_found(
    result: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(result, tmp_path / "case"))
    edit_json(copy / "transform.json", lambda t: t.pop("deformation"))
    reseal(copy)
    assert "headers of the volumes" in wrong(verify(copy))


def field(slope: float) -> Deformation:
    """A displacement along x that changes by `slope` mm each mm."""
    grid = Grid((9, 8, 7), np.diag([4.0, 5.0, 6.0, 1.0]))
    x = np.arange(9)[:, None, None] * 4.0
    shifts = np.zeros((9, 8, 7, 3), np.float32)
    shifts[..., 0] = slope * (x - 16)
    return Deformation(grid, shifts)


def test_jacobian_volume_and_inverse_of_a_known_field() -> None:
    narrow = field(-0.25)
    assert narrow.least_jacobian == pytest.approx(0.75)
    at = np.array([[10.0, 12.0, 14.0], [20.0, 15.0, 20.0]])
    assert narrow.volume_factors(at) == pytest.approx(0.75)
    assert narrow.origins(at) + narrow.shifts(narrow.origins(at)) == pytest.approx(at, abs=1e-6)
    assert field(-1.1).least_jacobian < 0
    assert (narrow.shifts([[-50.0, 0.0, 0.0]]) == 0).all()


def test_coverage_is_where_itk_finds_values() -> None:
    grid = Grid((10, 9, 8), np.diag([3.0, 3.0, 3.0, 1.0]))
    moving = Grid((6, 7, 5), np.diag([4.0, 4.0, 4.0, 1.0]))
    view = {"shape": list(moving.shape), "affine": moving.affine.tolist()}
    view |= {"moving_from_fixed": np.eye(4).tolist(), "deformation": field(-0.25).to_meta()}
    points = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1) * 3.0
    arrived = points.reshape(-1, 3) + field(-0.25).shifts(points)
    index = arrived / 4.0
    inside = ((index > -0.5) & (index < np.array(moving.shape) - 0.5)).all(axis=1)
    assert (covered(grid, view).ravel() == inside).all()
    assert 0 < inside.sum() < inside.size


def test_a_fold_is_suspect_and_a_change_of_volume_asks_for_a_look() -> None:
    region = HotRegion(10.0, 1.3, 3.0, 2.9, 6.0, 5.8, "SUVbw")
    lattice, shifts = field(-1.1).lattice, field(-1.1).displacement
    facts = Deformation(lattice, shifts, 7.0, region).to_dict()
    signs = {sign.name: sign for sign in deformation_signs(facts)}
    assert signs["least Jacobian"].verdict == "suspect"
    assert signs["inverse consistency"].verdict == "look"
    assert "+30 %" in signs["volume of the hottest region"].reason
    verdicts = {check.id: check.verdict for check in deformation_checks(facts)}
    assert verdicts == dict(zip(CHECKS, ("fail", "look", "look"), strict=True))


def test_what_cannot_be_deformed_is_refused_in_words(
    pair: tuple[MetaTensor, MetaTensor], result: Path
) -> None:
    fixed, moving = pair
    with pytest.raises(RegistrationError, match="voxels along one axis"):
        register(fixed=fixed[..., :1], moving=moving[..., :1], method="deformable")
    with pytest.raises(InputError, match="local deformation"):
        read_matrix(result / "transform.json")
    with pytest.raises(UsageError, match=FILE):
        Registration.from_dict(json.loads((result / "transform.json").read_text()))


def test_monai_brings_labels_back_by_the_inverse(found: Registration, points: np.ndarray) -> None:
    assert found.deformation is not None
    labels = torch.from_numpy((tissue(points) == 4).reshape(SHAPE)).float()[None]
    grid = Grid(SHAPE, AFFINE)
    info = {
        "affine": AFFINE,
        "moving_from_fixed": found.matrix,
        "deformation": found.deformation.to_meta(),
        "mode": "nearest",
    }
    image = MetaTensor(labels, affine=torch.tensor(AFFINE))
    back = _undeformed(image, grid.shape, info)
    again = np.asarray(found.resample(back, interpolation="nearest"))
    both = (again > 0) & (np.asarray(labels) > 0)
    assert 2 * both.sum() / ((again > 0).sum() + labels.sum()) > 0.85
