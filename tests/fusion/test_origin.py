"""Fusion against what its images say of themselves: no pair, or changed values."""

from __future__ import annotations

import pytest
from monai.transforms import NormalizeIntensity, ScaleIntensityRange

import medfuse
from medfuse.errors import UnitError, UsageError
from medfuse.transforms import AuditFusiond, FuseLuminanced, RegisterRigidd, ToSUVd


@pytest.fixture(scope="module")
def pair(sample_data):
    folder = sample_data / "study" / "sts001-aligned"
    ct, pet = medfuse.load(folder / "ct.nii.gz"), medfuse.load(folder / "pet-suv-dicom")
    found = medfuse.register(fixed=ct, moving=pet, method="identity")
    return {"ct": ct, "pet": pet, "on_grid": found.resample(pet)}


def fuse(functional, anatomical, **options):
    return medfuse.fuse(functional=functional, anatomical=anatomical, method="mean", **options)


def test_a_sound_pair_has_no_check_of_its_origin(pair):
    audit = fuse(pair["on_grid"], pair["ct"]).audit
    assert {check.id for check in audit.checks}.isdisjoint({"pair", "values"})


def test_exchanged_images_are_refused_until_that_is_stated(pair):
    with pytest.raises(UsageError, match="E_ROLES"):
        fuse(pair["ct"], pair["on_grid"])
    audit = fuse(pair["ct"], pair["on_grid"], accept_pair="roles").audit
    assert audit["pair"].verdict == "look"
    assert "The user stated that this is meant" in audit["pair"].text


def test_one_image_twice_is_refused_until_that_is_stated(pair):
    with pytest.raises(UsageError, match="E_SAME_IMAGE"):
        fuse(pair["ct"], pair["ct"], accept_pair="roles")
    assert fuse(pair["ct"], pair["ct"], accept_pair="same-image").audit["pair"].verdict == "look"


@pytest.mark.parametrize("role", ["functional", "anatomical"])
def test_scaled_values_get_a_window_of_their_own_and_a_look(pair, role):
    step = ScaleIntensityRange(0, 10, 0, 1, clip=True)
    if role == "anatomical":
        step = ScaleIntensityRange(-1000, 1000, 0, 1, clip=True)
    images = {"functional": pair["on_grid"], "anatomical": pair["ct"]}
    result = fuse(**{**images, role: step(images[role])})
    window = result.window if role == "functional" else result.anatomical_window
    assert window.unit == "a.u."
    assert window.high <= 1.0
    assert result.audit["values"].verdict == "look"
    assert f"Of the {role} image" in result.audit["values"].text


def test_a_scaled_ct_is_registered_by_its_values(pair):
    scaled = ScaleIntensityRange(-1000, 1000, 0, 1, clip=True)(pair["ct"])
    found = medfuse.register(fixed=scaled, moving=pair["pet"], method="identity")
    assert found.overlap > 0.1  # in HU the whole of it would be body


def test_a_scaled_mri_is_ordinary(sample_data):
    folder = sample_data / "study" / "sts001-aligned"
    mri, ct = medfuse.load(folder / "mr-t1.nii.gz"), medfuse.load(folder / "ct.nii.gz")
    on_grid = medfuse.register(fixed=mri, moving=ct, method="identity").resample(ct)
    assert "values" not in {c.id for c in fuse(on_grid, NormalizeIntensity()(mri)).audit.checks}


def test_the_chain_carries_what_was_noticed(pair):
    data = {"ct": pair["ct"], "pet": pair["pet"] / 10}
    data = RegisterRigidd("pet", "ct", method="identity")(data)
    data = AuditFusiond()(FuseLuminanced("ct", "pet", method="mean")(data))
    assert data["pet"].meta["unit"] == "a.u."
    assert data["fusion"]["window"]["unit"] == "a.u."
    assert data["audit"]["verdict"] == "look"


def test_scaled_values_do_not_pass_as_suv(pair):
    assert ToSUVd("pet")(dict(pair))["pet"] is pair["pet"]
    with pytest.raises(UnitError, match="changed after reading"):
        ToSUVd("pet")({"pet": pair["pet"] / 10})


def test_transforms_refuse_a_pair_that_is_none(pair):
    for step in (
        RegisterRigidd("ct", "pet", method="identity"),
        FuseLuminanced("on_grid", "ct", method="mean"),
    ):
        with pytest.raises(UsageError, match="E_ROLES"):
            step(dict(pair))
    step = FuseLuminanced("on_grid", "ct", method="mean", accept_pair="roles")
    assert step(dict(pair))["fusion"]["audit"]["verdict"] == "look"
