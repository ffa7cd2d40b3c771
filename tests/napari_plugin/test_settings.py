"""What the panel offers of the settings of a case, and how its errors speak of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from napari.components import ViewerModel

import medfuse
import napari_plugin
from medfuse.errors import SeriesError, UsageError, option
from medfuse.settings import CaseSettings, label_of, option_of
from napari_plugin.jobs import failure
from napari_plugin.model import FusionModel
from napari_plugin.settings import (
    ASKED,
    BUTTONS,
    IN_REGIONS,
    MORE,
    MORE_TITLE,
    WIDGETS,
    choices_of,
    reworded,
    tip_of,
    words,
)

SOURCES = [Path(package.__file__).parent for package in (medfuse, napari_plugin)]
MENTION = re.compile(r"""\boption\(\s*["'](\w+)["'](?:,\s*f?["']([^"']*)["'])?\s*\)""")


def mentions() -> list[tuple[str, str]]:
    """Every setting that an error of ours mentions, with the value that it advises."""
    files = [path for source in SOURCES for path in source.rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    return sorted({found for text in texts for found in MENTION.findall(text)})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("registration", "rigid", f'"{label_of("registration")}" set to rigid'),
        ("accept_suspect", "True", f'"{label_of("accept_suspect")}" ticked'),
        ("allow_patient_mismatch", "False", f'"{label_of("allow_patient_mismatch")}" not ticked'),
        ("window", "LOW HIGH", f'values of your own in "{label_of("window")}"'),
        ("functional_modality", "PET", f'"{label_of("functional_modality")}" set to PET'),
        ("bias", "", f'"{label_of("bias")}"'),
        ("frame", "mean", '"Frame" under "Open..." set to mean'),
        ("frame", "NUMBER", '"Frame" under "Open..."'),
        ("assume_identity", "True", '"Assume identity" under "More settings" ticked'),
        ("kernel", "paper", '"Kernel" under "More settings" set to paper'),
        ("initial", "FILE", '"Initial transform" under "More settings"'),
        ("drawn_on", "functional", '"Drawn on" in the Regions tab set to functional'),
        ("timeout", "SECONDS", '"timeout", which this panel does not have'),
        ("series", "NUMBER", '"Series" under "Open..."'),
    ],
)
def test_errors_speak_of_widgets(name, value, said):
    assert words(name, value) == said


def test_errors_mention_settings():
    assert {("frame", "mean"), ("accept_suspect", "True"), ("registration", "rigid")} < set(
        mentions()
    )


#: Settings of functions that the panel never calls: of batches, of training, of other commands.
NEVER_HERE = {
    "a", "b", "force", "inputs", "layout", "max_memory", "provenance", "reference", "timeout",
    "transform", "uid_salt",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), mentions())
def test_every_setting_that_an_error_mentions_has_a_widget_where_the_panel_can_meet_it(name, value):
    said = words("registration" if name == "method" else name, value)
    labels = set(re.findall(r'"([^"]+)"', said))
    known = {label_of(widget) for widget in {*WIDGETS, *MORE}} | {*ASKED.values()}
    known |= {*IN_REGIONS.values(), "Open...", MORE_TITLE, "Structure"}
    assert labels <= known or name in NEVER_HERE


@pytest.mark.parametrize("name", CaseSettings.model_fields)
def test_every_setting_has_a_widget_and_no_word_of_it_is_one_of_a_command_line(name):
    assert sum(name in place for place in (WIDGETS, MORE, ASKED, IN_REGIONS, BUTTONS)) == 1
    for value in ("", "True", "False", "FILE", "NUMBER", *choices_of(name)):
        for text in (words(name, value), tip_of(name), label_of(name)):
            assert "--" not in text
            assert "medfuse " not in text


@pytest.mark.gl
def test_the_form_of_all_other_settings_sets_them_and_follows(scene, qtbot, tmp_path):
    _, panel = scene
    form, model = panel.fuse_tab.more, panel.model
    assert set(form.widgets) == set(MORE)
    form.toggle.click()
    assert not form.page.isHidden()
    given = {"kernel": "paper", "gamut": "fit", "bounded": True, "preset": "fast", "seed": 7,
             "unit": "suv", "assume_identity": True, "dicom": "slices", "png": True,
             "initial": str(tmp_path / "start.tfm"), "initial_kind": "fsl"}  # fmt: skip
    for name, value in given.items():
        widget = form.widgets[name]
        match value:
            case bool():
                widget.click()
            case int():
                widget.setValue(value)
            case _ if name == "initial":
                widget.choose(value)
            case _:
                widget.setCurrentText(value)
    assert model.settings == CaseSettings(**given)
    model.settings = CaseSettings()
    model.settings_changed.emit()
    assert not form.widgets["png"].isChecked()
    assert form.widgets["dicom"].currentText() == "no"
    assert form.widgets["initial"].text.text() == "none"
    form.widgets["gamut"].setCurrentText("clip")
    form.widgets["gamut"].setCurrentText("by color map")
    assert model.settings == CaseSettings()


def test_a_failed_job_and_the_reader_speak_so():
    remedy = f"Search with {option('registration', 'rigid')}, or use {option('frame', 'mean')}"
    error = SeriesError("E_X", what="Cannot", cause=f"{option('bias')} is 7", remedy=remedy)
    line = (
        f'Cannot: "{label_of("bias")}" is 7. Search with "{label_of("registration")}" set to rigid,'
        ' or use "Frame" under "Open..." set to mean. [E_X]'
    )
    assert failure(error).text == line
    assert str(reworded(error)) == line
    assert type(reworded(error)) is SeriesError


def test_choices_come_from_the_settings():
    assert choices_of("registration") == ("auto", "rigid", "affine", "identity", "deformable")
    assert choices_of("functional_unit") == option_of("functional_unit").choices
    assert set(WIDGETS) <= set(CaseSettings.model_fields)


def test_a_panel_begins_with_the_defaults_and_refuses_what_is_no_choice():
    model = FusionModel(ViewerModel())
    assert model.settings == CaseSettings()
    model.choose(bias=0.5, window=(0, 6))
    assert model.settings == CaseSettings(bias=0.5, window=(0.0, 6.0))
    for wrong in ({"bias": 7}, {"registration": "magic"}):
        with pytest.raises(UsageError, match=r"\[E_SETTINGS\]") as raised:
            model.choose(**wrong)
        assert f'Correct "{label_of(*wrong)}"' in failure(raised.value).text
    assert model.settings.bias == 0.5
