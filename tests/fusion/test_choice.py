"""What is chosen where nothing is said: colour map, gamut policy and method, and what is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import medfuse
from medfuse.case.pipeline import CaseSettings
from medfuse.fusion.choice import AUTO, CANDIDATES, choose_gamut, choose_method
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.two_way_maps import MAPS
from medfuse.methods.registry import get_method
from medfuse.settings import DEFAULT_METHOD

UNITS = {"PET": "SUVbw", "SPECT": "counts", "CT": "HU", "MRI": "a.u."}


def image(modality: str | None, *, channels: int = 1, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).random((channels, 20, 18, 4), np.float32)
    if modality is None:
        return torch.from_numpy(values)
    meta = {"modality": modality}
    if channels == 1:
        values = values * 400 - 160 if modality == "CT" else values * 6
        meta["unit"] = UNITS[modality]
    return MetaTensor(torch.from_numpy(values), affine=torch.eye(4), meta=meta)


@pytest.mark.parametrize(
    ("modality", "channels", "anatomical", "expected"),
    [
        ("PET", 1, "MRI", ("anatomical-luma", "glow", "band")),
        ("PET", 1, "CT", ("anatomical-luma", "glow", "band")),
        ("SPECT", 1, "MRI", ("anatomical-luma", "glow", "band")),
        (None, 1, None, ("anatomical-luma", "glow", "band")),
        ("CT", 1, "MRI", ("volume-ct", "bone", "band")),
        ("CT", 1, None, ("local-energy", "gray", "desaturate")),
        ("PET", 3, "MRI", ("descent-pet", None, "desaturate")),
        ("SPECT", 3, "MRI", ("descent-spect", None, "desaturate")),
        (None, 3, None, ("swift-msrs", None, "desaturate")),
    ],
)
def test_defaults_go_by_modality_and_by_what_the_picture_can_tell(
    modality, channels, anatomical, expected
):
    found = medfuse.fuse(
        functional=image(modality, channels=channels), anatomical=image(anatomical, seed=1)
    )
    method, colormap, gamut = expected
    assert found.method.name == get_method(method).info.name
    assert (found.colormap, found.gamut) == (colormap, gamut)
    assert len(found.chosen) > 30


def test_another_window_of_a_ct_is_shown_in_grey():
    """The stops of the map for bone lie at tissues in one window alone."""
    case = {"functional": image("CT"), "anatomical": image("MRI", seed=1)}
    assert medfuse.fuse(**case, window=(-160, 240)).colormap == "bone"
    found = medfuse.fuse(**case, window=(-500, 1500))
    assert (found.colormap, found.gamut) == ("gray", "desaturate")


@pytest.mark.parametrize(
    ("colormap", "gamut"),
    [
        *((name, "band") for name in MAPS),
        *((name, "fit") for name in ("ember", "dusk", "amber")),
        *((name, "desaturate") for name in ("hot", "viridis", "gray")),
        (None, "desaturate"),
    ],
)
def test_the_policy_follows_the_map_unless_it_is_named(colormap, gamut):
    assert choose_gamut(None, colormap) == gamut
    for named in ("fit", "clip", "desaturate"):
        assert choose_gamut(named, colormap) == named


@pytest.mark.parametrize("colormap", [None, *(name for name in COLORMAPS if name not in MAPS)])
def test_no_other_map_leaves_a_band(colormap):
    with pytest.raises(ValueError, match="glow, glow-safe, bone"):
        choose_gamut("band", colormap)


@pytest.mark.parametrize("modality", ["PET", "SPECT", "CT"])
@pytest.mark.parametrize(("colormap", "gamut"), [("ember", "fit"), ("hot", "clip"), (None, "fit")])
def test_where_brightness_must_tell_both_the_guide_is_that_of_the_pair(modality, colormap, gamut):
    expected = {"PET": "volume-pet", "SPECT": "descent-spect", "CT": "local-energy"}[modality]
    if colormap is None and modality == "PET":
        expected = "descent-pet"
    choice = choose_method(modality, colormap, gamut)
    assert choice.name == expected
    assert choice.why


def test_every_choice_is_among_those_on_which_a_result_depends():
    found = {
        choose_method(modality, colormap, choose_gamut(None, colormap)).name
        for modality in ("PET", "SPECT", "CT", "MRI", "unknown")
        for colormap in (None, *COLORMAPS)
    }
    assert found <= set(CANDIDATES)
    assert all(get_method(name) for name in CANDIDATES)


def test_auto_is_the_default_everywhere_and_a_named_method_is_no_choice():
    assert CaseSettings().method == DEFAULT_METHOD == AUTO
    case = {"functional": image("PET"), "anatomical": image("MRI", seed=1)}
    chosen = medfuse.fuse(**case)
    named = medfuse.fuse(**case, method="anatomical-luma")
    assert torch.equal(chosen.rgb, named.rgb)
    assert named.chosen == ""
