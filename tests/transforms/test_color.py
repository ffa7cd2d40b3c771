"""Colour as MONAI transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose

import medfuse
from medfuse import transforms as mt
from tests._helpers.chain import volume


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([(5, 4), (3, 4, 2)]))
def test_rgb_survives_the_way_to_ycbcr_and_back(seed, shape):
    rgb = torch.from_numpy(np.random.default_rng(seed).random((3, *shape), np.float32))
    chain = Compose([mt.RGBToYCbCrd("x"), mt.YCbCrToRGBd("x")])
    assert torch.allclose(chain({"x": rgb})["x"].as_tensor(), rgb, atol=1e-6)


@pytest.mark.parametrize("gamut", ["fit", "clip", "desaturate"])
def test_colouring_first_gives_the_picture_that_fusing_the_scalar_gives(gamut):
    scalar, mri = volume(unit="SUVbw", modality="PET"), volume(seed=1)
    scalar *= 6
    fuse = mt.FuseLuminanced("mri", "pet", method="mean", gamut=gamut)
    d = Compose([mt.ColorizeFunctionald("pet", colormap="ember"), fuse])(
        {"pet": scalar, "mri": mri}
    )
    direct = medfuse.fuse(
        functional=scalar, anatomical=mri, method="mean", colormap="ember", gamut=gamut
    )
    assert torch.allclose(d["fused"].as_tensor(), direct.rgb.as_tensor(), atol=1e-5)


def test_colouring_with_the_default_map_first_fuses_the_same_luminance_but_not_two_ways():
    scalar, mri = volume(unit="SUVbw", modality="PET"), volume(seed=1)
    scalar *= 6
    d = Compose([mt.ColorizeFunctionald("pet"), mt.FuseLuminanced("mri", "pet", method="mean")])(
        {"pet": scalar, "mri": mri}
    )
    direct = medfuse.fuse(functional=scalar, anatomical=mri, method="mean")
    assert (d["fusion"]["gamut"], direct.gamut) == ("desaturate", "band")
    assert direct.colormap == "glow"
    assert torch.allclose(d["luminance"].as_tensor(), direct.luminance.as_tensor(), atol=1e-5)


def test_colour_transforms_keep_geometry_facts_and_history():
    image = volume(unit="SUVbw", modality="PET")
    image.applied_operations = [{"class": "Spacing"}]
    d = Compose([mt.ColorizeFunctionald("a"), mt.RGBToYCbCrd("a"), mt.YCbCrToRGBd("a")])(
        {"a": image}
    )
    assert torch.equal(d["a"].affine, image.affine)
    assert d["a"].meta["unit"] == "SUVbw"
    assert d["a"].applied_operations == [{"class": "Spacing"}]
    assert d["a"].shape == (3, 10, 12, 8)


def test_values_without_a_unit_outside_0_to_1_are_not_coloured():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 0 to 7"):
        mt.ColorizeFunctional()(np.array([[[0.0, 7.0]]], np.float32))
    coloured = mt.ColorizeFunctional("gray", window=(0, 7))(np.array([[[0.0, 7.0]]], np.float32))
    assert torch.allclose(coloured[:, 0].T, torch.tensor([[0.0] * 3, [1.0] * 3]))


@pytest.mark.parametrize(
    ("options", "message"), [({"colormap": "jet"}, "choose one of"), ({"window": (3, 3)}, "rise")]
)
def test_impossible_colours_are_refused_when_the_chain_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        mt.ColorizeFunctionald("pet", **options)
