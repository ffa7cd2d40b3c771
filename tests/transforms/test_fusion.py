"""Fusion and audit as MONAI transforms: the same results as the library."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Flipd, Invertd, ResampleToMatchd, SpatialCropd

import medfuse
from medfuse import transforms as mt
from tests._helpers.chain import IMAGES, volume


@pytest.mark.parametrize("shape", [(16, 20), (12, 10, 6)])
def test_the_fusion_transform_gives_what_the_library_call_gives(shape):
    a, b = (np.random.default_rng(s).random((1, *shape), np.float32) for s in (0, 1))
    d = mt.FuseLuminanced(method="saliency", window=(0.1, 0.8))({"functional": a, "anatomical": b})
    direct = medfuse.fuse(functional=a, anatomical=b, method="saliency", window=(0.1, 0.8))
    for key, expected in zip(
        IMAGES, (direct.rgb, direct.luminance, direct.weights, direct.share), strict=True
    ):
        assert torch.equal(torch.as_tensor(d[key].as_tensor()), expected)
    assert d["fusion"]["guide"]["name"] == "saliency"
    assert d["fusion"]["window"]["high"] == 0.8


def test_what_was_cut_from_the_anatomical_image_can_be_put_back_on_the_result():
    pet, mri = volume(), volume(seed=1)
    crop = SpatialCropd(["mri", "pet"], roi_start=[2, 3, 1], roi_end=[9, 11, 7])
    d = Compose([crop, mt.FuseLuminanced("mri", "pet", method="mean")])({"mri": mri, "pet": pet})
    back = Invertd("fused", transform=crop, orig_keys="mri", nearest_interp=False)(d)["fused"]
    assert back.shape == (3, 10, 12, 8)
    assert torch.equal(back.as_tensor()[:, 2:9, 3:11, 1:7], d["fused"].as_tensor())


def test_what_monai_has_put_off_is_done_before_registration_and_fusion():
    """Compose(lazy=True): one interpolation for MONAI's steps, then ours as they always are."""
    pair = {"pet": volume(), "mri": volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1)}
    steps = [
        SpatialCropd("mri", roi_start=[2, 3, 1], roi_end=[18, 17, 15]),
        Flipd("mri", spatial_axis=0),
        mt.RegisterRigidd("pet", "mri", method="identity", accept_suspect=True),
        mt.FuseLuminanced("mri", "pet", method="mean"),
    ]
    now, late = (Compose(steps, lazy=lazy)(pair) for lazy in (False, True))
    assert late["mri"].pending_operations == []
    assert torch.allclose(late["mri"].affine, now["mri"].affine)
    for key in ("mri", "pet", "fused"):
        assert torch.allclose(late[key].as_tensor(), now[key].as_tensor(), atol=1e-5), key


def test_aligned_volumes_may_be_matched_by_monai_itself():
    pet = volume()
    pair = {"pet": pet, "mri": volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1)}
    matched = ResampleToMatchd("pet", key_dst="mri", padding_mode="zeros", dtype=None)
    rest = [mt.FuseLuminanced("mri", "pet", method="mean"), mt.AuditFusiond()]
    theirs = Compose([matched, *rest])(pair)
    register = mt.RegisterRigidd("pet", "mri", method="identity", accept_suspect=True)
    ours = Compose([register, *rest])(pair)
    inside = (slice(None), slice(3, 14), slice(3, 14), slice(3, 14))
    difference = (theirs["pet"].as_tensor() - ours["pet"].as_tensor())[inside].abs()
    assert float(difference.max()) < 1e-5
    one, other = ({c["id"]: c["verdict"] for c in d["audit"]["checks"]} for d in (theirs, ours))
    assert other.pop("registration") == "look"  # which MONAI's matching does not judge
    assert one == other
    back = Invertd("fused", transform=matched, orig_keys="pet")(theirs)["fused"]
    assert back.shape[1:] == pet.shape[1:]


def test_several_fusions_of_one_pair_live_side_by_side():
    pair = {"mri": volume(), "pet": volume(seed=1)}
    names = ("rgb_key", "luminance_key", "weights_key", "share_key", "fusion_key")
    both = [
        mt.FuseLuminanced("mri", "pet", method=m, **{n: f"{m}_{n}" for n in names})
        for m in ("mean", "anatomical-luma")
    ]
    d = Compose([*both, mt.AuditFusiond("mean_fusion_key", audit_key="audit_mean")])(pair)
    assert float(d["mean_weights_key"].mean()) == 0.5
    assert float(d["anatomical-luma_weights_key"].mean()) == 1.0
    assert d["audit_mean"]["verdict"] in ("pass", "look")


def test_the_audit_judges_registration_and_unit_too(fused):
    d, _ = fused
    checks = {check["id"]: check for check in d["audit"]["checks"]}
    assert checks["registration"]["verdict"] == "pass"
    assert checks["unit"]["text"].startswith("PET in SUVbw")
    assert checks["linearity"]["verdict"] == "pass"


def test_one_chain_may_run_in_several_threads():
    steps = [mt.ColorizeFunctionald("pet"), mt.FuseLuminanced("mri", "pet"), mt.AuditFusiond()]
    both = Compose(steps)
    pairs = [{"mri": volume(seed=k), "pet": volume(seed=k + 9)} for k in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(both, pairs))
    for pair, d in zip(pairs, together, strict=True):
        assert torch.equal(both(pair)["fused"].as_tensor(), d["fused"].as_tensor())
