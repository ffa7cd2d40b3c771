"""The panel without Qt, on a real ViewerModel."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor
from napari.components import ViewerModel
from napari.layers import Image

from medfuse.errors import RegistrationError, UsageError
from medfuse.fusion import fuse
from medfuse.kernel.two_way_reading import two_way_reading
from medfuse.results.export import is_complete
from medfuse.settings import label_of
from napari_plugin import outputs
from napari_plugin.case import export_job
from napari_plugin.jobs import Done, Failed, Stopped
from napari_plugin.layers import layer_data
from napari_plugin.model import STILL, FusionModel
from napari_plugin.placing import linear_map
from napari_plugin.records import Aligned, Fusion

ROLES = [
    outputs.ON_GRID,
    outputs.LUMINANCE,
    outputs.WEIGHTS_MAP,
    outputs.SHARE,
    outputs.PICTURE,
    outputs.OUT_OF_RANGE,
    outputs.CLIPPED,
]


def fused(model: FusionModel, **settings) -> Fusion:
    """Fuse as the panel does, without the thread."""
    model.choose(**({"registration": "identity", "method": "mean"} | settings))
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass
    return outcome.value


def preview(model: FusionModel) -> None:
    """Preview as the panel does, without the thread."""
    outcome = model.preview_job().run()
    assert isinstance(outcome, Done), outcome
    model.show_preview(outcome.value)


def switch(model: FusionModel, view: str, on: bool) -> None:
    """Switch a view as the panel does, without the thread."""
    job = model.view_job(view, on)
    for _ in model.show_view(view, on, job.run().value if job else None):
        pass


@pytest.mark.parametrize("colormap", ["ember", "hot"])
def test_the_first_point_under_the_cursor_waits_for_no_table(viewer, colormap):
    model = FusionModel(viewer)
    two_way_reading.cache_clear()
    fused(model, colormap=colormap, bias=0.4)
    made = two_way_reading.cache_info().misses
    assert "color reads" in model.read_out(outputs.find(viewer, outputs.PICTURE).translate)
    assert two_way_reading.cache_info().misses == made


def test_layers_are_chosen_by_what_they_say(viewer):
    model = FusionModel(viewer)
    assert model.anatomical.name == "T1"
    assert model.functional.name == "PET"


def test_ct_is_functional_beside_mri_and_anatomical_beside_pet(make):
    ct = make.head()
    ct.meta |= {"modality": "CT", "unit": "HU"}
    for other, role in ((make.head(), "functional"), (make.uptake(), "anatomical")):
        viewer = ViewerModel()
        viewer.add_layer(make.layer(ct, "CT"))
        viewer.add_layer(make.layer(other, "other"))
        assert getattr(FusionModel(viewer), role).name == "CT"


def test_outputs_stand_on_the_anatomical_grid_with_its_units(viewer):
    model = FusionModel(viewer)
    fused(model)
    anatomical = viewer.layers["T1"]
    for role in ROLES:
        layer = outputs.find(viewer, role)
        np.testing.assert_array_equal(linear_map(layer), linear_map(anatomical))
        assert layer.units == anatomical.units
        assert layer.axis_labels == anatomical.axis_labels
        assert layer.data.shape[:3] == anatomical.data.shape
    assert len({layer.units for layer in viewer.layers}) == 1


def test_the_picture_is_what_medfuse_fuse_gives(viewer, make):
    model = FusionModel(viewer)
    result = fused(model)
    anatomical, functional = make.head(), result.registration.resample(make.uptake())
    expected = fuse(functional=functional, anatomical=anatomical, method="mean")
    rgb = np.asarray(expected.rgb)
    picture = outputs.find(viewer, outputs.PICTURE)
    for index in [(20, 24, 12), (14, 30, 13), (5, 40, 3)]:
        world = np.asarray(anatomical.affine)[:3, :3] @ index + np.asarray(anatomical.affine)[:3, 3]
        where = np.round(picture.world_to_data((-world[2], -world[1], -world[0]))).astype(int)
        np.testing.assert_allclose(
            picture.data[tuple(where)], np.rint(255 * rgb[(slice(None), *index)]), atol=0
        )


def test_a_second_run_updates_layers_in_place_and_keeps_names_and_looks(viewer):
    model = FusionModel(viewer)
    fused(model)
    count = len(viewer.layers)
    picture = outputs.find(viewer, outputs.PICTURE)
    picture.name, picture.opacity = "my picture", 0.4
    before = picture.data.copy()
    fused(model, bias=-0.8)
    assert len(viewer.layers) == count
    assert outputs.find(viewer, outputs.PICTURE) is picture
    assert (picture.name, picture.opacity) == ("my picture", 0.4)
    assert (picture.data != before).any()


def test_what_a_network_painted_is_shown_until_another_method_runs(viewer, painter):
    model = FusionModel(viewer)
    fusion = fused(model, method=painter)
    painted = outputs.find(viewer, outputs.PAINTED).data
    np.testing.assert_allclose(painted, fusion.result.painted[0].permute(2, 1, 0).flip(0, 1, 2))
    assert painted.max() > 0.3
    before = outputs.find(viewer, outputs.PICTURE).data.copy()
    preview(model)
    np.testing.assert_array_equal(outputs.find(viewer, outputs.PICTURE).data, before)
    fused(model)
    assert outputs.find(viewer, outputs.PAINTED) is None


def test_a_run_on_another_pair_moves_the_layers_to_its_grid(viewer, make):
    model = FusionModel(viewer)
    fused(model)
    other = make.layer(make.head(shape=(30, 36, 20), shift=(5.0, 0.0, 0.0)), "other T1")
    viewer.add_layer(other)
    model.anatomical = other
    fused(model)
    picture = outputs.find(viewer, outputs.PICTURE)
    np.testing.assert_array_equal(linear_map(picture), linear_map(other))
    assert picture.data.shape == (20, 36, 30, 3)
    assert sum(outputs.role_of(layer) == outputs.PICTURE for layer in viewer.layers) == 1


def test_bias_moves_the_share_and_stands_in_the_record(viewer):
    model = FusionModel(viewer)
    results = [fused(model, bias=b, colormap="ember").result for b in (-0.5, 0.0, 0.5)]
    shares = [float(result.share.mean()) for result in results]
    assert shares == sorted(shares)
    assert len(set(shares)) == 3
    assert model.fusion.settings.bias == 0.5


def test_the_read_out_says_all_values_and_reads_the_uptake_from_the_colour(viewer):
    model = FusionModel(viewer)
    assert model.read_out((0, 0, 0)) == ""
    fused(model)
    inside = model.read_out((-4.0, -14.0, 12.0))  # S 4, A 14, R -12: the lesion
    assert inside.startswith("MRI 900 a.u.  |  PET 7.00 SUVbw  |  weight 0.50")
    reading = float(inside.split("color reads ")[1].split(" ")[0])
    assert reading == pytest.approx(6.0, abs=0.03)  # the window ends there
    brain = model.read_out((-4.0, 10.0, 10.0))
    reading = float(brain.split("color reads ")[1].split(" ")[0])
    assert reading == pytest.approx(3.0, abs=0.06)
    assert model.read_out((900.0, 0.0, 0.0)) == "outside the fused volume"


def test_registration_finds_a_shift_and_fusion_uses_it(viewer, make):
    shifted = make.uptake(shift=(8.0, -6.0, 10.0))
    viewer.layers.remove("PET")
    viewer.add_layer(make.layer(shifted, "PET far"))
    model = FusionModel(viewer)
    model.choose(registration="rigid", method="mean", accept_suspect=True)
    outcome = model.registration_job().run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass
    assert isinstance(outcome.value, Aligned)
    middle = model.registration.matrix[:3, 3]
    np.testing.assert_allclose(middle, [8.0, -6.0, 10.0], atol=2.5)
    layer = outputs.find(viewer, outputs.ON_GRID)
    assert layer.visible
    assert not viewer.layers["PET far"].visible
    assert fused(model, registration="rigid").registration is outcome.value.registration


def test_another_way_of_registering_makes_the_old_one_void(viewer):
    model = FusionModel(viewer)
    fused(model)
    assert model.registration is not None
    model.choose(registration="auto")
    assert model.registration is None


def test_a_suspect_registration_is_shown_but_not_fused_until_accepted(viewer, make):
    viewer.layers.remove("PET")
    apart = make.uptake(shift=(60.0, 0.0, 0.0))
    viewer.add_layer(make.layer(apart, "PET apart"))
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    value = model.fusion_job().run().value
    with pytest.raises(RegistrationError, match=r"suspect.*\[E_REGISTRATION\]"):
        for _ in model.show(value):
            pass
    assert model.registration_text()[1]
    assert outputs.find(viewer, outputs.ON_GRID) is not None
    assert outputs.find(viewer, outputs.PICTURE) is None
    result = fused(model, accept_suspect=True)
    assert result.audit["registration"].verdict == "fail"


def test_moving_by_hand_writes_the_registration_that_is_fused(viewer):
    model = FusionModel(viewer)
    fused(model)
    found = model.registration
    lesion = model.fusion.on_grid[0].argmax()
    assert model.nudge((6.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    assert model.registration is not found
    assert "moved by hand: 6 mm left" in model.registration.reasons[0]
    assert "GOOD" not in model.registration_text()[0]
    np.testing.assert_allclose(model.registration.matrix[:3, 3], [6.0, 0.0, 0.0], atol=1e-9)
    moved = fused(model)
    assert moved.registration is model.registration
    old, new = (np.unravel_index(int(i), (40, 48, 24)) for i in (lesion, moved.on_grid[0].argmax()))
    assert new[0] - old[0] == -3  # 6 mm to the left at 2 mm a voxel
    model.nudge((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    assert model.registration is found


def test_preview_paints_the_slice_that_a_full_run_gives(viewer):
    model = FusionModel(viewer)
    fused(model, window=(0.0, 6.0), anatomical_window=(0.0, 900.0))
    viewer.dims.set_point(0, 4.0)
    model.choose(bias=0.6)
    picture = outputs.find(viewer, outputs.PICTURE)
    number = int(picture.world_to_data(viewer.dims.point)[0] + 0.5)
    before = picture.data.copy()
    preview(model)
    changed = np.flatnonzero((picture.data != before).any(axis=(1, 2, 3)))
    assert changed.tolist() == [number]
    painted = picture.data[number].copy()
    fused(model, window=(0.0, 6.0), anatomical_window=(0.0, 900.0))
    np.testing.assert_array_equal(picture.data[number], painted)


def test_preview_follows_the_hand(viewer):
    model = FusionModel(viewer)
    fused(model)
    picture = outputs.find(viewer, outputs.PICTURE)
    viewer.dims.set_point(0, -4.0)
    number = int(picture.world_to_data(viewer.dims.point)[0] + 0.5)
    model.nudge((10.0, 4.0, 0.0), (0.0, 0.0, 5.0))
    preview(model)
    painted = picture.data[number].copy()
    fused(model)
    difference = np.abs(picture.data[number].astype(int) - painted)
    assert difference.max() <= 1


def test_before_shows_the_unregistered_image_and_comes_back(viewer):
    model = FusionModel(viewer)
    fused(model)
    model.nudge((10.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    fused(model)
    layer, picture = (outputs.find(viewer, r) for r in (outputs.ON_GRID, outputs.PICTURE))
    after = layer.data.copy()
    switch(model, "before", True)
    assert layer.visible
    assert not picture.visible
    assert (layer.data != after).any()
    switch(model, "before", False)
    np.testing.assert_array_equal(layer.data, after)
    assert picture.visible


@pytest.mark.parametrize("view", [outputs.CHECKER, outputs.EDGES])
def test_checkerboard_and_edges_come_follow_the_hand_and_go(viewer, view):
    model = FusionModel(viewer)
    fused(model)
    switch(model, view, True)
    layer = outputs.find(viewer, view)
    before = layer.data.copy()
    assert before.any()
    np.testing.assert_array_equal(linear_map(layer), linear_map(viewer.layers["T1"]))
    model.nudge((10.0, 0.0, 0.0), STILL)
    fused(model)
    assert outputs.find(viewer, view) is layer
    assert (layer.data != before).any()
    switch(model, view, False)
    assert not layer.visible
    count = len(viewer.layers)
    switch(model, view, True)
    assert layer.visible
    assert len(viewer.layers) == count


def test_a_cancelled_job_leaves_nothing(viewer):
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    job = model.fusion_job()
    names = [layer.name for layer in viewer.layers]

    def stop(fraction, text):
        if fraction > 0.5:
            job.cancel()

    assert isinstance(job.run(stop), Stopped)
    assert [layer.name for layer in viewer.layers] == names
    assert model.fusion is None


def test_layers_renamed_and_deleted_during_a_run_do_no_harm(viewer):
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    job = model.fusion_job()

    def meddle(fraction, text):
        viewer.layers[0].name = "renamed"
        if "PET" in viewer.layers and fraction > 0.6:
            viewer.layers.remove("PET")

    outcome = job.run(meddle)
    for _ in model.show(outcome.value):
        pass
    assert outputs.find(viewer, outputs.PICTURE) is not None
    assert model.functional is None
    assert isinstance(_failure(model), UsageError)


def _failure(model):
    try:
        model.fusion_job()
    except UsageError as error:
        return error
    return None


def test_output_layers_are_not_offered_as_inputs(viewer):
    model = FusionModel(viewer)
    fused(model)
    assert [layer.name for layer in model.candidates()] == ["T1", "PET"]


def test_one_layer_cannot_play_both_roles(viewer):
    model = FusionModel(viewer)
    model.functional = model.anatomical
    with pytest.raises(UsageError, match=r"\[E_SAME_LAYER\]"):
        model.fusion_job()


def test_two_patients_are_refused_until_the_user_insists(viewer):
    for layer, patient in zip(viewer.layers, ("aaaa", "bbbb"), strict=True):
        layer.metadata["medfuse"]["meta"]["source"]["patient"] = patient
    model = FusionModel(viewer)
    assert model.patients_differ()
    model.choose(registration="identity", method="mean")
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Failed)
    assert outcome.code == "E_MIXED_PATIENT"
    assert "aaaa" not in outcome.text
    assert f'"{label_of("allow_patient_mismatch")}" ticked' in outcome.text
    fused(model, allow_patient_mismatch=True)


def test_flat_images_are_fused_as_flat_layers_and_exported(tmp_path):
    rng = np.random.default_rng(1)
    viewer = ViewerModel()
    for name, modality, unit in (("mri", "MRI", "a.u."), ("pet", "PET", "SUVbw")):
        layer = Image(rng.random((40, 50)).astype(np.float32) * 5, name=name, scale=(2, 1))
        viewer.add_layer(layer)
        FusionModel(viewer).state(layer, modality=modality, unit=unit, scale_is_mm=True)
    model = FusionModel(viewer)
    result = fused(model)
    picture = outputs.find(viewer, outputs.PICTURE)
    assert picture.data.shape == (40, 50, 3)
    assert picture.ndim == 2
    assert result.registration.method == "identity"
    assert "share" in model.read_out((20.0, 20.0))
    before = picture.data.copy()
    model.choose(bias=0.5)
    preview(model)
    assert (picture.data != before).any()
    assert isinstance(export_job(result, tmp_path / "flat").run(), Done)
    assert is_complete(tmp_path / "flat", rehash=True)


def test_a_coloured_functional_layer_keeps_its_colours(viewer, make):
    from medfuse.kernel.colormaps import apply_colormap

    scalar = make.uptake()
    rgb = apply_colormap((scalar.as_tensor() / 7)[None], "hot")[0]
    meta = {key: scalar.meta[key] for key in ("modality", "unit", "notes")}
    colour = MetaTensor(rgb, affine=scalar.affine, meta=meta)
    viewer.layers.remove("PET")
    data, kwargs, _ = layer_data(colour, name="RGB PET")
    viewer.add_layer(Image(data, **kwargs))
    model = FusionModel(viewer)
    result = fused(model)
    assert result.result.colormap is None
    assert outputs.find(viewer, outputs.ON_GRID).rgb
    assert "color reads" not in model.read_out((-4.0, -14.0, 12.0))


def test_oblique_anisotropic_volumes_are_fused_on_their_true_grid(viewer, make):
    from medfuse.imaging.grid import Grid

    angle = np.deg2rad(25)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = make.head(shape=(40, 48, 9), spacing=(2.0, 2.0, 8.0))
    oblique.affine = oblique.affine.new_tensor(turn @ np.asarray(oblique.affine))
    viewer.layers.remove("T1")
    viewer.add_layer(make.layer(oblique, "oblique"))
    result = fused(FusionModel(viewer))
    assert Grid.from_volume(result.result.rgb).same_as(Grid.from_volume(oblique))
    assert outputs.find(viewer, outputs.PICTURE).data.shape == (9, 48, 40, 3)


def test_the_masks_mark_as_many_voxels_as_the_audit_counts(viewer):
    model = FusionModel(viewer)
    audit = fused(model, method="saliency", colormap="ember").audit
    for role, check in ((outputs.OUT_OF_RANGE, "overshoot"), (outputs.CLIPPED, "gamut")):
        marked = (outputs.find(viewer, role).data > 0).mean()
        assert marked == pytest.approx(audit[check].value, abs=1e-6), role
        assert marked > 0, role


def test_two_models_in_two_viewers_do_not_meet(viewer, make):
    other = ViewerModel()
    other.add_layer(make.layer(make.head(), "T1 b"))
    other.add_layer(make.layer(make.uptake(), "PET b"))
    first, second = FusionModel(viewer), FusionModel(other)
    fused(first)
    assert outputs.find(other, outputs.PICTURE) is None
    fused(second, bias=1.0)
    assert first.settings.bias == 0
    assert (
        outputs.find(viewer, outputs.PICTURE).data != outputs.find(other, outputs.PICTURE).data
    ).any()


def test_a_first_slice_is_shown_at_a_coarse_position_before_the_registration_is_judged(
    viewer, make
):
    viewer.layers.remove("PET")
    viewer.add_layer(make.layer(make.uptake(shift=(8.0, -6.0, 10.0)), "PET far"))
    model = FusionModel(viewer)
    model.choose(registration="rigid", method="mean", preset="fast", accept_suspect=True)
    seen, pictures = [], []

    def show(early) -> None:
        model.show_early(early)
        layer = outputs.find(viewer, outputs.PICTURE)
        seen.append(layer.name)
        pictures.append(layer.data.copy())

    outcome = model.fusion_job().run(None, show)
    assert isinstance(outcome, Done), outcome
    coarse = "Fusion: PET + MRI (first slice, coarse alignment)"
    assert seen == [coarse, coarse, "Fusion: PET + MRI (first slice)"]
    colored = (pictures[0].max(-1) != pictures[0].min(-1)).any(axis=(1, 2))
    assert colored.sum() == 1, "one slice is fused, the others are gray"
    for _ in model.show(outcome.value):
        pass
    assert outputs.find(viewer, outputs.PICTURE).name == "Fusion: PET + MRI"
