"""Jobs, guides that remember, colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medfuse.errors import UsageError
from medfuse.kernel.colormaps import COLORMAPS, READABLE
from medfuse.methods.registry import get_method
from napari_plugin.colors import explain, napari_colormap, read_colour
from napari_plugin.guides import RememberingGuide
from napari_plugin.jobs import Done, Failed, Job, Stopped


def test_a_job_brings_its_value_and_reports_on_the_way():
    seen = []

    def work(progress):
        progress(0.5, "half")
        return 7

    assert Job("seven", work).run(lambda *told: seen.append(told)) == Done(7)
    assert seen == [(0.0, "seven"), (0.5, "half")]


def test_a_cancelled_job_ends_at_its_next_report():
    reached = []

    def work(progress):
        job.cancel()
        progress(0.1, "")
        reached.append(True)

    job = Job("stop", work)
    assert job.run() == Stopped()
    assert reached == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("E_X", what="No", cause="because", remedy="Do"), "E_X"),
        (ValueError("the window must rise"), "E_SETTINGS"),
        (KeyError("oops"), "E_INTERNAL"),
    ],
)
def test_every_error_becomes_one_line_with_a_code(error, code):
    def work(progress):
        raise error

    outcome = Job("bad", work).run()
    assert isinstance(outcome, Failed)
    assert outcome.code == code
    assert outcome.text.endswith(f"[{code}]")
    assert "\n" not in outcome.text


def test_a_remembering_guide_answers_as_the_guide_does():
    guide = get_method("max")
    remembering = RememberingGuide(guide)
    a, b = torch.rand(2, 1, 1, 8, 8)
    first = remembering.weights(a, b)
    assert torch.equal(first, guide.weights(a, b))
    assert remembering.weights(a, b) is first
    b[0, 0, 0, 0] = 1 - b[0, 0, 0, 0]
    assert torch.equal(remembering.weights(a, b), guide.weights(a, b))
    assert remembering.info == guide.info


@pytest.mark.parametrize("name", READABLE)
def test_values_are_read_back_from_8_bit_colours_of_readable_maps(name):
    for index in (25, 100, 200):
        colour = np.rint(255 * COLORMAPS[name][index].numpy()) / 255
        value, unsure = read_colour(colour, name)
        assert value == pytest.approx(index / 255, abs=0.03)
        assert unsure < 0.05


def test_grey_tells_no_value_and_says_so():
    assert read_colour((0.5, 0.5, 0.5), "gray") is None
    assert "no value" in explain("gray")


@pytest.mark.parametrize("name", list(COLORMAPS))
def test_napari_shows_the_same_colours_as_medfuse(name):
    shown = napari_colormap(name).map(np.linspace(0, 1, 256))[:, :3]
    np.testing.assert_allclose(shown, COLORMAPS[name].numpy(), atol=5e-3)
