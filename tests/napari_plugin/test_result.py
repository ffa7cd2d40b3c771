"""What the panel shows of a result follows from what is chosen, whatever the user does."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.errors import MedfuseError
from napari_plugin import outputs
from napari_plugin.jobs import Done
from napari_plugin.model import FusionModel


def fuse(model: FusionModel) -> bool:
    outcome = model.fusion_job().run()
    if not isinstance(outcome, Done):
        return False
    try:
        for _ in model.show(outcome.value):
            pass
    except MedfuseError:
        return False
    return True


@pytest.fixture
def model(viewer, make) -> FusionModel:
    ct = make.uptake(shape=(30, 36, 20))
    ct.meta |= {"modality": "CT", "unit": "HU"}
    ct *= 100
    viewer.add_layer(make.layer(ct, "CT"))
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean", accept_suspect=True)
    assert fuse(model)
    return model


def names(model: FusionModel) -> list[str]:
    return [layer.name for layer in model.viewer.layers if outputs.role_of(layer)]


def other_functional(model):
    model.functional = model.viewer.layers["CT"]


def removed(model):
    model.viewer.layers.remove("PET")


def moved_layer(model):
    layer = model.viewer.layers["PET"]
    layer.translate = np.asarray(layer.translate) + 4.0


def nudged(model):
    model.nudge((3.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def replaced(model):
    model.viewer.layers["PET"].data = model.viewer.layers["PET"].data * 1.5


def edited_in_place(model):
    model.viewer.layers["T1"].data[5:15] += 100
    model.viewer.layers["T1"].refresh()


def described(model):
    model.state(model.viewer.layers["PET"], unit="Bq/ml")


def settings(model):
    model.choose(bias=0.4)


def swapped(model):
    model.anatomical, model.functional = model.functional, model.anatomical


CHANGES = {
    other_functional: "an earlier pair (T1 + PET)",
    removed: "an earlier pair (T1 + PET)",
    swapped: "an earlier pair (T1 + PET)",
    moved_layer: "the place of PET",
    nudged: "the alignment",
    replaced: "the voxels of PET",
    edited_in_place: "the voxels of T1",
    described: "modality or unit of PET",
    settings: "the settings",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_after_a_change_everything_says_of_what_it_is(model, change):
    told = []
    model.result_changed.connect(lambda: told.append(model.result.why))
    assert model.result.is_current
    assert model.summary().startswith("Audit:")
    change(model)
    assert told, "the panel is not told"
    assert CHANGES[change] in model.result.why
    assert CHANGES[change] in model.summary()
    assert "Audit" not in model.summary()
    assert all(CHANGES[change] in name for name in names(model))
    point = model.viewer.layers["T1"].data_to_world((12, 24, 20))
    assert CHANGES[change] in model.read_out(point).replace("Made before", "made before")


def test_what_was_changed_back_is_current_again(model):
    before = names(model)
    model.choose(bias=0.4)
    model.choose(bias=0.0)
    assert model.result.is_current
    assert names(model) == before


def test_layer_names_are_those_of_the_present_pair(model):
    other_functional(model)
    assert fuse(model)
    assert not [name for name in names(model) if "PET" in name]
    assert "Fusion: CT + MRI" in names(model)


def test_a_name_that_the_user_gave_is_kept(model):
    outputs.find(model.viewer, outputs.PICTURE).name = "for the talk"
    model.choose(bias=0.4)
    assert outputs.find(model.viewer, outputs.PICTURE).name.startswith("for the talk (made")
    assert fuse(model)
    assert outputs.find(model.viewer, outputs.PICTURE).name == "for the talk"


def test_accepting_something_does_not_age_a_result(model):
    model.choose(accept_suspect=False, allow_patient_mismatch=True)
    assert model.result.is_current


ACTIONS = (
    other_functional, swapped, moved_layer, nudged, replaced, edited_in_place, described,
    settings, fuse, fuse, fuse,
    lambda model: setattr(model, "functional", model.viewer.layers["PET"]),
    lambda model: setattr(model, "anatomical", model.viewer.layers["T1"]),
    lambda model: model.choose(registration="rigid"),
    lambda model: model.choose(registration="identity", bias=0.0),
    lambda model: model.forget_registration(),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_no_sequence_of_actions_leaves_a_stale_claim(model, seed):
    random = np.random.default_rng(seed)
    for number in random.integers(len(ACTIONS), size=12):
        action = ACTIONS[number]
        try:
            if action(model) is True and action is fuse:
                assert model.result.is_current
        except MedfuseError:
            pass
        result, fusion = model.result, model.fusion
        is_same = (
            fusion.pair.key == model.pair_key()
            and fusion.settings.bias == model.settings.bias
            and fusion.settings.registration == model.settings.registration
            and model.registration is not None
            and np.array_equal(model.registration.matrix, fusion.registration.matrix)
        )
        assert result.is_current == is_same, result.why
        assert model.summary().startswith("Audit:") == is_same
        assert [name.endswith(")") and result.why in name for name in names(model)] == (
            [True] * len(names(model)) if result.why else
            [name.endswith(")") for name in names(model)]
        )  # fmt: skip
        words = {"PET", "CT", "MRI"} - set(fusion.pair.words)
        plain = [name.removesuffix(result.suffix) for name in names(model)]
        assert not [name for name in plain if words & set(name.split())]
