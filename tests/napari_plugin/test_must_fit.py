"""The region that a registration must get right, painted or from a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from medfuse.imaging.grid import transform_points
from medfuse.registration.region import REGION_FILE
from medfuse.results.export import write_nifti
from medfuse.verification.verify import verify
from napari_plugin import reader
from napari_plugin.case import export_job
from napari_plugin.jobs import Done, Failed
from napari_plugin.layers import read_layer
from napari_plugin.model import FusionModel
from napari_plugin.placing import linear_map
from napari_plugin.settings import words
from tests._helpers.layers import as_layer

PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")


def painted_on(layer, where=(slice(9, 14), slice(14, 20), slice(12, 18))) -> Labels:
    data = np.zeros(layer.data.shape, np.uint8)
    data[where] = 1
    return Labels(data, name="lesion", **{name: getattr(layer, name) for name in PLACE})


def run(model, make) -> object:
    outcome = make().run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass
    return outcome.value


@pytest.fixture
def model(viewer) -> FusionModel:
    viewer.add_layer(painted_on(viewer.layers["T1"]))
    made = FusionModel(viewer)
    made.choose(registration="identity", method="mean", accept_suspect=True)
    return made


def test_painted_labels_are_the_region_until_they_are_painted_further(model):
    told = []
    model.registration_changed.connect(lambda: told.append(model.registration))
    lesion = model.viewer.layers["lesion"]
    assert model.must_fit.candidates() == [lesion]
    model.choose_region(lesion)
    fusion = run(model, model.fusion_job)
    region, voxel_ml = fusion.aligned.region, np.prod(fusion.pair.anatomical.order.spacing) / 1000
    assert region.of == "fixed"
    assert region.to_dict()["volume_ml"] == pytest.approx(lesion.data.sum() * voxel_ml, abs=1e-3)
    start = json.loads(fusion.record)["steps"][0]["parameters"]
    assert start["region"] == region.to_dict()
    assert model.judge().is_current
    lesion.data_setitem((np.array([3]), np.array([3]), np.array([3])), 1)
    assert model.judge().why == "made before the region of the registration changed"
    assert told[-1] is None, "what is said of the registration is withdrawn"
    assert all(layer.name.endswith(")") for layer in model.viewer.layers if "Fusion" in layer.name)
    lesion.undo()
    assert model.judge().is_current
    assert told[-1] is not None
    model.viewer.layers.remove(lesion)
    assert not model.judge().is_current
    assert model.must_fit.key(model.settings) is None


def test_a_hand_moves_and_the_region_stays(model):
    model.choose_region(model.viewer.layers["lesion"])
    first = run(model, model.fusion_job)
    model.nudge((4.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    moved = run(model, model.fusion_job)
    assert moved.aligned.region is first.aligned.region
    assert model.judge().is_current


def test_a_region_that_is_taken_back_is_said_at_once(model):
    run(model, model.fusion_job)
    model.choose_region(model.viewer.layers["lesion"])
    assert model.result.why == "made before the region of the registration changed"
    model.choose_region(None)
    assert model.result.why == "made before the alignment changed", "it has to be found again"


def test_labels_on_the_grid_of_the_functional_image_lie_in_its_world(viewer):
    viewer.add_layer(painted_on(viewer.layers["PET"], (slice(8, 12), slice(12, 16), slice(10, 14))))
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean", accept_suspect=True)
    model.choose_region(viewer.layers["lesion"])
    assert run(model, model.registration_job).region.of == "moving"


def test_labels_on_an_oblique_image_are_where_its_file_has_it(make):
    turned, angle = make.head(), np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned.affine = turn @ np.asarray(turned.affine)
    viewer = ViewerModel()
    viewer.add_layer(as_layer(turned))
    viewer.add_layer(make.layer(make.uptake(), "PET"))
    viewer.add_layer(painted_on(viewer.layers[0]))
    np.testing.assert_array_equal(np.diag(np.diag(linear_map(viewer.layers[0])[:3, :3])),
                                  linear_map(viewer.layers["lesion"])[:3, :3])  # fmt: skip
    model = FusionModel(viewer)
    pair = model.pair()
    must_fit = model.must_fit
    must_fit.layer = viewer.layers["lesion"]
    found = must_fit.chosen(model.settings, (model.anatomical, model.functional))
    volumes = (pair.anatomical.volume(), pair.functional.volume())
    region = found.read(model.settings, volumes)
    source = read_layer(viewer.layers[0])
    voxels = np.argwhere(source.order.invert(viewer.layers["lesion"].data[None])[0])
    middle = transform_points(source.affine, voxels.mean(axis=0))
    found = transform_points(region.affine, np.argwhere(region.inside).mean(axis=0))
    np.testing.assert_allclose(found, middle, atol=1e-3)


def test_nothing_painted_is_refused_in_one_line(model):
    model.viewer.layers["lesion"].data[:] = 0
    model.choose_region(model.viewer.layers["lesion"])
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Failed)
    assert "lesion" in outcome.text
    assert outcome.code == "E_REGION"


def test_a_file_with_two_structures_asks_for_the_name_of_one(model, make, tmp_path):
    labels = np.zeros(make.head().shape[1:], np.uint8)
    labels[10:14, 20:24, 8:12], labels[24:28, 20:24, 8:12] = 1, 2
    path = write_nifti(tmp_path / "map.nii.gz", labels, np.asarray(make.head().affine))
    model.choose(region=str(path))
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Failed)
    assert outcome.text.count(words("region", "NAME=FILE")) == 1
    model.choose(region=f"2={path}")
    fusion = run(model, model.fusion_job)
    assert fusion.aligned.region.inside.sum() == 64
    assert model.judge().is_current
    model.choose_region(model.viewer.layers["lesion"])
    assert model.settings.region is None
    assert not model.judge().is_current
    model.choose(region=f"2={path}")
    assert model.must_fit.layer is None
    run(model, model.fusion_job)
    path.write_bytes(path.read_bytes() + b"\0")
    assert "region" in model.judge().why, "the file is another one"


def test_an_exported_result_holds_the_painted_region_and_is_verified(make, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    viewer = ViewerModel()
    for name, volume in (("T1w", make.head()), ("pet", make.uptake())):
        path = write_nifti(images / f"{name}.nii.gz", np.asarray(volume)[0],
                           np.asarray(volume.affine))  # fmt: skip
        [(data, options, _)] = reader.read_paths(str(path))
        viewer.add_image(data, **options)
    model = FusionModel(viewer)
    model.state(model.functional, unit="SUVbw")
    viewer.add_layer(painted_on(model.anatomical))
    model.choose(registration="rigid", preset="fast", method="mean", accept_suspect=True)
    model.choose_region(viewer.layers["lesion"])
    fusion = run(model, model.fusion_job)
    outcome = export_job(fusion, tmp_path / "case").run()
    assert isinstance(outcome, Done), outcome
    assert (tmp_path / "case" / REGION_FILE).exists()
    findings = verify(tmp_path / "case", inputs=images)
    assert [finding for finding in findings if not finding.ok] == []
