"""The list of positions and the map of the expected error, on a real viewer and in the window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_plugin import outputs
from napari_plugin.jobs import Done
from napari_plugin.model import FusionModel
from napari_plugin.placing import RAS_FROM_NAPARI
from napari_plugin.positions import AS_FOUND, entries

MOVED_MM = 25.0


def run(model: FusionModel, job) -> None:
    outcome = job.run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass


@pytest.fixture(scope="module")
def aligned(make):
    """A pair whose PET lies elsewhere by its header, registered once."""
    viewer = ViewerModel()
    viewer.add_layer(make.layer(make.head(), "T1"))
    viewer.add_layer(make.layer(make.uptake(shift=(0.0, MOVED_MM, 0.0)), "PET"))
    model = FusionModel(viewer)
    model.choose(method="mean", preset="fast", accept_suspect=True)
    run(model, model.fusion_job())
    return viewer, model


def test_every_position_is_offered_with_its_numbers(aligned):
    _, model = aligned
    found = model.registration
    offered = entries(found)
    assert [e.name for e in offered] == [AS_FOUND, *(a.name for a in found.alternatives)]
    assert {"headers", "search"} <= {e.name for e in offered}
    by_name = {entry.name: entry.text for entry in offered}
    assert by_name["headers"].startswith("headers: 0 mm, 0 degrees")
    for other in found.alternatives:
        assert f"{other.metric:.3f}" in by_name[other.name]
        assert f"{100 * other.overlap:.0f} %" in by_name[other.name]
    assert sum("(here)" in entry.text for entry in offered) == 1


def test_the_error_map_is_the_bound_at_every_voxel_in_mm(aligned):
    viewer, model = aligned
    found, source = model.registration, model.fusion.pair.anatomical
    job = model.view_job(outputs.EXPECTED_ERROR, True)
    for _ in model.show_view(outputs.EXPECTED_ERROR, True, job.run().value):
        pass
    layer = outputs.find(viewer, outputs.EXPECTED_ERROR)
    assert layer.visible
    assert "0 to 20 mm" in layer.name
    index = (3, 40, 7)
    point = RAS_FROM_NAPARI[:3, :3] @ np.asarray(layer.data_to_world(index))
    assert layer.data[index] == pytest.approx(found.error_within_mm(point)[0], rel=1e-4)
    assert layer.data.shape == source.data.shape
    read = model.read_out(layer.data_to_world(index))
    assert f"place within {layer.data[index]:.0f} mm" in read
    assert "within" not in model.read_out((900.0, 0.0, 0.0))
    for _ in model.show_view(outputs.EXPECTED_ERROR, False):
        pass
    assert not layer.visible


def test_a_position_moved_by_hand_has_no_map_until_it_was_measured(aligned):
    _, model = aligned
    model.nudge((3.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    assert model.view_job(outputs.EXPECTED_ERROR, True) is None
    model.nudge((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    assert model.view_job(outputs.EXPECTED_ERROR, True) is not None


def test_taking_the_headers_in_the_window_measures_the_pair_there(scene, qtbot):
    viewer, panel = scene
    tab = panel.fuse_tab
    panel.model.choose(preset="fast", method="mean", accept_suspect=True)
    assert not tab.positions.positions.isEnabled()
    viewer.layers["PET"].translate = np.add(viewer.layers["PET"].translate, (0.0, 30.0, 0.0))

    def finish(start) -> None:
        with qtbot.waitSignal(panel.runner.ended, timeout=60_000):
            start()

    finish(panel.runs.register)
    combo = tab.positions.positions
    assert combo.isEnabled()
    assert combo.currentData() == AS_FOUND
    assert panel.model.registration.shift_mm > 20
    tab.positions.error_map.setChecked(True)
    qtbot.waitUntil(lambda: outputs.find(viewer, outputs.EXPECTED_ERROR) is not None)
    combo.setCurrentIndex(combo.findData("headers"))
    finish(lambda: combo.activated.emit(combo.currentIndex()))
    np.testing.assert_array_equal(panel.model.registration.matrix, np.eye(4))
    assert panel.model.registration.verdict != "good"
    assert "chosen by hand: headers" in " ".join(panel.model.registration.reasons)
    assert combo.currentData() == "headers"
    tab.swap.click()
    assert panel.model.settings.choose is None
    assert combo.currentData() == AS_FOUND
    qtbot.waitUntil(lambda: not panel.views.is_busy)
    assert not tab.positions.error_map.isChecked()
