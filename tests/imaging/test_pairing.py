"""Two images against the roles that they were given: contradictions, one image twice, persons."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medfuse
from medfuse.errors import MedfuseError, SeriesError, UsageError
from medfuse.imaging.pairing import doubts, require_pair
from tests._helpers.make import SeriesPlan, write_series

SHAPE = (24, 20, 16)
AFFINE = np.array([[2.0, 0, 0, -20], [0, 2.5, 0, -24], [0, 0, 3.0, -30], [0, 0, 0, 1]])


def image(seed: int = 0, shape=SHAPE) -> np.ndarray:
    """Smooth structure of its own for every seed."""
    noise = np.random.default_rng(seed).random(shape)
    spectrum = np.fft.fftn(noise)
    axes = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    smooth = np.fft.ifftn(spectrum * np.exp(-60 * sum(a**2 for a in axes))).real
    return (1000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def save(path: Path, values: np.ndarray, affine=AFFINE, **sidecar: str) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    if sidecar:
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(sidecar))
    return path


def as_int16(values, affine):
    return np.round(values * 20).astype(np.int16), affine


def as_uint8(values, affine):
    return np.round(values / values.max() * 255).astype(np.uint8), affine


def flipped(values, affine):
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = len(values) - 1
    return values[::-1].copy(), affine @ turn


def permuted(values, affine):
    order = np.eye(4)[[2, 0, 1, 3]]
    return values.transpose(1, 2, 0).copy(), affine @ order


def cropped(values, affine):
    shift = np.eye(4)
    shift[:3, 3] = (3, 4, 2)
    return values[3:-2, 4:, 2:-3].copy(), affine @ shift


def padded(values, affine):
    shift = np.eye(4)
    shift[:3, 3] = -5
    return np.pad(values, 5), affine @ shift


def moved(values, affine):
    away = affine.copy()
    away[:3, 3] += (7.3, -11.1, 40.0)
    return values, away


def one_voxel_edited(values, affine):
    other = values.copy()
    other[3, 4, 5] += 100
    return other, affine


COPIES = {
    "as it is": lambda v, a: (v, a),
    "float64": lambda v, a: (v.astype(np.float64), a),
    "scaled": lambda v, a: (v * 3.7 + 5, a),
    **{f.__name__: f for f in (as_int16, as_uint8, flipped, permuted, cropped, padded, moved)},
    "one voxel edited": one_voxel_edited,
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_image_in_two_files_is_refused(tmp_path, copy, suffix):
    one = save(tmp_path / "one.nii.gz", image())
    other = save(tmp_path / f"other{suffix}", *COPIES[copy](image(), AFFINE))
    with pytest.raises(UsageError, match="E_SAME_IMAGE") as caught:
        require_pair(medfuse.load(one), medfuse.load(other))
    assert "one.nii.gz and other" in str(caught.value)
    assert "accept_pair=same-image" in str(caught.value)
    found = require_pair(medfuse.load(one), medfuse.load(other), accept_pair="same-image")
    assert [doubt.kind for doubt in found] == ["same-image"]


def test_a_series_and_its_nifti_are_one_image(tmp_path):
    values = image(shape=(16, 12, 9)).astype(np.int16)
    write_series(tmp_path / "mr", SeriesPlan(values=values))
    loaded = medfuse.load(tmp_path / "mr")
    again = save(tmp_path / "x.nii.gz", *flipped(np.asarray(loaded)[0], loaded.affine.numpy()))
    with pytest.raises(UsageError, match="E_SAME_IMAGE"):
        require_pair(loaded, medfuse.load(again, modality="PET"))


def test_two_frames_of_one_series_are_one_image(tmp_path):
    for frame in range(2):
        write_series(
            tmp_path / f"pet{frame}",
            SeriesPlan(values=image(frame, (16, 12, 9)).astype(np.int16), modality="PT"),
        )
    pair = [medfuse.load(tmp_path / f"pet{frame}") for frame in range(2)]
    with pytest.raises(UsageError, match="same DICOM series"):
        require_pair(*pair)


def test_other_images_are_not_one(tmp_path):
    one = medfuse.load(save(tmp_path / "a.nii.gz", image(0)))
    noisy = image(0) + 30 * np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    for values in (image(1), noisy, 1000 - image(1)):
        assert require_pair(one, medfuse.load(save(tmp_path / "b.nii.gz", values))) == ()


def dicom(folder: Path, modality: str, seed: int, patient: str = "1") -> Path:
    values = image(seed, (16, 12, 9)).astype(np.int16)
    uid = f"1.2.826.0.1.3680043.8.498.{seed + 10}"
    plan = SeriesPlan(values=values, modality=modality, patient=patient, series_uid=uid)
    write_series(folder, plan)
    return folder


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (("PT", "MR"), "the anatomical image is PET by its DICOM header"),
        (("PT", "CT"), "PET"),
        (("MR", "MR"), "the functional image is MRI by its DICOM header"),
        (("CT", "MR"), "the functional image is MRI"),
        (("PT", "PT"), "the anatomical image is PET"),
        (("CT", "CT"), "both images are CT"),
    ],
)
def test_headers_that_contradict_the_roles_are_refused(tmp_path, kinds, says):
    pair = [
        medfuse.load(dicom(tmp_path / f"{k}", kind, k, patient="1")) for k, kind in enumerate(kinds)
    ]
    with pytest.raises(UsageError, match="E_ROLES") as caught:
        require_pair(*pair)
    assert says in str(caught.value)
    assert [d.kind for d in require_pair(*pair, accept_pair="roles")] == ["roles"]


@pytest.mark.parametrize("kinds", [("MR", "PT"), ("CT", "PT"), ("MR", "CT")])
def test_pairs_as_they_should_be_pass(tmp_path, kinds):
    pair = [medfuse.load(dicom(tmp_path / f"{k}", kind, k)) for k, kind in enumerate(kinds)]
    assert require_pair(*pair) == ()


def test_a_statement_does_not_silence_a_header(tmp_path):
    """``--mri pet/ --pet mri/`` is the same slip as the wrong order."""
    mri = medfuse.load(dicom(tmp_path / "mr", "MR", 1), modality="PET")
    pet = medfuse.load(dicom(tmp_path / "pt", "PT", 2), modality="MRI")
    with pytest.raises(UsageError, match="E_ROLES"):
        require_pair(pet, mri)


NIFTI = {
    # anatomical, functional: (file name, sidecar, stated) -> refused, doubted or fine
    "names in the other order": (("p_pet", {}, None), ("p_t1w", {}, None), "refused"),
    "and stated by flags": (("p_pet", {}, "MRI"), ("p_t1w", {}, "PET"), "refused"),
    "BIDS names": (("sub-1_pet", {}, None), ("sub-1_T1w", {}, None), "refused"),
    "one BIDS name": (("sub-1_T1w", {}, None), ("sub-1_FLAIR", {}, None), "refused"),
    "a sidecar": (("a", {"Modality": "PT"}, None), ("b", {}, None), "refused"),
    "a sidecar against a name": (("x_t1", {"Modality": "PT"}, None), ("b", {}, None), "refused"),
    "a statement": (("a", {}, "PET"), ("b", {}, None), "refused"),
    "a SPECT": (("a_spect", {}, "SPECT"), ("b", {}, None), "refused"),
    "a functional MRI, stated": (("a", {}, None), ("b", {}, "MRI"), "refused"),
    "one name": (("x_pet", {}, None), ("b", {}, None), "doubted"),
    "both names MRI": (("x_t1", {}, None), ("x_flair", {}, None), "doubted"),
    "one name, put right": (("x_pet", {}, "MRI"), ("b", {}, "PET"), "fine"),
    "right": (("x_t1", {}, None), ("x_pet", {}, None), "fine"),
    "names that say nothing": (("a", {}, None), ("b", {}, None), "fine"),
    "a name that says two things": (("pet_on_mri", {}, None), ("b", {}, None), "fine"),
}


@pytest.mark.parametrize("case", NIFTI)
def test_what_nifti_files_say_of_themselves(tmp_path, case):
    *files, expected = NIFTI[case]
    pair = []
    for seed, (name, sidecar, stated) in enumerate(files):
        path = save(tmp_path / f"{name}.nii.gz", image(seed), **sidecar)
        pair.append(medfuse.load(path, modality=stated))
    if expected == "refused":
        with pytest.raises(UsageError, match="E_ROLES"):
            require_pair(*pair)
    else:
        found = require_pair(*pair)
        assert [d.is_sure for d in found] == ([False] if expected == "doubted" else [])


def test_two_patients_are_refused_without_their_names(tmp_path):
    pair = [
        medfuse.load(dicom(tmp_path / kind, kind, seed, patient=f"ZZPHI{seed}"))
        for seed, kind in enumerate(("MR", "PT"))
    ]
    with pytest.raises(SeriesError, match="E_MIXED_PATIENT") as caught:
        require_pair(*pair)
    assert "ZZPHI" not in str(caught.value)
    assert [d.kind for d in require_pair(*pair, allow_patient_mismatch=True)] == ["patients"]


def test_two_subjects_of_a_bids_data_set_are_refused(tmp_path):
    one = medfuse.load(save(tmp_path / "sub-01_ses-1_T1w.nii.gz", image(0)))
    other = medfuse.load(save(tmp_path / "sub-02_ses-1_pet.nii.gz", image(1)))
    same = medfuse.load(save(tmp_path / "sub-01_ses-2_pet.nii.gz", image(1)))
    with pytest.raises(SeriesError, match="sub-01 and sub-02"):
        require_pair(one, other)
    assert require_pair(one, same) == ()


def test_arrays_without_facts_are_not_doubted():
    x = np.zeros((1, 8, 8, 8), np.float32)
    assert doubts(x, x) == ()


def test_a_refusal_is_a_line_of_medfuse(tmp_path):
    one = medfuse.load(save(tmp_path / "x_pet.nii.gz", image(0)))
    other = medfuse.load(save(tmp_path / "x_t1.nii.gz", image(1)))
    with pytest.raises(MedfuseError) as caught:
        require_pair(one, other)
    assert "\n" not in str(caught.value)
    assert "x_pet.nii.gz and x_t1.nii.gz" in str(caught.value)
