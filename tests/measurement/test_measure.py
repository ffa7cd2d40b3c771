"""Numbers of regions against hand-made phantoms, published values and independent software."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import medfuse
from medfuse.errors import GeometryError, UsageError
from medfuse.imaging.grid import Grid, to_sitk
from medfuse.measurement.measure import measure
from medfuse.measurement.region import Isocontour, Region, Sphere, Threshold
from medfuse.registration import Registration
from medfuse.registration.expected import ExpectedError, Witness
from tests._helpers.ibsi import ibsi_phantom
from tests._helpers.regions import image

SPACING = (4.0, 4.0, 3.0)


def box(shape: tuple[int, ...], start: tuple[int, ...], stop: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


@pytest.fixture
def pet():
    values = np.random.default_rng(3).gamma(2.0, 1.0, (24, 20, 18))
    return image(values, SPACING)


def turned(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift
    return matrix


def registered(matrix: np.ndarray, grid: Grid, error_mm: float | None = None) -> Registration:
    """A known map, of which one witness lies `error_mm` off everywhere."""
    found = Registration.given(matrix, grid)
    if error_mm is None:
        return found
    other = matrix.copy()
    other[0, 3] += error_mm
    return replace(found, expected=ExpectedError(matrix, (Witness("w", other),), 0.0, 1.0))


def test_ibsi_digital_phantom_has_its_published_statistics():
    values, mask, affine = ibsi_phantom()
    row = measure(image(values, affine), [Region.cut("ibsi", mask, affine, "functional")])[0]
    # IBSI reference manual, section 3.3: mean, variance, maximum, median, 10th and 90th
    # percentile (1 and 4), interquartile range 3; 74 voxels of 8 ul.
    assert row.mean == pytest.approx(2.15, abs=0.005)
    assert row.sd**2 == pytest.approx(3.05, abs=0.005)
    assert (row.max, row.p50, row.p5, row.p25, row.p75) == (6, 1, 1, 1, 4)
    assert row.volume_ml == pytest.approx(74 * 0.008)
    assert row.voxels == 74


def test_a_mask_on_the_voxels_of_the_image_is_counted_by_plain_arithmetic(pet):
    mask = box(pet.shape[1:], (5, 6, 4), (11, 13, 12))
    values = pet.numpy()[0][mask]
    row = measure(pet, {"lesion": image(mask, SPACING)})["lesion"]
    ml = 4 * 4 * 3 / 1000
    assert row.max == values.max()
    assert row.mean == pytest.approx(values.mean(), rel=1e-6)
    assert row.sd == pytest.approx(values.std(), rel=1e-6)
    assert row.volume_ml == pytest.approx(mask.sum() * ml)
    hot = values >= 0.41 * values.max()
    assert row.mtv_ml == pytest.approx(hot.sum() * ml)
    assert row.tlg == pytest.approx(values[hot].sum() * ml, rel=1e-6)
    assert row.p50 == np.quantile(values, 0.5, method="inverted_cdf")
    assert (row.measured_on, row.unit, row.remark) == ("unresampled", "SUVbw", None)


def test_no_word_of_suv_where_the_unit_is_another(pet):
    pet.meta["unit"] = "Bq/ml"
    row = measure(pet, {"lesion": image(box(pet.shape[1:], (5, 6, 4), (9, 9, 9)), SPACING)})[0]
    assert row.unit == "Bq/ml"
    assert row.mtv_ml > 0
    assert row.tlg is None
    ct = image(pet.numpy()[0], SPACING, unit="HU", modality="CT")
    row = measure(ct, {"lesion": image(box(pet.shape[1:], (5, 6, 4), (9, 9, 9)), SPACING)})[0]
    assert row.mtv_ml is None


def test_a_region_drawn_on_the_anatomical_image_keeps_its_volume_on_other_voxels(pet):
    shape = (60, 52, 40)
    matrix, affine = turned(12, (3, -2, 4)), np.diag([1.5, 1.5, 1.5, 1])
    drawn = box(shape, (18, 16, 10), (34, 30, 24))
    row = measure(
        pet,
        [Region.cut("cube", drawn, affine, "anatomical")],
        registration=registered(matrix, Grid(shape, affine)),
    )[0]
    assert row.voxels * 0.048 == pytest.approx(row.volume_ml, rel=0.01)
    assert row.outside_fraction == 0


def test_partial_voxels_count_by_the_part_inside():
    # A wall at x = 6 mm: of voxels of 4 mm, the one from 2 to 6 is whole, 6 to 10 not at all; the
    # region from 0 to 8 mm holds half of the voxel with 6 ... 10.
    values = np.broadcast_to(np.array([10.0, 20.0, 40.0, 80.0])[:, None, None], (4, 4, 4))
    affine = np.eye(4)
    affine[0, 3] = 0.5  # cells of 1 mm from x = 0 on
    region = Region.cut("half", np.ones((8, 8, 8), bool), affine, "functional")
    row = measure(image(values, (4, 4, 4)), [region])[0]
    # By x: half of the first voxel (-2 to 2), the second whole, half of the third.
    assert row.mean == pytest.approx((0.5 * 10 + 1 * 20 + 0.5 * 40) / 2, rel=1e-6)


@pytest.mark.parametrize("person", ["STS_042", "STS_047"])
def test_gtv_of_a_patient_is_as_simpleitk_measures_it(person):
    folder = Path("../shared/data/volumes/sts-patients") / person
    if not folder.is_dir():
        pytest.skip("no ../shared/data")
    pet = medfuse.load(folder / "pet-suv.nii.gz", modality="PET", values_in="SUVbw")
    gtv = nib.load(folder / "pet-gtv.nii.gz")
    mask = np.asarray(gtv.dataobj) > 0
    row = measure(pet, [Region.cut("gtv", mask, gtv.affine, "functional")])[0]
    other = sitk.LabelStatisticsImageFilter()
    other.Execute(to_sitk(pet.numpy()[0], pet.affine), to_sitk(mask.astype(np.uint8), gtv.affine))
    n = other.GetCount(1)
    assert row.max == pytest.approx(other.GetMaximum(1), rel=1e-6)
    assert row.mean == pytest.approx(other.GetMean(1), rel=1e-6)
    assert row.sd == pytest.approx(other.GetSigma(1) * ((n - 1) / n) ** 0.5, rel=1e-5)
    assert row.voxels == n
    mr = nib.load(folder / "mr-t1-gtv.nii.gz")  # the same tumor, on other voxels of the same world
    drawn = Region.cut("mr", np.asarray(mr.dataobj) > 0, mr.affine, "functional")
    again = measure(pet, [drawn])[0]
    assert again.volume_ml == pytest.approx(row.volume_ml, rel=0.1)
    assert again.max == row.max


def test_the_error_of_the_registration_moves_the_region(pet):
    values = np.broadcast_to(np.arange(24.0)[:, None, None], (24, 20, 18))  # a ramp along x
    mask = box(values.shape, (9, 8, 6), (13, 12, 10))
    affine = np.diag([*SPACING, 1.0])
    found = registered(np.eye(4), Grid(values.shape, affine), error_mm=6.0)
    row = measure(
        image(values, SPACING), [Region.cut("cube", mask, affine, "anatomical")], registration=found
    )[0]
    assert row.registration_error_mm == pytest.approx(6.0)
    assert row.mean == pytest.approx(10.5)
    # 6 mm are one and a half voxels of a ramp of 1 a voxel.
    assert (row.mean_low, row.mean_high) == pytest.approx((9.0, 12.0))
    assert row.peak_high - row.peak == pytest.approx(2.0, abs=1e-6)  # by whole voxels
    on_pet = measure(
        image(values, SPACING), [Region.cut("cube", mask, affine, "functional")], registration=found
    )[0]
    assert on_pet.registration_error_mm == pytest.approx(6.0)
    assert on_pet.mean_low is None


def test_numbers_do_not_depend_on_the_number_of_threads(pet):
    import torch

    shape, affine = (60, 52, 40), np.diag([1.5, 1.5, 1.5, 1])
    found = registered(turned(12, (3, -2, 4)), Grid(shape, affine), error_mm=5.0)
    regions = [
        Region.cut(str(n), box(shape, (n, n, n), (30, 30, 30)), affine, "anatomical")
        for n in (5, 10, 15)
    ]
    before = torch.get_num_threads()
    try:
        tables = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            tables.append(measure(pet, regions, registration=found))
    finally:
        torch.set_num_threads(before)
    assert tables[0] == tables[1]


def test_what_lies_on_the_anatomical_grid_is_measured_there(pet):
    shape = (30, 30, 30)
    affine = np.diag([2.0, 2.0, 2.0, 1])
    mri = image(np.arange(27000.0).reshape(shape), affine, unit="a.u.", modality="MRI")
    mask = box(shape, (8, 9, 10), (14, 15, 16))
    share = np.where(mask, 0.25, 1.0)[None]
    row = measure(pet, {"cube": image(mask, affine)}, anatomical=mri, share=share)[0]
    inside = mri.numpy()[0][mask]
    assert row.anatomical_mean == pytest.approx(inside.mean())
    assert row.anatomical_sd == pytest.approx(inside.std())
    assert row.anatomical_contribution == pytest.approx(0.25)
    assert (row.anatomical_modality, row.anatomical_unit) == ("MRI", "a.u.")


def test_a_resampled_image_says_so_in_every_row(pet):
    grid = Grid((40, 40, 40), np.diag([2.0, 2.0, 2.0, 1]))
    found = registered(turned(5, (1, 2, 3)), grid)
    on_grid = found.resample(pet)
    mask = box(grid.shape, (10, 10, 10), (20, 20, 16))
    table = measure(on_grid, [Region.cut("a", mask, grid.affine, "anatomical")], registration=found)
    assert [row.measured_on for row in table] == ["resampled"]
    # What the field of view does not hold is no zero.
    corner = box(grid.shape, (0, 0, 0), (40, 40, 40))
    row = measure(on_grid, [Region.cut("all", corner, grid.affine, "anatomical")])[0]
    assert row.outside_fraction > 0.2
    assert row.mean == pytest.approx(pet.numpy().mean(), rel=0.1)


def test_empty_and_outside_regions_get_a_remark_and_others_go_on(pet):
    shape = pet.shape[1:]
    affine = np.diag([*SPACING, 1.0])
    far = affine.copy()
    far[0, 3] = 500
    table = measure(
        pet,
        [
            Region.cut("empty", np.zeros(shape), affine, "functional"),
            Region.cut("far", np.ones((3, 3, 3), bool), far, "functional"),
            Region.cut(
                "edge", box((12, 4, 4), (0, 0, 0), (12, 4, 4)), affine @ shifted(-6), "functional"
            ),
            Region.cut("good", box(shape, (5, 5, 5), (9, 9, 9)), affine, "functional"),
        ],
    )
    assert table["empty"].remark == "the region is empty"
    assert table["empty"].mean is None
    assert "outside the field of view" in table["far"].remark
    assert table["far"].outside_fraction == 1
    assert table["edge"].outside_fraction == pytest.approx(0.5)
    assert table["edge"].mean > 0
    assert table["good"].remark is None


def shifted(voxels: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = voxels
    return matrix


def test_ratio_to_a_reference_region(pet):
    affine = np.diag([*SPACING, 1.0])
    regions = [
        Region.cut("tumor", box(pet.shape[1:], (5, 5, 5), (9, 9, 9)), affine, "functional"),
        Region.cut("cerebellum", box(pet.shape[1:], (12, 5, 5), (18, 9, 9)), affine, "functional"),
    ]
    table = measure(pet, regions, reference="cerebellum")
    assert table["tumor"].ratio == pytest.approx(table["tumor"].mean / table["cerebellum"].mean)
    assert table["cerebellum"].ratio == 1
    with pytest.raises(UsageError, match="pons"):
        measure(pet, regions, reference="pons")


def test_isocontour_takes_what_hangs_together_with_the_hottest_voxel(pet):
    values = np.ones((20, 20, 20))
    values[3:6, 3:6, 3:6] = 8
    values[4, 4, 4] = 10
    values[12:15, 12:15, 12:15] = 9  # hot, and apart
    hot = image(values, SPACING)
    table = measure(
        hot,
        [
            Isocontour("hottest", Threshold.parse("50%")),
            Isocontour("other", Threshold.parse("41%"), (13 * 4.0, 13 * 4.0, 13 * 3.0)),
            Isocontour("fixed", Threshold.parse("9.5")),
        ],
    )
    assert [row.voxels for row in table] == [27, 27, 1]
    assert table["other"].max == 9
    assert table["hottest"].mtv_ml == pytest.approx(27 * 0.048)
    assert table["fixed"].kind == "isocontour 9.5 SUVbw"
    with pytest.raises(UsageError, match="outside the functional image"):
        measure(hot, [Isocontour("x", Threshold.parse("41%"), (500.0, 0.0, 0.0))])


def test_a_sphere_has_the_volume_of_a_ball(pet):
    row = measure(pet, [Sphere("ball", (44.0, 40.0, 26.0), 12.0, "functional")])[0]
    assert row.volume_ml == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=2e-3)
    assert row.voxels * 0.048 == pytest.approx(row.volume_ml, rel=0.01)


def test_a_mask_of_neither_lattice_is_not_guessed(pet):
    mri = image(np.arange(27000.0).reshape(30, 30, 30), (2, 2, 2), modality="MRI")
    mask = image(np.ones((5, 5, 5)), (3, 3, 3))
    with pytest.raises(GeometryError, match="E_REGION_SPACE"):
        measure(pet, {"x": mask}, anatomical=mri)


def test_the_table_is_tsv_with_the_meaning_of_every_column_beside_it(pet, tmp_path):
    table = measure(pet, {"a b": image(box(pet.shape[1:], (5, 5, 5), (9, 9, 9)), SPACING)})
    table.write(tmp_path / "table.tsv")
    head, row = (tmp_path / "table.tsv").read_text().splitlines()
    import json

    meaning = json.loads((tmp_path / "table.json").read_text())
    assert set(head.split("\t")) <= meaning.keys()
    cells = dict(zip(head.split("\t"), row.split("\t"), strict=True))
    assert cells["region"] == "a b"
    assert cells["reference"] == "n/a"
    assert float(cells["mean"]) == pytest.approx(table[0].mean, rel=1e-5)
