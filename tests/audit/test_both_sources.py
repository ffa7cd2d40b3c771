"""A picture from which a source is gone is no pass; an edge of its own is shown at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

import medfuse
from medfuse.audit import Audit, Check
from medfuse.audit.both_sources import FAINT, GONE, judged_by_colour
from medfuse.kernel.sources import FLAGGED


def textured(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images with signal everywhere and fine detail of their own."""
    noise = torch.rand((2, 1, *shape), generator=torch.Generator().manual_seed(2))
    return (0.35 + 0.5 * noise).unbind(0)


def audit_of(a: Any, b: Any, **options: Any) -> Audit:
    audit = medfuse.fuse(functional=a, anatomical=b, **options).audit
    assert audit is not None
    return audit


def ids(audit: Audit) -> set[str]:
    return {check.id for check in audit.checks}


@pytest.mark.parametrize("colormap", ["gray", "hot"])
@pytest.mark.parametrize(("weight", "lost"), [(1.0, "functional"), (0.0, "anatomical")])
def test_a_pasted_source_is_no_pass(colormap, weight, lost):
    a, b = textured(64, 56)
    pasted = {"weights": torch.full_like(b, weight), "method": "mean", "colormap": colormap}
    audit = audit_of(a, b, **pasted, gamut="clip")
    check = audit["detail"]
    assert check.verdict == audit.verdict == "fail"
    assert check.value == check.details[f"kept_{lost}"] < GONE
    assert f"here the {lost} one" in check.text


def test_the_anatomy_that_is_gone_is_told_by_no_colour():
    a, b = textured(64, 56)
    for colormap in ("glow", "ember"):
        audit = audit_of(a, b, method="mean", colormap=colormap, weights=torch.zeros_like(b))
        assert audit["read_back"].verdict == "pass"
        assert audit["detail"].verdict == "fail"


def test_the_uptake_that_is_read_from_the_colour_need_not_show_in_the_brightness():
    a, b = textured(64, 56)
    check = audit_of(a, b)["detail"]
    assert check.value < GONE
    assert check.verdict == "pass"
    assert check.details["by_colour"]
    assert "read back" in check.text
    assert "here the" not in check.text


@pytest.mark.parametrize(
    ("weight", "verdict"),
    [(0.05, "fail"), (0.2, "look"), (0.3, "pass"), (0.5, "pass"), (0.7, "pass"), (0.95, "fail")],
)
def test_the_limits_are_those_of_the_weaker_source(weight, verdict):
    a, b = textured(64, 56)
    check = audit_of(a, b, method="mean", colormap="gray", weights=torch.full_like(b, weight))[
        "detail"
    ]
    assert check.verdict == verdict
    assert check.value == pytest.approx(min(weight, 1 - weight), abs=0.01)
    assert check.threshold == FAINT


@pytest.mark.parametrize("method", ["mean", "local-energy", "both-ct"])
def test_guides_that_keep_both_pass(method):
    a, b = textured(64, 56)
    assert audit_of(a, b, method=method, colormap="gray")["detail"].verdict == "pass"


def test_slices_weigh_by_the_places_that_they_have():
    """Half of a slice has signal, the other slice all: a third and two thirds of the places."""
    a, b = textured(64, 56, 2)
    a[:, :32, :, 0] = 0
    weights = torch.full_like(b, 0.4)
    weights[..., 1] = 0.7
    check = audit_of(a, b, method="mean", mode="slices", colormap="gray", weights=weights)["detail"]
    assert check.details["places"] == 3 * 32 * 56
    assert check.details["kept_anatomical"] == pytest.approx((0.4 + 2 * 0.7) / 3, abs=0.02)


def test_what_was_not_measured_is_not_judged():
    a, b = textured(40, 36, 3)
    a, b = (MetaTensor(x, affine=torch.eye(4)) for x in (a, b))
    a.meta["field_of_view"] = {
        "shape": [20, 36, 3], "affine": np.eye(4).tolist(), "moving_from_fixed": np.eye(4).tolist(),
    }  # fmt: skip
    check = audit_of(a, b, method="mean", colormap="gray")["detail"]
    assert check.details["places"] == 20 * 36 * 3
    assert check.verdict == "pass"


@pytest.mark.parametrize("shape", [(12, 20), (9, 9, 4)])
def test_pictures_smaller_than_the_windows_are_not_called_out(shape):
    a, b = textured(*shape)
    audit = audit_of(a, b, method="mean", colormap="gray")
    assert audit["contradiction"].verdict == "pass"
    assert audit["contradiction"].value == 0


def test_sources_without_signal_in_common_have_no_detail_check():
    a, b = textured(64, 56)
    a[:, :32], b[:, 32:] = 0, 0
    assert "detail" not in ids(audit_of(a, b, method="mean", colormap="gray"))
    assert "detail" not in ids(audit_of(torch.zeros_like(b), b, method="mean", colormap="gray"))


def test_a_check_that_the_colour_excuses_keeps_its_numbers():
    check = Check(
        "detail", "t", 0.02, "u", FAINT, "fail", "Keeps 2 %. Below 25 % it is gone: here.",
        {"kept_functional": 0.02, "kept_anatomical": 0.9},
    )  # fmt: skip
    assert judged_by_colour(check, uptake_is_read=False) is check
    excused = judged_by_colour(check, uptake_is_read=True)
    assert (excused.value, excused.verdict) == (0.02, "pass")
    assert excused.text.startswith("Keeps 2 %. The functional image is shown by the color")
    other = Check(**{**vars(check), "details": {"kept_functional": 0.9, "kept_anatomical": 0.02}})
    assert judged_by_colour(other, uptake_is_read=True) is other


def cyst() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A place in slice 3, flat and dark in A, flat and bright in B, in which the weight turns."""
    a, b = textured(96, 80, 5)
    a[:, 40:80, 20:60, 3], b[:, 40:80, 20:60, 3] = 0.1, 0.9
    weights = torch.full_like(b, 0.5)
    weights[:, 40:60, 20:60, 3], weights[:, 60:80, 20:60, 3] = 0.0, 1.0
    return a, b, weights


def test_a_fluid_level_that_neither_source_has_is_shown_at_its_place():
    a, b, weights = cyst()
    affine = torch.diag(torch.tensor([-2.0, -2.0, 3.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([100.0, 90.0, -40.0])
    a, b = (MetaTensor(x, affine=affine) for x in (a, b))
    audit = audit_of(a, b, method="max", weights=weights, colormap="gray", mode="slices")
    check = audit["contradiction"]
    assert check.verdict == "look"
    assert audit.verdict != "pass"
    assert check.value >= FLAGGED
    assert check.details["flagged_slices"] == 1
    there = torch.tensor([60.0, 40.0, 3.0, 1.0], dtype=torch.float64)
    right, anterior, superior = check.details["position_ras_mm"]
    expected = (affine @ there)[:3].tolist()
    assert (right, anterior) == pytest.approx(expected[:2], abs=4)
    assert superior == expected[2]
    assert f"slice {check.details['slice_row_column'][0]}, row" in check.text
    assert "RAS" in check.text


def test_the_same_place_under_one_weight_is_no_contradiction():
    a, b, _ = cyst()
    for weight in (0.0, 0.5, 1.0):
        weights = torch.full_like(b, weight)
        check = audit_of(a, b, method="max", weights=weights, colormap="gray")["contradiction"]
        assert check.verdict == "pass"
        assert "slice_row_column" not in check.details


def test_without_geometry_the_place_is_told_by_index():
    a, b, weights = cyst()
    check = audit_of(a, b, method="max", weights=weights, colormap="gray")["contradiction"]
    place, row, column = check.details["slice_row_column"]
    assert place == 3
    assert abs(row - 60) <= 4 or abs(column - 60) <= 4
    assert "position_ras_mm" not in check.details
    assert "RAS" not in check.text


def test_the_place_is_in_the_larger_of_two_and_not_between_them():
    a, b, weights = (x[..., 3] for x in cyst())
    a[:, 5:25, 2:22], b[:, 5:25, 2:22] = 0.1, 0.9  # smaller, at the other end
    weights[:, 5:15, 2:22], weights[:, 15:25, 2:22] = 0.0, 1.0
    check = audit_of(a, b, method="max", weights=weights, colormap="gray")["contradiction"]
    _, row, column = check.details["slice_row_column"]
    assert abs(row - 60) <= 4
    assert abs(column - 40) <= 4


def atlas_pair(shared_data: Path) -> list[torch.Tensor]:
    folder = shared_data / "harvard" / "CT-MRI" / "test"
    paths = [folder / kind / "41011.png" for kind in ("CT", "MRI")]
    if not all(path.is_file() for path in paths):
        pytest.skip("the Harvard atlas (../shared/data/harvard) is not here")
    pictures = [np.asarray(Image.open(path).convert("L"), np.float32) / 255 for path in paths]
    return [torch.from_numpy(picture)[None] for picture in pictures]


@pytest.mark.parametrize(("method", "flagged"), [("swift-msrs", True), ("local-energy", False)])
def test_the_cyst_of_41011_is_flagged_where_it_is(shared_data, method, flagged):
    ct, mri = atlas_pair(shared_data)
    audit = audit_of(ct, mri, method=method, colormap="gray")
    check = audit["contradiction"]
    assert check.verdict == ("look" if flagged else "pass")
    if not flagged:
        return
    assert audit.verdict != "pass"
    assert check.value >= FLAGGED
    _, row, column = check.details["slice_row_column"]
    around = (0, slice(row - 3, row + 4), slice(column - 3, column + 4))
    assert 255 * (mri[around].mean() - ct[around].mean()) > 60  # dark on CT, bright on MRI
    assert 255 * max(x[around].std() for x in (ct, mri)) < 15
