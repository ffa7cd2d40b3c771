"""The audit finds what it is there to find, and nothing where there is nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool3d

import medfuse
from medfuse.audit import Audit, Evidence, Functional, audit_fusion, unexplained_map
from medfuse.audit.hot_spots import _coarse, find_hot_spots, lesion_contrast
from medfuse.audit.orientation import laterality, position
from medfuse.audit.structure import LIMIT, estimated_share, invented
from medfuse.kernel.blend import bound_luminance, fuse_luminance, overshoot
from medfuse.kernel.color import fit_gamut, rgb_to_ycbcr
from medfuse.kernel.colormaps import apply_colormap
from medfuse.kernel.explained import fit_sources
from medfuse.methods.registry import get_method

SHAPE = (6, 1, 96, 80)


def smooth(seed: int) -> torch.Tensor:
    """Random tissue with structure at several scales, (6, 1, 96, 80) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros(SHAPE)
    for n in (4, 12, 40):
        coarse = torch.rand((6, 1, n, n), generator=generator)
        out += torch.nn.functional.interpolate(coarse, SHAPE[-2:], mode="bicubic") / 3
    return out.clamp(0.02, 0.98)


def honest(weights: torch.Tensor | float = 0.4) -> Evidence:
    """A fusion as `fuse` makes it, of two images with a hot spot, coloured with ember."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(80), indexing="ij")
    spot = torch.exp(-((rows - 30) ** 2 + (columns - 50) ** 2) / 200.0)
    values, b = 0.3 * smooth(1) + 0.6 * spot, smooth(2)
    ycbcr = rgb_to_ycbcr(apply_colormap(values, "ember"))
    a, w = ycbcr[:, :1], torch.as_tensor(weights).expand(SHAPE).contiguous()
    fused = fuse_luminance(a, b, w)
    rgb, changed = fit_gamut(fused.luminance, ycbcr[:, 1:])
    return Evidence(
        a=a,
        b=b,
        luminance=fused.luminance,
        rgb=rgb,
        weights=w,
        from_a=fused.from_a,
        from_b=fused.from_b,
        share=fused.share(),
        overshoot=overshoot(fused.luminance, a, b),
        gamut_change=changed,
        chroma_change=torch.zeros_like(a),
        functional=Functional(values, colormap="ember", modality="PET"),
    )


def test_an_honest_fusion_passes_every_check():
    audit = audit_fusion(honest())
    assert {check.id: check.verdict for check in audit.checks if check.verdict != "pass"} == {}
    assert [check.id for check in audit.checks] == [
        "linearity", "weights", "finite", "invented", "detail", "contradiction", "share",
        "hot_spots", "overshoot", "gamut", "chroma", "coverage", "window", "laterality",
    ]  # fmt: skip


def test_one_painted_voxel_fails_the_linearity_check():
    evidence = honest()
    painted = evidence.luminance.clone()
    painted[0, 0, 10, 10] += 0.01
    check = audit_fusion(replace(evidence, luminance=painted))["linearity"]
    assert check.verdict == "fail"
    assert check.value == pytest.approx(0.01, rel=1e-3)


def test_bounding_is_accounted_for_and_named():
    evidence = honest(get_method("max").weights(honest().a, honest().b))
    bounded, change = bound_luminance(evidence.luminance, evidence.a, evidence.b)
    audit = audit_fusion(
        replace(
            evidence,
            luminance=bounded,
            bound_change=change,
            overshoot=overshoot(bounded, evidence.a, evidence.b),
        )
    )
    assert audit["linearity"].verdict == "pass"
    assert audit["overshoot"].details["maximum_local"] == 0
    assert audit["bounded"].details["maximum"] == pytest.approx(float(change.abs().max()))
    assert audit["bounded"].value > 0
    unrecorded = replace(evidence, luminance=bounded, bound_change=torch.zeros_like(change))
    assert audit_fusion(unrecorded)["linearity"].verdict == "fail"


def test_values_beyond_both_sources_are_measured_in_the_voxel_around_it_and_in_patches():
    evidence = honest()
    flat = torch.full_like(evidence.a, 0.4)
    shifted = flat.clone()
    shifted[..., :20] += 0.5
    wrong = replace(
        evidence, a=flat, b=flat, luminance=shifted, overshoot=overshoot(shifted, flat, flat)
    )
    check = audit_fusion(wrong)["overshoot"]
    assert check.value == check.details["fraction"] == pytest.approx(0.25)
    assert check.details["maximum_local"] == pytest.approx(0.5, abs=1e-6)
    assert check.details["patch"] == pytest.approx(0.5, abs=1e-6)
    assert check.verdict == "look"


def test_a_nan_in_the_picture_fails():
    evidence = honest()
    broken = evidence.weights.clone()
    broken[0, 0, 0, :3] = float("nan")
    audit = audit_fusion(replace(evidence, weights=broken))
    assert audit["finite"].value == 3
    assert audit["weights"].verdict == "fail"
    assert audit.verdict == "fail"


def test_the_share_is_told_by_region_and_by_slice():
    evidence = honest()
    share = torch.zeros(SHAPE)
    share[evidence.functional.values > 2 / 3] = 0.75
    share[1] = 1.0
    check = audit_fusion(replace(evidence, share=share))["share"]
    regions = check.details["regions"]
    assert sum(region["voxels"] for region in regions.values()) == share.numel()
    assert regions["high"]["anatomical_share"] == pytest.approx(0.75 + 0.25 / 6, abs=0.05)
    low = (evidence.functional.values > 0.05) & (evidence.functional.values <= 1 / 3)
    assert regions["low"]["anatomical_share"] == pytest.approx(float(share[low].mean()), abs=0.01)
    assert check.details["by_slice"][1] == 1.0
    assert len(check.details["by_slice"]) == 6


def test_a_copy_of_the_anatomical_image_is_called_out():
    evidence = honest()
    copy = fuse_luminance(evidence.a, evidence.b, torch.ones_like(evidence.a))
    check = audit_fusion(replace(evidence, share=copy.share()))["share"]
    assert check.value == 0
    assert check.verdict == "look"


def test_coverage_saturation_and_gamut_are_fractions_of_voxels():
    evidence = honest()
    coverage = torch.zeros_like(evidence.a, dtype=torch.bool)
    coverage[..., :8] = True
    changed = torch.zeros_like(evidence.a)
    changed[..., :40] = 0.1
    audit = audit_fusion(
        replace(evidence, coverage=coverage, saturated=96, gamut_change=changed,
                chroma_change=changed)
    )  # fmt: skip
    assert audit["coverage"].value == pytest.approx(0.1)
    assert audit["coverage"].verdict == "look"
    assert audit["window"].value == pytest.approx(96 / (6 * 96 * 8))
    assert audit["gamut"].value == pytest.approx(0.5)
    assert audit["chroma"].details["maximum"] == pytest.approx(0.1)


@pytest.mark.parametrize("method", ["swift", "mean", "max", "saliency", "anatomical-luma"])
def test_weighting_two_sources_invents_nothing(method):
    first = honest()
    evidence = honest(get_method(method).weights(first.a, first.b))
    assert invented(evidence).value < LIMIT


def test_networks_filters_and_noise_are_told_from_weighting():
    evidence = honest()
    f, generator = evidence.luminance, torch.Generator().manual_seed(0)
    kernel = torch.randn((1, 1, 5, 5), generator=generator) / 5
    for picture in (
        f + 0.05 * torch.randn(SHAPE, generator=generator),
        f + torch.nn.functional.conv2d(evidence.b, kernel, padding=2),
        f.roll(3, 3),
        f.flip(2),
    ):
        assert invented(replace(evidence, luminance=picture)).verdict != "pass"


def test_the_map_shows_where_something_was_painted():
    evidence = honest()
    painted = evidence.luminance.clone()
    painted[2, 0, 40:56, 24:40] += 0.3 * torch.rand((16, 16))
    found = unexplained_map(replace(evidence, luminance=painted))
    assert found.shape == SHAPE
    assert found[2, 0, 44:52, 28:36].mean() > 5 * found[2, 0, 64:, 56:].mean()
    assert int(found.mean((1, 2, 3)).argmax()) == 2


def test_the_fit_agrees_with_least_squares_in_one_window():
    evidence = honest(0.7)
    f, a, b = (x[:1, :, :8, :8] for x in (evidence.luminance, evidence.a, evidence.b))
    f = f + 0.05 * torch.rand(f.shape, generator=torch.Generator().manual_seed(1))
    fit = fit_sources(f, a, b)
    columns = torch.stack([a.flatten(), b.flatten(), torch.ones(64)], 1).double()
    solution = torch.linalg.lstsq(columns, f.flatten().double()).solution
    residual = (f.flatten() - columns @ solution).square().mean()
    assert float(fit.residual) == pytest.approx(float(residual), rel=0.02)


def test_the_share_of_a_foreign_blend_is_estimated():
    evidence = honest(0.3)
    guess = estimated_share(evidence.luminance, evidence.a, evidence.b)
    assert float((guess - evidence.share).abs().median()) < 0.02


def hot_spots_of(evidence):
    return list(lesion_contrast(evidence, find_hot_spots(evidence)))


def test_hot_spots_are_found_measured_and_missed_when_they_are_gone():
    evidence = honest()
    (check,) = hot_spots_of(evidence)
    first = check.details["spots"][0]
    assert abs(first["slice_row_column"][1] - 30) <= 4
    assert abs(first["slice_row_column"][2] - 50) <= 4
    assert check.value == pytest.approx(1.0, abs=0.02)
    assert check.verdict == "pass"
    _, row, column = first["slice_row_column"]
    erased = evidence.rgb.clone()
    erased[..., row - 22 : row + 23, column - 22 : column + 23] = erased[..., :1, :1]
    (check,) = hot_spots_of(replace(evidence, rgb=erased))
    assert check.verdict == "fail"


def test_a_spot_that_the_brightness_hides_is_called_out_in_grey():
    evidence = honest()
    grey = replace(evidence.functional, colormap="gray")
    copy = evidence.b.expand(-1, 3, -1, -1)
    (check,) = hot_spots_of(replace(evidence, functional=grey, a=grey.values, rgb=copy))
    assert check.verdict != "pass"


def test_positions_of_hot_spots_are_in_the_world_and_a_ct_has_none():
    affine = np.array([[0, 0, -2.0, 90], [0, -2.0, 0, 70], [3.0, 0, 0, -9], [0, 0, 0, 1]])
    evidence = replace(honest(), affine=affine)
    spot = find_hot_spots(evidence).spots[0]
    s, r, k = spot.index
    assert spot.position == pytest.approx((90 - 2 * k, 70 - 2 * r, 3 * s - 9))
    ct = replace(evidence.functional, modality="CT")
    assert find_hot_spots(replace(evidence, functional=ct)) is None


def test_a_mirrored_picture_fails_and_a_shifted_one_is_measured():
    evidence = honest()
    assert laterality(evidence).verdict == "pass"
    assert laterality(replace(evidence, luminance=evidence.luminance.flip(3))).verdict == "fail"
    assert position(evidence).verdict == "pass"
    check = position(replace(evidence, luminance=evidence.luminance.roll((2, -3), (2, 3))))
    assert (check.details["rows"], check.details["columns"]) == (2, -3)
    assert check.verdict == "fail"


def test_left_and_right_follow_the_geometry():
    """Sagittal slices: left-right runs along the slices."""
    affine = np.array([[-1.0, 0, 0, 3], [0, 0, -1.0, 40], [0, -1.0, 0, 48], [0, 0, 0, 1]])
    evidence = replace(honest(), affine=affine, stored_affine=np.diag([-1.0, 1, 1, 1]))
    check = laterality(replace(evidence, luminance=evidence.luminance.flip(0)))
    assert check.verdict == "fail"
    assert check.details["axes"] == "LAS"
    assert check.details["handedness"] == "left"


def test_pictures_that_are_the_same_on_both_sides_are_left_to_the_eye():
    evidence = honest()
    halves = {n: getattr(evidence, n)[..., :40] for n in ("a", "b", "luminance")}
    twins = {n: torch.cat([x, x.flip(3)], 3) for n, x in halves.items()}
    assert laterality(replace(evidence, **twins)).verdict == "look"


def test_fuse_gives_maps_and_can_leave_the_audit_out(sample_data: Path):
    folder = sample_data / "study" / "sts001-aligned"
    mri, ct = medfuse.load(folder / "mr-t1.nii.gz"), medfuse.load(folder / "ct.nii.gz")
    ct = medfuse.register(fixed=mri, moving=ct, method="identity").resample(ct)
    plain = medfuse.fuse(functional=ct, anatomical=mri, mode="slices")
    assert plain.audit is not None
    assert plain.audit.verdict == "pass"
    assert plain.audit["laterality"].details["axes"] == "LPS"
    assert plain.gamut_change.shape == plain.overshoot.shape == plain.luminance.shape
    assert float(plain.overshoot.abs().max()) == pytest.approx(
        plain.audit["overshoot"].details["maximum_local"]
    )
    assert plain.bound_change is None
    bounded = medfuse.fuse(functional=ct, anatomical=mri, mode="slices", bounded=True, audit=False)
    assert bounded.audit is None
    assert bounded.overshoot is None
    parts = bounded.from_functional + bounded.from_anatomical + bounded.bound_change
    assert torch.allclose(parts, bounded.luminance, atol=1e-6)
    assert torch.allclose(bounded.luminance, plain.luminance - plain.overshoot, atol=1e-6)


def test_the_verdict_is_that_of_the_worst_check():
    good, bad = audit_fusion(honest()).checks[:2]
    assert Audit((good, replace(bad, verdict="look"))).verdict == "look"
    assert Audit((good, replace(bad, verdict="fail"))).verdict == "fail"
    with pytest.raises(KeyError):
        Audit((good,))["nothing"]


def test_json_form_holds_number_limit_verdict_and_meaning_of_each_check():
    report = json.loads(json.dumps(audit_fusion(honest()).to_dict(), allow_nan=False))
    assert report["schema"] == "medfuse-audit/1"
    for check in report["checks"]:
        assert set(check) >= {"id", "title", "value", "unit", "threshold", "verdict", "text"}
        assert check["text"].endswith(".")


def test_every_check_has_its_row_in_the_documentation():
    page = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    foreign = {
        "registration", "unit", "read_back", "anatomy_back", "bounded", "position", "transform",
    }  # fmt: skip
    for name in {check.id for check in audit_fusion(honest()).checks} | foreign:
        assert f"| `{name}` |" in page


@pytest.mark.parametrize("step", [[1, 1, 1], [11, 8, 9], [5, 3, 4], [16, 16, 16], [40, 2, 2]])
@pytest.mark.parametrize("count", [40, 41, 59, 64])
def test_block_means_made_slab_by_slab_are_those_of_the_whole(step, count):
    generator = torch.Generator().manual_seed(count)
    values = torch.rand((count, 20, 21), generator=generator)
    inside = torch.rand((count, 1, 20, 21), generator=generator) > 0.3
    for coverage, seen in ((None, values), (inside, values * inside[:, 0])):
        whole = avg_pool3d(seen[None, None], step, step, ceil_mode=True)
        assert torch.equal(_coarse(values, coverage, step), whole)
