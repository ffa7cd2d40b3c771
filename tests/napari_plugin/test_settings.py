"""What the panel offers of the settings of a case, and how its errors speak of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from napari.components import ViewerModel

import medfuse
import napari_plugin
from medfuse.errors import SeriesError, UsageError, option
from medfuse.settings import CaseSettings, label_of, option_of
from napari_plugin.jobs import failure
from napari_plugin.model import FusionModel
from napari_plugin.settings import ASKED, WIDGETS, choices_of, reworded, words

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
        ("assume_identity", "True", "medfuse fuse --assume-identity"),
        ("timeout", "SECONDS", "medfuse batch --timeout SECONDS"),
        ("series", "NUMBER", '"Series" under "Open..."'),
    ],
)
def test_errors_speak_of_widgets_and_of_the_command_that_has_what_the_panel_lacks(
    name, value, said
):
    assert words(name, value) == said


def test_errors_mention_settings():
    assert {("frame", "mean"), ("accept_suspect", "True"), ("registration", "rigid")} < set(
        mentions()
    )


@pytest.mark.parametrize(("name", "value"), mentions())
def test_every_setting_that_an_error_mentions_is_a_widget_or_an_option_of_a_command(name, value):
    from medfuse.cli.app import app

    said = words(name, value)
    labels = re.findall(r'"([^"]+)"', said)
    assert set(labels) <= {label_of(widget) for widget in WIDGETS} | {*ASKED.values(), "Open..."}
    commands = typer.main.get_command(app).commands
    called = re.findall(r"medfuse (\w+) (--[\w-]+)", said)
    assert labels or called
    for command, flag in called:
        flags = [f for p in commands[command].params for f in (*p.opts, *p.secondary_opts)]
        assert flag in flags


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
