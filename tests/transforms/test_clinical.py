"""Units and registration as MONAI transforms, and the way back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, SpatialCropd

import medfuse
from medfuse import transforms as mt
from medfuse.errors import SuvUnavailable
from tests._helpers.chain import volume


def test_to_suv_lets_suv_pass_untouched():
    pet = volume(unit="SUVbw", modality="PET")
    assert mt.ToSUVd("pet")({"pet": pet})["pet"] is pet


def test_to_suv_names_what_the_header_lacks():
    pet = volume(
        unit="Bq/ml", suv={"refusal": "PatientWeight (0010,1030) is missing"}, source={"name": "p"}
    )
    with pytest.raises(SuvUnavailable, match=r"PatientWeight \(0010,1030\) is missing"):
        mt.ToSUV()(pet)
    with pytest.raises(SuvUnavailable, match=r"in counts .* no DICOM header"):
        mt.ToSUV()(volume(unit="counts"))


def test_a_mask_drawn_in_fused_space_comes_back_to_the_functional_grid(sample_data, tmp_path):
    """Known motion (7, -5, 11 degrees; 9, -14, 21 mm); the mask is a ball in the PET's world."""
    study = sample_data / "study" / "simulated-brain"
    truth = json.loads((sample_data / "truth" / "simulated-brain.json").read_text())
    pet_from_t1 = np.array(truth["moving_from_fixed_ras_mm"])
    np.savetxt(tmp_path / "start.txt", pet_from_t1)
    register = mt.RegisterRigidd("pet", key_dst="mri", method="identity")
    pet = medfuse.load(study / "simulated-pet.nii.gz")
    centre = np.array([-30.0, 26.0, 20.0])  # of the hot lesion, in the T1's world
    d = register(
        {
            "mri": medfuse.load(study / "t1.nii.gz", modality="MRI"),
            "pet": pet,
            "initial": tmp_path / "start.txt",
        }
    )
    d["mask"] = ball_in(d["pet"], centre, radius_mm=12.0)
    back = Invertd("mask", transform=register, orig_keys="pet")(d)["mask"]
    assert back.shape == pet.shape
    assert torch.allclose(back.affine, pet.affine)
    expected = ball_in(pet, (pet_from_t1 @ [*centre, 1])[:3], radius_mm=12.0)
    assert dice(back, expected) > 0.95
    assert set(back.unique().tolist()) == {0.0, 1.0}


def ball_in(image: MetaTensor, centre: np.ndarray, *, radius_mm: float) -> MetaTensor:
    index = np.stack(np.meshgrid(*map(np.arange, image.shape[1:]), indexing="ij"), axis=-1)
    affine = np.asarray(image.affine)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(world - centre, axis=-1) <= radius_mm
    return MetaTensor(torch.from_numpy(inside[None].astype(np.float32)), affine=image.affine)


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a.as_tensor() * b.as_tensor()).sum() / (a.sum() + b.sum()))


def test_labels_follow_the_image_without_being_blurred():
    pet, mri = (
        volume(modality="PET"),
        volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1, modality="MRI"),
    )
    label = MetaTensor((pet.as_tensor() > 0.5).float(), affine=pet.affine)
    d = mt.RegisterRigidd(["pet", "label"], "mri", mode=["bilinear", "nearest"], method="identity")(
        {"pet": pet, "label": label, "mri": mri}
    )
    assert d["label"].shape == d["pet"].shape == (1, 20, 20, 20)
    assert set(d["label"].unique().tolist()) == {0.0, 1.0}


def test_history_before_registration_can_be_undone_after_it():
    pet, mri = (
        volume(modality="PET"),
        volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1, modality="MRI"),
    )
    both = Compose(
        [
            SpatialCropd("pet", roi_start=[2, 3, 1], roi_end=[9, 11, 7]),
            mt.RegisterRigidd("pet", key_dst="mri", method="identity", accept_suspect=True),
        ]
    )
    d = both({"pet": pet, "mri": mri})
    assert [step["class"] for step in d["pet"].applied_operations] == [
        "SpatialCrop",
        "RegisterRigidd",
    ]
    back = both.inverse(d)
    assert back["pet"].shape == pet.shape
    assert torch.allclose(back["pet"].affine, pet.affine)
    assert back["pet"].applied_operations == []
