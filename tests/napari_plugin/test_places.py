"""Places that the audit names, and the customary overlay, on a real ViewerModel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from napari.components import ViewerModel

import medfuse
from napari_plugin import outputs
from napari_plugin.jobs import Done
from napari_plugin.layers import layer_data
from napari_plugin.model import FusionModel

SHAPE = (64, 56, 6)
AFFINES = {
    "LPS": np.diag([-2.0, -2.0, 3.0, 1.0]),
    "RAI": np.diag([2.0, 2.0, -3.0, 1.0]),
}


def cyst(affine: np.ndarray) -> tuple[MetaTensor, MetaTensor]:
    """A place in one slice, flat and dark in A, flat and bright in B, on which weights turn."""
    noise = torch.rand((2, 1, *SHAPE), generator=torch.Generator().manual_seed(2))
    a, b = (0.35 + 0.5 * noise).unbind(0)
    a[:, 20:50, 15:45, 4], b[:, 20:50, 15:45, 4] = 0.1, 0.9
    a[:, 35:50, 15:45, 4] += 0.003  # what the guide of the test tells the two halves by
    images = []
    for image, modality in ((a, "CT"), (b, "MRI")):
        meta = {"modality": modality, "unit": "a.u.", "suv": None, "notes": []}
        meta["source"] = {"kind": "array", "name": modality, "files": 0}
        images.append(MetaTensor(image, affine=torch.from_numpy(affine), meta=meta))
    return images[0], images[1]


class Turning:
    """A guide that takes one source in one half of a place and the other in the other half."""

    from medfuse.methods.base import MethodInfo

    info = MethodInfo("turning", "for tests", "rule", levels=0)

    def weights(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        weights = torch.full_like(b, 0.5)
        weights[(a - 0.1).abs() < 0.001] = 0.0
        weights[(a - 0.103).abs() < 0.001] = 1.0
        return weights


def run(model: FusionModel, **settings) -> object:
    window = {"window": (0.0, 1.0), "anatomical_window": (0.0, 1.0), "mode": "slices"}
    model.choose(**(window | {"registration": "identity", "accept_suspect": True} | settings))
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass
    return outcome.value


@pytest.fixture(params=AFFINES)
def model(request, monkeypatch) -> FusionModel:
    from medfuse.methods import registry

    registry.list_methods()
    monkeypatch.setitem(registry._FACTORIES, "turning", (Turning, "for tests"))
    viewer = ViewerModel()
    for volume, name in zip(cyst(AFFINES[request.param]), ("CT", "MRI"), strict=True):
        data, kwargs, _ = layer_data(volume, name=name)
        viewer.add_image(data, **kwargs)
    return FusionModel(viewer)


def test_a_click_on_the_check_goes_to_the_place_and_shows_it(model):
    fusion = run(model, method="turning", colormap="gray")
    check = fusion.audit["contradiction"]
    assert check.verdict == "look"
    lines = outputs.find(model.viewer, outputs.CONTRADICTION)
    assert lines.visible, "a warning is seen without a click"
    lines.visible = False
    model.viewer.dims.set_point(0, model.viewer.dims.range[0].start)
    assert model.go_to(check)
    assert lines.visible
    picture = outputs.find(model.viewer, outputs.PICTURE)
    s, r, c = (round(float(x)) for x in picture.world_to_data(model.viewer.dims.point))
    near = np.s_[s, r - 8 : r + 9, c - 8 : c + 9]
    ct, mri = model.functional.data, model.anatomical.data
    assert ct[near].max() < 0.2 < 0.8 < mri[near].min(), "in the middle of the place"
    drawn = np.asarray(lines.data)
    assert not drawn[s, r, c], "the place itself stays free"
    assert drawn[s].any()
    assert not np.delete(drawn, s, axis=0).any()


def test_the_lines_go_with_the_next_run_that_is_content(model):
    run(model, method="turning", colormap="gray")
    fusion = run(model, method="mean", colormap="gray")
    assert fusion.audit["contradiction"].verdict == "pass"
    assert outputs.find(model.viewer, outputs.CONTRADICTION) is None
    assert not model.go_to(fusion.audit["contradiction"])


def test_the_weakest_hot_spot_is_a_place_too(viewer, make):
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    for _ in model.show(model.fusion_job().run().value):
        pass
    assert model.go_to(model.fusion.audit["hot_spots"])
    world = np.asarray(model.viewer.dims.point)
    assert np.linalg.norm(world - [-4, -14, 12]) < 8  # S 4, A 14, R -12: the made lesion


def test_the_overlay_is_that_of_the_style_and_off_at_first(viewer):
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    fusion = model.fusion_job().run().value
    for _ in model.show(fusion):
        pass
    assert outputs.find(viewer, outputs.OVERLAY) is None
    for on in (True, False):
        job = model.view_job(outputs.OVERLAY, on)
        for _ in model.show_view(outputs.OVERLAY, on, job.run().value if job else None):
            pass
        layer = outputs.find(viewer, outputs.OVERLAY)
        assert layer.visible == on
    theirs = medfuse.fuse(
        functional=fusion.on_grid, anatomical=model.pair().anatomical.volume(), style="overlay"
    )
    expected = outputs.shown(outputs.to_bytes(theirs.rgb), model.pair().anatomical.order)
    assert (layer.data == expected).all()
