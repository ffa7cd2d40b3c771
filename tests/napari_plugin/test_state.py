"""Whatever a user does, in whatever order: nothing on screen contradicts what is chosen.

The model is driven by random actions. What is true is kept by the test itself: copies of voxels,
places, statements and settings of each fusion, compared in full after every action.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from napari.components import ViewerModel

from medfuse.errors import MedfuseError
from napari_plugin import outputs
from napari_plugin.case import export_job
from napari_plugin.jobs import Done, Failed
from napari_plugin.layers import TAG, facts
from napari_plugin.looking import BEFORE
from napari_plugin.model import FusionModel
from napari_plugin.placing import linear_map

SMALL = (14, 16, 10)
NAMES = ("x", "T1", "Fusion: PET + MRI", "a (b)")
VIEWS = (outputs.CHECKER, outputs.EDGES, outputs.OVERLAY, BEFORE)


def described(layer) -> tuple:
    """All that a layer is, in full."""
    meta = facts(layer)
    said = meta.get("modality"), meta.get("unit")
    return layer.unique_id, np.array(layer.data), linear_map(layer), said


def same(then: tuple, layer) -> bool:
    if layer is None:
        return False
    now = described(layer)
    return (
        then[0] == now[0]
        and np.array_equal(then[1], now[1])
        and np.array_equal(then[2], now[2])
        and then[3] == now[3]
    )


class AnyUser(RuleBasedStateMachine):
    """A user of the panel without a window."""

    make = None  # the makers of images, set by the test
    tmp = None

    @initialize()
    def open(self):
        self.viewer = ViewerModel()
        for name in ("T1", "PET"):
            self._add(name)
        self.model = FusionModel(self.viewer)
        self.model.choose(registration="identity", method="mean", accept_suspect=True)
        self._add_labels()
        self.true = None  # what the last fusion was made of
        self.exports = 0

    def _add(self, name: str) -> None:
        spacing = (80 / SMALL[0], 90 / SMALL[1], 70 / SMALL[2])
        if name.startswith("PET"):
            volume = self.make.uptake(SMALL, spacing)
        else:
            volume = self.make.head(SMALL, spacing)
        if name.startswith("CT"):
            volume.meta |= {"modality": "CT", "unit": "HU"}
        self.viewer.add_layer(self.make.layer(volume, name))

    def _add_labels(self) -> None:
        image = self.viewer.layers["T1"]
        lesion = np.zeros(image.data.shape, np.uint8)
        lesion[3:6, 6:9, 5:9] = 1
        place = {name: getattr(image, name) for name in ("scale", "translate", "units")}
        self.viewer.add_labels(lesion, name="lesion", **place)

    def _run(self, job) -> object | None:
        outcome = job.run() if job is not None else None
        return outcome.value if isinstance(outcome, Done) else None

    # -- layers --

    @rule(name=st.sampled_from(["T1 b", "PET b", "CT"]))
    def opens(self, name):
        if len(self.model.candidates()) < 5:
            self._add(name)

    @rule(role=st.sampled_from(["anatomical", "functional"]), number=st.integers(0, 4))
    def chooses(self, role, number):
        layers = self.model.candidates()
        if layers:
            setattr(self.model, role, layers[number % len(layers)])

    @rule(number=st.integers(0, 20))
    def deletes(self, number):
        if len(self.viewer.layers) > 2:
            self.viewer.layers.pop(number % len(self.viewer.layers))

    @rule(
        number=st.integers(0, 20), name=st.sampled_from(["x", "T1", "Fusion: PET + MRI", "a (b)"])
    )
    def renames(self, number, name):
        if len(self.viewer.layers):
            self.viewer.layers[number % len(self.viewer.layers)].name = name

    @rule(number=st.integers(0, 20), back=st.booleans())
    def moves(self, number, back):
        if len(self.viewer.layers):
            layer = self.viewer.layers[number % len(self.viewer.layers)]
            layer.translate = np.asarray(layer.translate) + (-3.0 if back else 3.0)

    @rule(role=st.sampled_from(["anatomical", "functional"]), in_place=st.booleans())
    def edits(self, role, in_place):
        layer = getattr(self.model, role)
        if layer is None or layer.data.std() == 0:
            return
        if in_place:
            layer.data[2:6] += layer.data.max() / 9
            layer.refresh()
            self.model.judge()  # napari says nothing of a hidden layer; the panel looks each second
        else:
            layer.data = layer.data * 1.25

    @rule(
        role=st.sampled_from(["anatomical", "functional"]),
        said=st.sampled_from([{"unit": "Bq/ml"}, {"unit": "SUVbw"}, {"modality": "SPECT"}]),
    )
    def corrects(self, role, said):
        if (layer := getattr(self.model, role)) is not None:
            self.model.state(layer, **said)

    # -- region of the registration --

    @rule(on=st.booleans())
    def chooses_a_region(self, on):
        found = self.model.must_fit.candidates()
        self.model.choose_region(found[0] if on and found else None)

    @rule(number=st.integers(0, 5), how=st.sampled_from(["paint", "in place", "undo"]))
    def paints(self, number, how):
        layers = self.model.must_fit.candidates()
        if not layers:
            return
        if how == "undo":
            layers[0].undo()
        elif how == "paint":
            layers[0].data_setitem(tuple(np.array([n]) for n in (4, 7, number)), 1 - number % 2)
        else:
            layers[0].data[5, 8, number] += 1
        self.model.judge()  # the panel looks each second

    # -- panel --

    @rule(
        changes=st.sampled_from(
            [{"bias": 0.3}, {"bias": 0.0}, {"colormap": "ember"}, {"window": (0.0, 4.0)},
             {"window": None}, {"method": "max"}, {"method": "mean"}, {"accept_suspect": True}]
        )
    )  # fmt: skip
    def turns_a_setting(self, changes):
        self.model.choose(**changes)

    @rule(shift=st.sampled_from([0.0, 4.0]))
    def nudges(self, shift):
        self.model.nudge((shift, 0.0, 0.0), (0.0, 0.0, 0.0))

    @rule()
    def previews(self):
        try:
            made = self._run(self.model.preview_job())
        except MedfuseError:
            return
        if made is not None:
            self.model.show_preview(made)

    @rule(view=st.sampled_from(VIEWS), on=st.booleans())
    def switches(self, view, on):
        made = self._run(self.model.view_job(view, on))
        for _ in self.model.show_view(view, on, made):
            pass

    @rule(slice_=st.integers(0, SMALL[2]))
    def scrolls(self, slice_):
        self.viewer.dims.set_current_step(0, slice_)

    @rule()
    def registers(self):
        self._show(self.model.registration_job)

    @rule()
    def fuses(self):
        layers = (self.model.anatomical, self.model.functional)
        true = [described(layer) for layer in layers if layer is not None]
        chosen, moved = self.model.settings, self.model._moved
        region = self._region()
        value = self._show(self.model.fusion_job)
        if value is not None and value is self.model.fusion:
            known = moved is not None and self.model._moved is value.registration
            matrix = value.registration.matrix if known or moved is None else None
            self.true = (*true, chosen, matrix, region)
            self.picture = outputs.find(self.viewer, outputs.PICTURE).data.copy()

    def _region(self) -> tuple | None:
        layer = self.model.must_fit.layer
        return None if layer is None else described(layer)

    def _is_same_region(self, then: tuple | None) -> bool:
        layer = self.model.must_fit.layer
        return layer is None if then is None else same(then, layer)

    def _show(self, make):
        try:
            outcome = make().run()
            assert isinstance(outcome, Done | Failed)
            if isinstance(outcome, Failed):
                assert outcome.code != "E_INTERNAL", outcome
                return None
            for _ in self.model.show(outcome.value):
                pass
        except MedfuseError:
            return None
        return outcome.value

    @precondition(lambda self: self.model.result is not None and self.exports < 1)
    @rule()
    def exports_it(self):
        self.exports += 1
        fusion, result = self.model.fusion, self.model.judge()
        edited = not all(
            source.checksum() == content
            for source, content in zip(
                (fusion.pair.anatomical, fusion.pair.functional), fusion.contents, strict=True
            )
        )
        assert result.is_current == self._is_true()
        assert result.is_current or result.why in result.question
        outcome = export_job(fusion, self.tmp / f"{id(self)}").run()
        assert isinstance(outcome, Failed if edited else Done), outcome
        assert not edited or outcome.code == "E_EDITED"

    # -- what must hold --

    def _is_true(self) -> bool:
        """Whether all is as it was when the last fusion was made, by the copies of the test."""
        model, true = self.model, self.true
        return (
            true is not None
            and same(true[0], model.anatomical)
            and same(true[1], model.functional)
            and self._is_same_region(true[4])
            and _decisive(true[2]) == _decisive(model.settings)
            and model.registration is not None
            and np.array_equal(model.registration.matrix, model.fusion.registration.matrix)
        )

    @invariant()
    def nothing_contradicts(self):
        model = getattr(self, "model", None)
        if model is None or model.result is None:
            return
        result, is_true = model.result, self._is_true()
        assert result.is_current == is_true, result.why
        assert model.summary().startswith("Audit:") == is_true
        assert result.headed("x") == (
            "x" if is_true else f"{result.why[0].upper()}{result.why[1:]}: x"
        )
        point = self.viewer.layers[0].data_to_world((4, 5, 6))
        told = model.read_out(point)
        assert is_true or not told or told.lower().startswith(result.why.lower())
        for layer in self.viewer.layers:
            if outputs.role_of(layer) is not None:
                self._name_is_honest(layer, is_true)
        picture = outputs.find(self.viewer, outputs.PICTURE)
        if picture is not None and is_true:
            np.testing.assert_array_equal(picture.data, self.picture)

    def _name_is_honest(self, layer, is_true: bool) -> None:
        """A layer without a remark in its name shows what is chosen, where it belongs."""
        model, entry = self.model, layer.metadata[TAG]
        is_of_result = entry["of"] == model.fusion.token
        is_of_alignment = (
            model._aligned is not None
            and entry["of"] == model._aligned.token
            and model.registration is model._aligned.registration
        )
        is_at_place = np.allclose(linear_map(layer), entry["shown_at"])
        honest = (is_of_result and is_true) or is_of_alignment
        if not (honest and is_at_place):
            assert entry["suffix"], layer.name
            assert layer.name.endswith(entry["suffix"]) or _numbered(layer.name, entry["suffix"])
        if entry["role"] == outputs.ON_GRID and model.is_on(BEFORE):
            assert "where its file has it" in layer.name


def _numbered(name: str, suffix: str) -> bool:
    """napari adds [1] to a name that is there already."""
    return name.split(" [")[0].endswith(suffix)


def _decisive(chosen) -> dict:
    return chosen.model_dump(
        include={
            "method",
            "mode",
            "bias",
            "colormap",
            "window",
            "anatomical_window",
            "registration",
        }
    )


def test_no_text_layer_or_export_contradicts_the_state(make, tmp_path):
    AnyUser.make, AnyUser.tmp = make, tmp_path
    run = AnyUser.TestCase
    run.settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],  # a failure is told at once, not shrunk for long
        suppress_health_check=list(HealthCheck),
    )
    run().runTest()


EXAMPLES, STEPS = 12, 25
pytestmark = pytest.mark.filterwarnings("ignore")
