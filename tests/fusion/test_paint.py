"""The picture in 8 bits: what files hold is what was made, and both images come back from it."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

import medfuse
from medfuse.imaging.windows import apply_window, default_window
from medfuse.kernel.color import luma, rgb_to_ycbcr
from medfuse.kernel.two_way import paint_two_way
from medfuse.kernel.two_way_maps import MAPS
from medfuse.kernel.two_way_reading import take_apart
from medfuse.methods.base import MethodInfo

ENOUGH = 0.1  # of the window; below it colours are all but grey


class Constant:
    """A guide that always asks for the same weight."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    @property
    def info(self) -> MethodInfo:
        return MethodInfo("constant", "for tests", "rule")

    def weights(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.full_like(b, self.weight)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand((2, 1, 48, 40, 3), generator=torch.Generator().manual_seed(8)).unbind(0)


@pytest.mark.parametrize("colormap", ["glow", "glow-safe", "bone"])
@pytest.mark.parametrize("bias", [-1.0, -0.3, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("mode", ["slices", "volume"])
def test_two_way_pictures_hold_whole_levels_next_to_the_exact_colour(colormap, bias, mode):
    uptake, anatomy = pair()
    found = medfuse.fuse(
        functional=uptake, anatomical=anatomy, colormap=colormap, bias=bias, mode=mode, audit=False
    )
    assert found.gamut == "band"
    assert torch.equal(found.rgb, (found.rgb * 255).round() / 255)
    exact, _ = paint_two_way(uptake[None], found.luminance[None], colormap, bias=bias)
    assert (found.rgb - exact[0]).abs().max() < 1.001 / 255
    stored = (found.rgb * 255).round().to(torch.uint8)  # as every writer of pictures has it
    apart, again = (take_apart(x[None], colormap, bias=bias, most_foreign=1.0)
                    for x in (found.rgb, stored))  # fmt: skip
    assert torch.equal(apart.uptake, again.uptake)
    assert torch.equal(apart.anatomy, again.anatomy)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_the_band_holds_the_fused_luminance_of_any_guide(weight):
    uptake, anatomy = pair()
    found = medfuse.fuse(
        functional=uptake, anatomical=anatomy, method=Constant(weight), colormap="glow", audit=False
    )
    apart = take_apart(found.rgb[None], "glow")
    assert (apart.anatomy[0] - found.luminance.clamp(0, 1)).abs().quantile(0.95) < 0.005
    assert (apart.uptake[0] - uptake).abs()[uptake > ENOUGH].quantile(0.95) < 0.005


def test_what_leaves_black_or_white_is_cut_and_recorded():
    uptake, anatomy = pair()
    found = medfuse.fuse(functional=uptake, anatomical=anatomy, method="local-energy")
    beyond = (found.luminance - found.luminance.clamp(0, 1)).abs()
    assert beyond.max() > 0
    assert torch.allclose(found.gamut_change, beyond, atol=1e-6)


@pytest.mark.parametrize("colormap", ["hot", "viridis"])
def test_desaturation_keeps_luminance_and_hue_and_records_what_it_took(colormap):
    uptake, anatomy = pair()
    found = medfuse.fuse(
        functional=uptake, anatomical=anatomy, method="mean", colormap=colormap, audit=False
    )
    assert found.gamut == "desaturate"
    assert torch.allclose(luma(found.rgb[None])[0], found.luminance.clamp(0, 1), atol=1e-5)
    free = medfuse.fuse(
        functional=uptake, anatomical=uptake, weights=torch.zeros_like(uptake), method="mean",
        colormap=colormap, gamut="clip", audit=False,
    ).rgb  # fmt: skip
    before, after = (rgb_to_ycbcr(x[None])[0, 1:] - 0.5 for x in (free, found.rgb))
    kept = 1 - found.gamut_change
    assert 0 <= kept.min() < 0.9 < kept.max() <= 1
    assert torch.allclose(after, kept * before, atol=1e-4)


CASES = {
    "brain": ("simulated-brain/t1.nii.gz", "simulated-brain/simulated-pet.nii.gz"),
    "thigh": ("sts001-aligned/ct.nii.gz", "sts001-aligned/pet-suv-dicom"),
    "sarcoma": ("sts001-aligned/mr-t1.nii.gz", "sts001-aligned/pet-suv-dicom"),
}


@pytest.mark.parametrize("colormap", ["glow", "glow-safe"])
@pytest.mark.parametrize("case", CASES)
def test_both_images_come_back_from_slices_of_the_sample_study(sample_data, case, colormap):
    mri, pet = (medfuse.load(sample_data / "study" / name) for name in CASES[case])
    pet = medfuse.register(fixed=mri, moving=pet, method="identity").resample(pet)
    windows = [default_window(image) for image in (pet, mri)]
    hottest = int(pet.as_tensor()[0].sum((0, 1)).argmax())
    uptake, anatomy = (
        torch.as_tensor(apply_window(image.as_tensor()[..., hottest - 2 : hottest + 3], window))
        for image, window in zip((pet, mri), windows, strict=True)
    )
    found = medfuse.fuse(functional=uptake, anatomical=anatomy, colormap=colormap)
    assert (found.method.name, found.gamut) == ("anatomical-luma", "band")
    apart = take_apart((found.rgb * 255).round().to(torch.uint8)[None], colormap)
    warm = uptake > ENOUGH
    assert warm.sum() > 500
    assert (apart.uptake[0] - uptake).abs()[warm].quantile(0.95) <= 0.005
    assert (apart.anatomy[0] - anatomy).abs().quantile(0.95) <= 0.005
    assert found.audit["read_back"].verdict == found.audit["anatomy_back"].verdict == "pass"
    assert found.audit["anatomy_back"].value <= 0.005


@pytest.mark.parametrize("name", MAPS)
def test_every_two_way_map_has_an_uptake_that_is_drawn_grey(name: str) -> None:
    uptake = torch.full((1, 1, 8), MAPS[name].neutral)
    rgb, _ = paint_two_way(uptake, torch.linspace(0, 1, 8).view(1, 1, 8), name)
    assert float((rgb.amax(1) - rgb.amin(1)).max()) < 1e-3


def test_a_ct_leaves_the_mri_grey_where_it_was_not_measured() -> None:
    affine = torch.eye(4, dtype=torch.float64)
    mri = MetaTensor(100 * torch.rand(1, 40, 40, 4), affine=affine, meta={"modality": "MRI"})
    mri.meta["unit"] = "a.u."
    ct = MetaTensor(1500 * torch.rand(1, 16, 40, 4) - 1000, affine=affine)
    ct.meta.update(modality="CT", unit="HU", notes=[])
    moved = medfuse.register(fixed=mri, moving=ct, method="identity").resample(ct)
    result = medfuse.fuse(functional=moved, anatomical=mri, colormap="bone")
    outside = ~result.coverage[0]
    rgb = result.rgb[:, outside]
    assert outside.any()
    assert float((rgb.amax(0) - rgb.amin(0)).max()) <= 1 / 255 + 1e-6
