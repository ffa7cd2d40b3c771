"""The map behind the check `contradiction`, made again from a finished fusion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import medfuse
from medfuse.fusion.evidence import contradictions
from medfuse.fusion.sources import Sources
from medfuse.kernel.sources import WINDOW

AFFINES = {
    "axial": np.diag([-2.0, -2.0, 3.0, 1.0]),
    "axial, flipped": np.diag([2.0, -2.0, -3.0, 1.0]),
}


def cyst() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A place in slice 3, flat and dark in A, flat and bright in B, in which the weight turns."""
    noise = torch.rand((2, 1, 96, 80, 5), generator=torch.Generator().manual_seed(2))
    a, b = (0.35 + 0.5 * noise).unbind(0)
    a[:, 40:80, 20:60, 3], b[:, 40:80, 20:60, 3] = 0.1, 0.9
    weights = torch.full_like(b, 0.5)
    weights[:, 40:60, 20:60, 3], weights[:, 60:80, 20:60, 3] = 0.0, 1.0
    return a, b, weights


@pytest.mark.parametrize("style", ["fusion", "overlay"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_the_map_has_the_pixels_of_the_check_at_its_place(affine, style):
    a, b, weights = cyst()
    a, b = (MetaTensor(x, affine=torch.from_numpy(affine)) for x in (a, b))
    result = medfuse.fuse(
        functional=a, anatomical=b, weights=weights, method="max", colormap="gray", style=style,
        mode="slices", bias=0.0 if style == "fusion" else -1.0,
    )  # fmt: skip
    check = result.audit["contradiction"]
    sources = Sources(a, b, None, None, "gray", None, gamut=result.gamut)
    found = contradictions(sources, result.luminance, result.rgb)
    assert found.shape == a.shape[1:]
    if check.verdict == "pass":  # the overlay shows the functional image alone
        assert style == "overlay"
        assert not found.any()
        return
    assert int((found == 2).sum()) == check.value
    x, y, z = (found == 2).nonzero().unbind(1)
    assert set(z.tolist()) == {3}
    ras = np.asarray(check.details["position_ras_mm"])
    index = np.rint(np.linalg.inv(affine) @ [*ras, 1])[:3].astype(int)
    assert found[tuple(index)] == 2
    half = WINDOW // 2
    i, j, _ = (found > 0).nonzero().unbind(1)
    assert (int(i.min()), int(i.max())) == (int(x.min()) - half, int(x.max()) + half)
    assert (int(j.min()), int(j.max())) == (int(y.min()) - half, int(y.max()) + half)


def test_what_was_not_measured_has_no_contradiction():
    a, b, weights = cyst()
    result = medfuse.fuse(
        functional=a, anatomical=b, weights=weights, method="max", colormap="gray", mode="slices"
    )
    sources = Sources(a, b, None, None, "gray", torch.ones(a.shape[1:], dtype=torch.bool))
    assert contradictions(sources, result.luminance, result.rgb).any()
    outside = replace(sources, coverage=torch.zeros(a.shape[1:], dtype=torch.bool))
    assert not contradictions(outside, b, b.expand(3, -1, -1, -1)).any()
