"""Regions as researchers have them on disk: NIfTI with and without names, DICOM SEG, RTSTRUCT."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medfuse
from medfuse.errors import InputError, MedfuseError, UsageError
from medfuse.measurement.files import Images, Named, read_regions
from medfuse.measurement.labels import freesurfer
from medfuse.measurement.measure import measure
from medfuse.measurement.nifti_regions import boxes
from tests._helpers.make import SeriesPlan, phantom, write_series
from tests._helpers.regions import FRAMES, SERIES, image, segmentation, square, structure_set

ANATOMICAL, FUNCTIONAL = (1.0, 1.0, 2.0), (4.0, 4.0, 3.0)


@pytest.fixture(scope="module")
def images() -> Images:
    rng = np.random.default_rng(1)
    pet = image(rng.random((12, 11, 10)), FUNCTIONAL)
    mri = image(rng.random((40, 36, 14)), ANATOMICAL, modality="MRI", role="anatomical")
    return Images.of(pet, mri)


def labels(
    path: Path, values: np.ndarray, spacing: tuple[float, ...] = ANATOMICAL, **header: object
) -> Path:
    written = nib.Nifti1Image(values, np.diag([*spacing, 1.0]))
    for name, value in header.items():
        written.header[name] = value
    nib.save(written, path)
    return path


@pytest.fixture
def map_of_three() -> np.ndarray:
    values = np.zeros((40, 36, 14), dtype=np.int16)
    values[5:10, 6:12, 2:5] = 1
    values[20:30, 6:20, 2:9] = 7
    values[3:6, 30:34, 10:13] = 17
    return values


def test_boxes_are_those_of_plain_arithmetic(map_of_three):
    assert boxes(map_of_three.astype(np.int32)) == {
        1: ([5, 6, 2], [10, 12, 5]),
        7: ([20, 6, 2], [30, 20, 9]),
        17: ([3, 30, 10], [6, 34, 13]),
    }
    assert boxes(np.zeros((3, 4, 5), np.int32)) == {}


def test_a_label_map_gives_a_region_a_label_and_says_which_have_no_name(
    tmp_path, images, map_of_three
):
    path = labels(tmp_path / "organs.nii.gz", map_of_three, intent_code=1002)
    (tmp_path / "organs.tsv").write_text("index\tname\n0\tbackground\n1\tliver\n7\tspleen\n")
    found = read_regions(path, images)
    assert [(r.name, r.label, r.space) for r in found] == [
        ("liver", 1, "anatomical"),
        ("spleen", 7, "anatomical"),
        ("label 17", 17, "anatomical"),
    ]
    assert [r.notes for r in found] == [(), (), ("its label has no name",)]
    assert [r.weights.sum() for r in found] == [90, 980, 36]
    named = read_regions(Named(path, "CT"), images)
    assert named[0].name == "CT liver"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("organs.json", json.dumps({"1": "liver", "7": "spleen"})),
        ("organs.json", json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 7}})),
        ("organs.txt", "#No. Label R G B A\n1 liver 70 130 180 0\n7 spleen 1 2 3 0\n"),
        ("organs.txt", '1 255 0 0 1 1 1 "liver"\n7 0 255 0 1 1 1 "spleen"\n'),
        ("organs.csv", "label,name\n1,liver\n7,spleen\n"),
    ],
)
def test_names_beside_the_file(tmp_path, images, map_of_three, name, content):
    path = labels(tmp_path / "organs.nii.gz", map_of_three)
    (tmp_path / name).write_text(content)
    assert [r.name for r in read_regions(path, images)] == ["liver", "spleen", "label 17"]
    stated = tmp_path / "other.dat"
    stated.write_text(content)
    (tmp_path / name).unlink()
    assert read_regions(path, images, names=str(stated))[1].name == "spleen"


def test_names_in_the_header_as_totalsegmentator_writes_them(tmp_path, images, map_of_three):
    written = nib.Nifti1Image(map_of_three, np.diag([*ANATOMICAL, 1.0]))
    table = "".join(
        f'<Label Key="{key}" Red="1" Green="0" Blue="0" Alpha="1"><![CDATA[{name}]]></Label>'
        for key, name in {1: "liver", 7: "spleen", 99: "heart"}.items()
    )
    text = f"<?xml version='1.0'?> <CaretExtension><LabelTable>{table}</LabelTable>"
    written.header.extensions.append(nib.nifti1.Nifti1Extension(0, text.encode()))
    nib.save(written, tmp_path / "total.nii.gz")
    found = read_regions(tmp_path / "total.nii.gz", images)
    assert [r.name for r in found] == ["liver", "spleen", "label 17"]


def test_numbers_of_freesurfer_are_used_where_the_file_says_so(tmp_path, images, map_of_three):
    for name in ("sub-01_desc-aseg_dseg.nii.gz", "aparc+aseg.nii.gz"):
        found = read_regions(labels(tmp_path / name, map_of_three), images)
        assert found[-1].name == "Left-Hippocampus"
    found = read_regions(labels(tmp_path / "x.nii.gz", map_of_three), images, names="freesurfer")
    assert found[1].name == "Left-Cerebellum-White-Matter"


def test_a_label_map_of_freesurfer_is_that_of_nifti_with_its_names(tmp_path, images, map_of_three):
    affine = np.diag([*ANATOMICAL, 1.0]) @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = ANATOMICAL[0] * (len(map_of_three) - 1)  # the same voxels, stored the other way
    for suffix in (".mgz", ".mgh"):
        path = tmp_path / f"aseg{suffix}"
        nib.save(nib.MGHImage(map_of_three[::-1].astype(np.int32), affine), path)
        found = read_regions(path, images)
        same = read_regions(labels(tmp_path / "aseg.nii.gz", map_of_three), images)
        assert [r.name for r in found] == [r.name for r in same]
        assert found[-1].name == "Left-Hippocampus"
        for one, other in zip(found, same, strict=True):
            assert np.array_equal(one.weights[::-1], other.weights)
            center = [
                nib.affines.apply_affine(r.grid.affine, (np.array(r.grid.shape) - 1) / 2)
                for r in (one, other)
            ]
            assert center[0] == pytest.approx(center[1], abs=1e-4)
    whole = (tmp_path / "aseg.mgz").read_bytes()
    mask = (map_of_three == 7).astype(np.uint8)
    nib.save(nib.MGHImage(mask, np.diag([*ANATOMICAL, 1.0])), tmp_path / "lesion.mgz")
    assert [r.name for r in read_regions(tmp_path / "lesion.mgz", images)] == ["region 1"]
    assert freesurfer()[3024] == "wm-lh-precentral"
    series = nib.MGHImage(np.zeros((4, 4, 4, 2), np.uint8), np.eye(4))
    nib.save(series, tmp_path / "four.mgz")
    for name, content in (
        ("cut.mgz", whole[: len(whole) // 2]),
        ("summed.mgz", whole[:-8] + bytes(8)),
        ("text.mgz", b"no image at all"),
        ("plain.mgh", b"x" * 300),
        ("four.mgz", (tmp_path / "four.mgz").read_bytes()),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"E_REGION") as error:
            read_regions(tmp_path / name, images)
        assert "\n" not in str(error.value)


def test_bids_finds_the_table_of_a_segmentation_above_its_folder(tmp_path, images, map_of_three):
    folder = tmp_path / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (tmp_path / "desc-organs_dseg.tsv").write_text("index\tname\n1\tliver\n7\tspleen\n")
    (tmp_path / "desc-other_dseg.tsv").write_text("index\tname\n1\twrong\n")
    path = labels(folder / "sub-01_desc-organs_dseg.nii.gz", map_of_three)
    assert read_regions(path, images)[0].name == "liver"


def test_a_mask_is_not_called_after_its_file_unless_that_is_asked_for(tmp_path, images):
    mask = np.zeros((12, 11, 10), np.uint8)
    mask[3:5, 3:5, 3:5] = 1
    path = labels(tmp_path / "Jane_Doe.nii.gz", mask, FUNCTIONAL)
    assert read_regions(path, images, number=2)[0].name == "region 2"
    assert read_regions(path, images)[0].space == "functional"
    assert read_regions(Named.parse(f"GTV={path}"), images)[0].name == "GTV"
    assert read_regions(path, images, keep_names=True)[0].name == "Jane_Doe"
    bids = labels(tmp_path / "sub-01_label-GTV_mask.nii.gz", mask, FUNCTIONAL)
    assert read_regions(bids, images)[0].name == "GTV"


def test_parts_of_voxels_are_weights(tmp_path, images):
    parts = np.zeros((12, 11, 10), np.float32)
    parts[4, 4, 4], parts[5, 4, 4] = 0.25, 1
    found = read_regions(labels(tmp_path / "p.nii", parts, FUNCTIONAL), images)[0]
    assert found.volume_ml == pytest.approx(1.25 * 0.048)


@pytest.mark.parametrize(
    ("values", "spacing", "code"),
    [
        (np.full((12, 11, 10), 2.5, np.float32), FUNCTIONAL, "E_REGION"),
        (np.full((12, 11, 10), -1, np.int16), FUNCTIONAL, "E_REGION"),
        (np.full((12, 11, 10), np.nan, np.float32), FUNCTIONAL, "E_REGION"),
        (np.ones((12, 11, 10, 3), np.uint8), FUNCTIONAL, "E_REGION"),
        (np.ones((12, 11, 10), np.uint8), (2.2, 2.2, 2.2), "E_REGION_SPACE"),
    ],
)
def test_files_that_are_no_regions_are_refused_in_a_line(tmp_path, images, values, spacing, code):
    path = labels(tmp_path / "x.nii.gz", values, spacing)
    with pytest.raises(MedfuseError) as error:
        read_regions(path, images)
    assert error.value.code == code
    assert "\n" not in str(error.value)
    if code == "E_REGION_SPACE":
        assert read_regions(path, images, drawn_on="functional")[0].space == "functional"


def test_regions_of_another_subject_are_refused(tmp_path, images):
    own = Images(images.functional, images.anatomical, {"functional": {"subject": "02"}})
    mask = np.ones((12, 11, 10), np.uint8)
    path = labels(tmp_path / "sub-01_mask.nii.gz", mask, FUNCTIONAL)
    with pytest.raises(MedfuseError, match="E_MIXED_PATIENT"):
        read_regions(path, own)
    assert read_regions(path, own, allow_patient_mismatch=True)


def test_structure_set_with_hole_two_islands_and_keyhole(tmp_path, images):
    ring = [square(z, 0, 20) for z in (0, 3, 6)] + [square(z, 5, 15) for z in (0, 3, 6)]
    islands = [square(z, 0, 4, about=(s, 0)) for z in (0, 3) for s in (0, 10)]
    outer, inner = square(9, 0, 20), square(9, 5, 15)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner[-1:], inner, outer[:1]])
    path = structure_set(
        tmp_path / "rt.dcm",
        {"ring": ring, "islands": islands, "keyhole": [keyhole, keyhole + np.array([0, 0, 3.0])]},
    )
    found = {r.name: r for r in read_regions(path, images)}
    assert found["ring"].volume_ml == pytest.approx((400 - 100) * 9 / 1000, rel=1e-3)
    assert found["islands"].volume_ml == pytest.approx(2 * 16 * 6 / 1000, rel=1e-3)
    assert found["keyhole"].volume_ml == pytest.approx((400 - 100) * 6 / 1000, rel=1e-3)
    # LPS to RAS: the ring lies at x and y from -20 to 0.
    assert found["ring"].centre == pytest.approx([-10, -10, 3], abs=0.3)
    assert {r.space for r in found.values()} == {"functional"}


def test_structure_set_belongs_to_the_image_of_its_frame_of_reference(tmp_path, images):
    rings = {"GTV": [square(z, 0, 9) for z in (0, 2, 4)]}
    on_mri = structure_set(
        tmp_path / "m.dcm", rings, frame=FRAMES["anatomical"], series=SERIES["anatomical"]
    )
    assert read_regions(on_mri, images)[0].space == "anatomical"
    other = structure_set(tmp_path / "o.dcm", rings, frame="1.2.3.99", series="1.2.3.98")
    with pytest.raises(MedfuseError, match="E_REGION_SPACE"):
        read_regions(other, images)
    shared = {
        s: {"uids": {"frame_of_reference": "1.9", "series": SERIES[s]}}
        for s in ("anatomical", "functional")
    }
    both = Images(images.functional, images.anatomical, shared)
    hybrid = structure_set(tmp_path / "h.dcm", rings, frame="1.9", series=SERIES["functional"])
    assert read_regions(hybrid, both)[0].space == "functional"


def test_structure_set_of_another_person_is_refused(tmp_path, images):
    rings = {"GTV": [square(z, 0, 9) for z in (0, 2, 4)]}
    path = structure_set(tmp_path / "o.dcm", rings, PatientID="someone else")
    with pytest.raises(MedfuseError, match="E_MIXED_PATIENT"):
        read_regions(path, images)


def test_odd_structures_are_said_and_names_of_persons_are_not(tmp_path, images):
    tilted = square(0, 0, 9)
    tilted[2, 2] = 5
    single = {"one": [square(0, 0, 9)]}
    with pytest.raises(MedfuseError, match="E_REGION_GEOMETRY"):
        read_regions(structure_set(tmp_path / "1.dcm", single), images)
    thick = structure_set(tmp_path / "2.dcm", single, slab=3.0)
    assert read_regions(thick, images)[0].volume_ml == pytest.approx(81 * 3 / 1000, rel=1e-3)
    with pytest.raises(MedfuseError, match="parallel planes"):
        read_regions(structure_set(tmp_path / "3.dcm", {"t": [tilted] * 2}, slab=3.0), images)
    points = structure_set(tmp_path / "4.dcm", {"iso": [square(0, 0, 9)]}, kind="POINT")
    found = read_regions(points, images)[0]
    assert (found.volume_ml, found.notes) == (0, ("open contours and points enclose nothing",))
    gap = {"ZZPHI tumor": [square(z, 0, 9) for z in (0, 2, 4, 8)]}
    found = read_regions(structure_set(tmp_path / "5.dcm", gap), images)[0]
    assert found.name == "region 1"
    assert found.notes == ("1 plane(s) between its contours are empty",)


def test_oblique_contours_have_the_area_of_their_polygon(tmp_path, images):
    turn = np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    rings = [(square(0, 0, 12) @ turn.T) + turn[:, 2] * 2.5 * k for k in range(4)]
    found = read_regions(structure_set(tmp_path / "o.dcm", {"o": rings}), images)[0]
    assert found.volume_ml == pytest.approx(144 * 10 / 1000, rel=1e-3)


def test_segmentation_of_highdicom_lies_where_its_images_lie(tmp_path):
    values = phantom((16, 14, 6))
    write_series(tmp_path / "pt", SeriesPlan(values=values, modality="PT"))
    pet = medfuse.load(tmp_path / "pt")
    masks = {name: np.zeros((6, 14, 16), bool) for name in ("tumor", "liver")}
    masks["tumor"][2:4, 3:7, 9:12] = True  # slices, rows, columns
    masks["liver"][1:5, 8:12, 2:6] = True
    path = segmentation(tmp_path / "seg.dcm", tmp_path / "pt", masks)
    found = read_regions(path, Images.of(pet, None))
    assert [(r.name, r.space) for r in found] == [("tumor", "functional"), ("liver", "functional")]
    row = measure(pet, found)["tumor"]
    inside = pet.numpy()[0][9:12, 3:7, 2:4]  # X columns, Y rows, Z slices
    assert row.voxels == 24
    assert (row.mean, row.max) == pytest.approx((inside.mean(), inside.max()))


def test_other_dicom_objects_and_folders_are_no_regions(tmp_path, images):
    write_series(tmp_path / "mr", SeriesPlan())
    with pytest.raises(MedfuseError, match="neither SEG nor RTSTRUCT"):
        read_regions(next((tmp_path / "mr").iterdir()), images)
    with pytest.raises(MedfuseError, match="folder"):
        read_regions(tmp_path, images)
    damaged = tmp_path / "rt.dcm"
    structure_set(damaged, {"GTV": [square(z, 0, 9) for z in (0, 2)]})
    damaged.write_bytes(damaged.read_bytes()[:400])
    with pytest.raises(MedfuseError):
        read_regions(damaged, images)


def test_regions_beside_the_images_are_found_where_they_belong(tmp_path):
    from medfuse.measurement.gather import files_of, found_beside
    from medfuse.settings import regions_for

    for path in (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/pet/sub-01_pet.nii.gz",
        "derivatives/seg/sub-01/anat/sub-01_dseg.nii.gz",
        "derivatives/seg/sub-01/anat/sub-01_label-GTV_mask.nii.gz",
        "derivatives/seg/sub-01/anat/sub-01_desc-x_T1w.nii.gz",
        "derivatives/seg/sub-02/anat/sub-02_dseg.nii.gz",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    (tmp_path / "dataset_description.json").write_text("{}")
    mri, pet = (
        tmp_path / "sub-01" / p for p in ("anat/sub-01_T1w.nii.gz", "pet/sub-01_pet.nii.gz")
    )
    names = [path.name for path in found_beside(mri, pet)]
    assert names == ["sub-01_dseg.nii.gz", "sub-01_label-GTV_mask.nii.gz"]
    person = tmp_path / "person"
    write_series(person / "mr", SeriesPlan())
    (person / "rt").mkdir()
    drawn = structure_set(person / "rt" / "rt.dcm", {"GTV": [square(z, 0, 9) for z in (0, 2)]})
    found = files_of(("found", "x=y.nii"), person / "mr", person / "mr")
    assert [file.path for file in found[:-1]] == [drawn]
    given = regions_for(("a=masks/{case}.nii", "found"), "c1")
    assert given == (f"a={Path('masks/c1.nii').absolute()}", "found")


def test_what_is_typed_is_read_or_refused():
    from medfuse.measurement.region import Isocontour, Sphere, Threshold

    assert Sphere.parse("liver=60,20,-15,15").centre == (60, 20, -15)
    assert Isocontour.parse("a=41%@1,2,3").seed == (1, 2, 3)
    assert Isocontour.parse("2.5").threshold == Threshold(2.5, relative=False)
    for wrong in ("x=1,2,3", "x=a,b,c,d", "1,2,nan,3"):
        with pytest.raises(UsageError):
            Sphere.parse(wrong)
    for wrong in ("", "0%", "141%", "-2", "41%@1,2"):
        with pytest.raises(UsageError):
            Isocontour.parse(wrong)
