"""What the steps tell each other: patients, checksums, facts that can be batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from medfuse import transforms as mt
from medfuse.errors import SeriesError, UsageError
from medfuse.registration.region import Region
from medfuse.transforms.facts import audit_of, region_from, region_text
from tests._helpers.chain import volume


def test_two_patients_are_neither_registered_nor_fused():
    pet = volume(source={"patient": "a", "name": "pet"})
    mri = volume(source={"patient": "b", "name": "mr"})
    for step in (
        mt.RegisterRigidd("pet", "mri", method="identity"),
        mt.FuseLuminanced("mri", "pet"),
    ):
        with pytest.raises(SeriesError, match=r"mr and pet: the headers name two .* patients"):
            step({"pet": pet, "mri": mri})


def test_images_changed_after_fusion_are_neither_audited_nor_saved(tmp_path):
    fusion = mt.FuseLuminanced("mri", "pet", method="mean")
    d = fusion({"mri": volume(), "pet": volume(seed=1)})
    d["fused"] = d["fused"] * 0.5
    for step in (mt.AuditFusiond(), mt.SaveFusiond(output_dir=tmp_path)):
        with pytest.raises(UsageError, match="E_CHANGED"):
            step(d)
    assert not any(tmp_path.iterdir())


def test_audits_of_two_cases_can_be_batched():
    """They hold hot spots and slices of their own number."""
    made = []
    for seed, size in ((0, 64), (1, 96)):
        functional, anatomical = torch.rand(
            (2, 1, size, size), generator=torch.Generator().manual_seed(seed)
        )
        fuse = mt.FuseLuminanced(method="saliency", bounded=True)
        made.append(fuse({"anatomical": anatomical, "functional": functional}))
        fusion = made[-1]["fusion"]
        assert audit_of(fusion["audit"])["bounded"].details["maximum"] > 0
        assert made[-1]["bound_change"].shape == (1, size, size)
    batch = default_collate([{"audit": m["fusion"]["audit"]} for m in made])
    assert len(batch["audit"]["verdict"]) == 2


def test_regions_of_two_cases_can_be_batched_and_read_back():
    """They have shapes of their own."""
    rng = np.random.default_rng(4)
    regions = [Region(rng.random(s) > 0.5, np.diag([2.0, 3, 4, 1]), "moving")
               for s in ((3, 5, 7), (4, 4, 9))]  # fmt: skip
    batch = default_collate([{"region": region_text(region)} for region in regions])
    for region, text in zip(regions, batch["region"], strict=True):
        again = region_from(text)
        assert again is not None
        assert again.of == "moving"
        assert again.inside.dtype == bool
        np.testing.assert_array_equal(again.inside, region.inside)
        np.testing.assert_array_equal(again.affine, region.affine)
    assert region_from(None) is None
