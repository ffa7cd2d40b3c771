"""The audit finds what it is there to find."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medfuse.audit import Audit, Evidence, audit_fusion
from medfuse.kernel.fusion import fuse_luminance


def honest(seed: int = 0) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    a, b, w = torch.rand((3, 1, 1, 64, 48), generator=generator)
    fused = fuse_luminance(a, b, torch.full_like(w, 0.4))
    zero = torch.zeros_like(a)
    return Evidence(
        a=a,
        b=b,
        weights=w,
        luminance=fused.luminance,
        from_a=fused.from_a,
        from_b=fused.from_b,
        share=fused.share(),
        rgb=fused.luminance.expand(1, 3, 64, 48),
        gamut_change=zero,
        chroma_change=zero,
        coverage=None,
    )


def test_an_honest_fusion_passes_every_check():
    audit = audit_fusion(honest())
    assert audit.verdict == "pass"
    assert [check.id for check in audit.checks] == [
        "linearity", "weights", "finite", "share", "overshoot", "gamut", "chroma", "coverage",
        "window",
    ]  # fmt: skip


def test_one_painted_voxel_fails_the_linearity_check():
    evidence = honest()
    painted = evidence.luminance.clone()
    painted[0, 0, 10, 10] += 0.01
    check = audit_fusion(replace(evidence, luminance=painted))["linearity"]
    assert check.verdict == "fail"
    assert check.value == pytest.approx(0.01, rel=1e-3)


def test_values_beyond_both_sources_are_measured_in_the_voxel_and_around_it():
    evidence = honest()
    flat = torch.full_like(evidence.a, 0.4)
    shifted = flat.clone()
    shifted[..., :12] += 0.5
    check = audit_fusion(replace(evidence, a=flat, b=flat, luminance=shifted))["overshoot"]
    assert check.value == check.details["fraction"] == pytest.approx(0.25)
    assert check.details["maximum_local"] == pytest.approx(0.5, abs=1e-6)
    assert check.verdict == "look"
    moved = torch.roll(evidence.a, 1, dims=3)
    moved[..., 0] = evidence.a[..., 0]
    check = audit_fusion(replace(evidence, luminance=moved))["overshoot"]
    assert check.value == 0
    assert check.details["fraction"] > 0.2


def test_a_nan_in_the_picture_fails():
    evidence = honest()
    broken = evidence.weights.clone()
    broken[0, 0, 0, :3] = float("nan")
    audit = audit_fusion(replace(evidence, weights=broken))
    assert audit["finite"].value == 3
    assert audit["weights"].verdict == "fail"
    assert audit.verdict == "fail"


def test_a_copy_of_the_anatomical_image_is_called_out():
    evidence = honest()
    copy = fuse_luminance(evidence.a, evidence.b, torch.ones_like(evidence.a))
    check = audit_fusion(replace(evidence, share=copy.share()))["share"]
    assert check.value == 0
    assert check.verdict == "look"


def test_coverage_saturation_and_gamut_are_fractions_of_voxels():
    evidence = honest()
    coverage = torch.zeros_like(evidence.a, dtype=torch.bool)
    coverage[..., :6] = True
    changed = torch.zeros_like(evidence.a)
    changed[..., :24] = 0.1
    audit = audit_fusion(
        replace(evidence, coverage=coverage, saturated=96, gamut_change=changed,
                chroma_change=changed)
    )  # fmt: skip
    assert audit["coverage"].value == pytest.approx(6 / 48)
    assert audit["coverage"].verdict == "look"
    assert audit["window"].value == pytest.approx(96 / (6 * 64))
    assert audit["gamut"].value == pytest.approx(0.5)
    assert audit["chroma"].details["maximum"] == pytest.approx(0.1)


def test_the_verdict_is_that_of_the_worst_check():
    good, bad = audit_fusion(honest()).checks[:2]
    assert Audit((good, replace(bad, verdict="look"))).verdict == "look"
    assert Audit((good, replace(bad, verdict="fail"))).verdict == "fail"
    with pytest.raises(KeyError):
        Audit((good,))["nothing"]


def test_json_form_holds_number_limit_verdict_and_meaning_of_each_check():
    report = audit_fusion(honest()).to_dict()
    assert report["schema"] == "medfuse-audit/1"
    for check in report["checks"]:
        assert set(check) >= {"id", "title", "value", "unit", "threshold", "verdict", "text"}
        assert check["text"].endswith(".")
