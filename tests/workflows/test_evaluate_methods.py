"""The script that judges guides on a researcher's own pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folders(tmp_path):
    """Two folders: pair 2 has noise for B, which no rule keeps next to A."""
    generator = np.random.default_rng(0)
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for k in range(3):
            ramp = np.add.outer(np.arange(64), np.arange(80)) * (1.5 if side == "a" else 0.8)
            noise = generator.normal(0, 60 if (side, k) == ("b", 2) else 3, ramp.shape)
            Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8)).save(
                tmp_path / side / f"p{k}.png"
            )
    return ["--a", str(tmp_path / "a"), "--b", str(tmp_path / "b")]


def test_it_names_and_shows_the_worst_pair_of_every_method(script, folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        script.main([*folders, "--method", "saliency", "--metric", "MSE", "--save", str(out)]) == 0
    )
    said = capsys.readouterr().out
    assert "anatomical-luma: worst MSE" in said
    assert "on p2" in said.split("mean: worst MSE")[1].splitlines()[0]
    for name in ("anatomical-luma", "max", "mean", "saliency"):
        assert Image.open(out / f"{name}.worst.png").size == (3 * 80, 64)


def test_lower_is_worse_only_where_higher_is_better(script):
    values = {"Qabf": (0.5, 0.2, float("nan")), "MSE": (0.5, 0.2, float("nan"))}
    row = script.Row("x", "guide", values)
    assert script.worst_pair(row, "Qabf") == 1
    assert script.worst_pair(row, "MSE") == 0
    nothing = script.Row("x", "guide", {"Qabf": (float("nan"),)})
    assert script.worst_pair(nothing, "Qabf") is None


def test_what_cannot_be_read_is_one_line(script, folders, capsys):
    assert script.main([folders[0], folders[1], "--b", folders[1] + "/none"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "E_UNREADABLE" in said
