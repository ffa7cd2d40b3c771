"""The one command that rebuilds shipped weights, in all their stages."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import get_num_threads, set_num_threads

from medfuse.methods import zoo
from medfuse.training import recipes

SMALL = {"steps": 2, "batch": 1, "crop": 48, "validation": 0.0, "precision": "fp32"}


@pytest.fixture
def data(tmp_path) -> Path:
    """Three pairs to train on, one to be judged by."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for side in ("vi", "ir"):
            folder = tmp_path / "msrs" / split / side
            folder.mkdir(parents=True)
            for k in range(count):
                coarse = Image.fromarray(rng.integers(0, 256, (12, 16), np.uint8))
                coarse.resize((64, 48)).save(folder / f"{k}.png")
    return tmp_path


@pytest.mark.parametrize("name", zoo.shipped())
def test_the_command_of_every_card_names_its_recipe_and_the_card_has_what_it_says(name, script):
    card = zoo.read_card(zoo.WEIGHTS / f"{name}.safetensors")
    places = ("tools", "workflows")  # cards keep the command as it was run; the script has moved
    commands = [f"python {place}/train_weights.py {name} --data DATA" for place in places]
    assert card.command.startswith(tuple(commands))
    assert name in script.SOURCES
    recipe = recipes.get_recipe(name)
    given = recipe.override(options=card.options, steps=card.recipe["steps"])
    for field, value in card.recipe.items():
        if field == "sources":  # terms that came later are off in older cards
            value = type(given.sources)(**value).model_dump()
        if field not in ("init", "seed"):
            assert given.model_dump()[field] == value, field


def test_a_rebuild_in_three_sittings_has_the_bytes_of_one(script, data, tmp_path, monkeypatch):
    for stage in ("gifnet-street", "gifnet-fidelity", "gifnet"):
        small = recipes.get_recipe(stage).override(**SMALL)
        monkeypatch.setitem(recipes.RECIPES, stage, small.override(until=1.0))
    before, told = get_num_threads(), []
    try:
        for sitting, stop in (("whole", 0), ("parts", 1), ("parts", 2), ("parts", 0)):
            seen = []

            def watch(progress, seen=seen, stop=stop):
                seen.append(progress.step)
                if len(seen) == stop:
                    os.kill(os.getpid(), signal.SIGINT)

            monkeypatch.setattr(script, "_print_progress", watch)
            out = tmp_path / sitting
            arguments = ["gifnet", "--data", data, "--out", out, "--threads", 1]
            monkeypatch.setattr("sys.argv", ["train_weights.py", *map(str, arguments)])
            if stop:
                with pytest.raises(SystemExit, match="the same command goes on"):
                    script.main()
            else:
                script.main()
            told.append(seen)
    finally:
        set_num_threads(before)
    assert told == [[1, 2, 1, 2, 1, 2], [1], [2, 1], [2, 1, 2]]
    whole, parts = (tmp_path / k / "gifnet.safetensors" for k in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    assert zoo.read_card(parts).test["pairs"] == 1
