"""3-D of large volumes: fewer voxels, at the same place, with the same hottest one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_plugin import fewer_voxels, outputs, views
from napari_plugin.jobs import Done
from napari_plugin.model import FusionModel
from napari_plugin.placing import linear_map
from napari_plugin.solid import uptake_layer


def run(model: FusionModel):
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass
    return outcome.value


def corners(layer) -> np.ndarray:
    """World coordinates of the outer corners of the first and the last voxel."""
    ends = np.array([[-0.5] * 3, np.array(layer.data.shape) - 0.5])
    matrix = linear_map(layer)
    return ends @ matrix[:3, :3].T + matrix[:3, 3]


def test_a_large_pair_is_shown_in_3d_with_fewer_voxels(viewer, monkeypatch):
    monkeypatch.setattr(fewer_voxels, "MOST", 12_000)  # of 40 x 48 x 24
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    run(model)
    whole = outputs.find(viewer, outputs.ON_GRID)
    small, anatomy = (outputs.find(viewer, role) for role in fewer_voxels.SMALL)
    assert small.data.size <= 12_000 < whole.data.size
    assert small.data.max() == whole.data.max()
    for layer in (small, anatomy):
        np.testing.assert_allclose(corners(layer), corners(whole), atol=1e-6)
    assert anatomy.data.mean() == pytest.approx(viewer.layers["T1"].data.mean(), rel=1e-5)
    views.look(viewer, "3d", anatomical=model.anatomical)
    assert {layer for layer in viewer.layers if layer.visible} == {small, anatomy}
    assert uptake_layer(viewer) is small
    views.look(viewer, "axial")
    assert not small.visible
    assert outputs.find(viewer, outputs.PICTURE).visible


def test_those_of_an_earlier_pair_are_not_shown(viewer, monkeypatch):
    monkeypatch.setattr(fewer_voxels, "MOST", 12_000)
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    run(model)
    monkeypatch.undo()
    run(model)
    assert all(outputs.find(viewer, role) is None for role in fewer_voxels.SMALL)
    views.look(viewer, "3d", anatomical=model.anatomical)
    assert uptake_layer(viewer) is outputs.find(viewer, outputs.ON_GRID)
    assert uptake_layer(viewer).visible


def test_the_finest_axis_loses_voxels_first(viewer):
    source = FusionModel(viewer).pair().anatomical
    assert fewer_voxels.block(source) is None, "small enough"
    step = np.array(source.transform["scale"])
    large = np.broadcast_to(np.float32(0), (300, 512, 512))
    found = fewer_voxels.block(source.__class__(**{**vars(source), "data": large}))
    assert found is not None
    assert np.prod(-(-np.array(large.shape) // found)) <= fewer_voxels.MOST
    assert max(step * found) / min(step * found) <= max(2.0, step.max() / step.min())
