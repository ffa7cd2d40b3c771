"""Regions of the panel: their numbers are those of `medfuse.measure`, in their places."""

from __future__ import annotations

import csv
import gc
import io
import json
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

import medfuse
from medfuse.errors import MedfuseError
from medfuse.measurement.region import Isocontour, Sphere, Threshold
from medfuse.results.export import write_nifti
from medfuse.settings import CaseSettings
from napari_plugin import outputs, regions
from napari_plugin.jobs import Done
from napari_plugin.model import FusionModel
from napari_plugin.places import index_of_point
from napari_plugin.placing import linear_map

LESION = (-12.0, 14.0, 4.0)  # RAS mm of the MRI; the PET lies 6 mm further left


@pytest.fixture(scope="module")
def fused(make):
    viewer = ViewerModel()
    viewer.add_layer(make.layer(make.head(), "T1"))
    viewer.add_layer(make.layer(make.uptake(), "PET"))
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean", accept_suspect=True)
    for _ in range(2):
        outcome = model.fusion_job().run()
        assert isinstance(outcome, Done), outcome
        for _ in model.show(outcome.value):
            pass
        model.nudge((6.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    return model.fusion


def no_progress(fraction, text):
    pass


def test_sphere_and_isocontour_at_the_cross_hair_are_those_of_medfuse_measure(fused, make):
    moved = (LESION[0] - 6.0, *LESION[1:])
    index = index_of_point(fused.pair.anatomical, moved)
    ball = regions.sphere_at(fused, index, 6.0, 1)
    contour = regions.isocontour_at(fused, index, "50 %", 2)
    np.testing.assert_allclose(ball.centre, moved, atol=1e-6)
    np.testing.assert_allclose(contour.seed, LESION, atol=1e-6)  # in the world of the PET
    found = regions.measured(fused, (ball, contour), no_progress)
    expected = medfuse.measure(
        make.uptake(),
        [Sphere("a", moved, 6.0), Isocontour("b", Threshold(0.5, True), LESION)],
        anatomical=make.head(),
        registration=fused.registration,
        share=fused.result.share,
    )
    for mine, theirs in zip(found.table, expected, strict=True):
        for name in ("max", "mean", "peak", "volume_ml", "tlg", "anatomical_mean",
                     "anatomical_contribution", "registration_error_mm"):  # fmt: skip
            assert getattr(mine, name) == getattr(theirs, name), name
    assert found.table[0].max == pytest.approx(7.0)
    drawn = found.output.data
    for number in (0, 1):
        rim = np.argwhere(drawn == regions.color_of(number))
        assert len(rim) > 10
        assert (np.abs(rim - index) * fused.pair.anatomical.order.spacing).max() < 14
    assert drawn[tuple(round(i) for i in index)] == 0, "the inside stays free"
    heads, rows = regions.cells(found)
    assert heads[0] == "Region"
    assert "MRI mean" in heads
    assert [row[0] for row in rows] == ["sphere 1", "isocontour 2"]
    assert all(len(row) == len(heads) for row in rows)


def test_the_csv_has_every_column(fused):
    index = index_of_point(fused.pair.anatomical, LESION)
    found = regions.measured(fused, (regions.sphere_at(fused, index, 6.0, 1),), no_progress)
    [row] = list(csv.DictReader(io.StringIO(regions.as_csv(found.table))))
    assert row["region"] == "sphere 1"
    assert float(row["mean"]) == found.table.to_dict()[0]["mean"]
    assert set(row) == set(found.table.to_dict()[0])


def labels_on(fused, name="lesion") -> Labels:
    source = fused.pair.anatomical
    return Labels(np.zeros(source.data.shape, np.uint8), name=name, **source.transform)


def test_painted_labels_are_regions_where_they_were_painted(fused):
    layer = labels_on(fused)
    layer.data[10:14, 15:19, 12:16], layer.data[3:5, 20:25, 20:22] = 1, 4
    found = regions.painted_regions(fused, layer)
    assert [(r.name, r.label) for r in found] == [("lesion 1", 1), ("lesion 4", 4)]
    table = regions.measured(fused, tuple(found), no_progress).table
    source = fused.pair.anatomical
    voxel_ml = np.prod(source.order.spacing) / 1000
    assert table[0].volume_ml == pytest.approx(64 * voxel_ml)
    assert table[0].anatomical_mean == pytest.approx(source.data[10:14, 15:19, 12:16].mean())


@pytest.mark.parametrize("kind", ["empty", "shape", "place"])
def test_labels_that_are_no_regions_are_refused(fused, kind):
    layer = labels_on(fused)
    if kind == "shape":
        layer = Labels(np.ones((4, 5, 6), np.uint8))
    elif kind == "place":
        layer.data[2:4, 2:4, 2:4] = 1
        layer.translate = np.asarray(layer.translate) + 5
    with pytest.raises(MedfuseError, match="E_REGION"):
        regions.painted_regions(fused, layer)


def test_a_mask_from_a_file_lies_on_its_image(fused, tmp_path, make):
    mask = np.zeros(make.head().shape[1:], np.uint8)
    mask[10:15, 20:26, 8:12] = 1
    path = write_nifti(tmp_path / "gtv.nii.gz", mask, np.asarray(make.head().affine))
    found = regions.regions_in_file(fused, path, settings=CaseSettings(), number=3)
    table = regions.measured(fused, tuple(found), no_progress).table
    assert table[0].space == "anatomical"
    expected = np.asarray(make.head())[0][mask > 0].mean()
    assert table[0].anatomical_mean == pytest.approx(expected, rel=1e-5)


def test_every_region_has_a_color_of_its_own_and_nothing_is_clear():
    values = np.arange(regions.MOST_COLORS + 1) / (regions.MOST_COLORS + 1)
    colors = regions.COLORS.map(values)
    assert colors[0, 3] == 0
    assert (colors[1:, 3] == 1).all()
    assert len({tuple(c) for c in colors.round(3)}) == regions.MOST_COLORS + 1


def test_an_unusable_threshold_is_said_in_one_line(fused):
    with pytest.raises(MedfuseError, match="E_SETTINGS"):
        regions.isocontour_at(fused, (1, 1, 1), "much", 1)


@pytest.mark.gl
def test_one_click_measures_and_follows_the_fusion(scene, qtbot, tmp_path):
    viewer, panel = scene
    panel.fuse_tab.registration.setCurrentText("identity")
    panel.fuse_tab.method.setCurrentText("mean")

    def idle() -> bool:
        return not panel.runner.is_busy

    panel.fuse.click()
    qtbot.waitUntil(idle, timeout=120_000)
    panel.model.jumps()["Hottest voxel"]()
    tab = panel.regions_tab
    tab.sphere.click()
    tab.isocontour.click()
    qtbot.waitUntil(lambda: idle() and tab.table.rowCount() == 2, timeout=60_000)
    assert outputs.find(viewer, outputs.REGIONS).visible
    assert tab.table.item(1, 1).text() == "7"
    assert json.loads(panel.record_tab.text.toPlainText())["regions"][0]["region"] == "sphere 1"
    before = tab.table.item(0, 6).text()
    earlier = weakref.ref(panel.model.fusion)
    panel.model.nudge((8.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    assert "alignment changed" in tab.headline.text()
    panel.fuse.click()
    qtbot.waitUntil(lambda: idle() and tab.found.fusion is panel.model.fusion, timeout=120_000)
    assert "alignment" not in tab.headline.text()
    qtbot.waitUntil(lambda: gc.collect() >= 0 and earlier() is None)  # gigabytes of a large pair
    assert tab.table.item(0, 6).text() == before, "the sphere stays where it was in the MRI"
    tab.table.item(0, 0).setText("liver")
    qtbot.waitUntil(lambda: idle() and tab.found.table[0].region == "liver", timeout=60_000)
    panel.region_tools.save(tmp_path / "r.tsv")
    assert (tmp_path / "r.tsv").read_text().splitlines()[1].startswith("liver\t")
    tab.copy.click()
    panel.export(tmp_path / "case")
    qtbot.waitUntil(lambda: idle() and (tmp_path / "case-regions.tsv").exists(), timeout=120_000)
    tab.new.click()
    painted = viewer.layers[-1]
    np.testing.assert_allclose(linear_map(painted), linear_map(viewer.layers["T1"]))
    tab.table.selectRow(0)
    tab.remove.click()
    qtbot.waitUntil(lambda: idle() and tab.table.rowCount() == 1, timeout=60_000)
    panel.fuse_tab.swap.click()
    assert "of an earlier pair" in tab.headline.text().lower()
