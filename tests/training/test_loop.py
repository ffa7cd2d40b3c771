from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from medfuse.errors import WeightsError
from medfuse.methods import zoo
from medfuse.methods.registry import get_method
from medfuse.training import loop
from medfuse.training.loop import learning_rate
from medfuse.training.recipes import RECIPES, Recipe
from medfuse.training.train import run_training

torch.set_num_threads(1)
SMALL = Recipe(
    name="small",
    options={"widths": [8, 8, 8, 8]},
    steps=12,
    batch=2,
    crop=64,
    ema=0.9,
    validation=0.3,
    validations=3,
    full_fraction=0.25,
    precision="fp32",
    warmup=0.2,
)


def _train(folders, out, recipe=SMALL, **more):
    return run_training(a=folders[0], b=folders[1], out=out, recipe=recipe, **more)


def test_training_lowers_the_loss_on_real_images(shared_data, tmp_path):
    folder = shared_data / "harvard" / "PET-MRI" / "test"  # a test of the machinery only
    seen = []
    recipe = SMALL.override(options={}, steps=6, batch=4, warmup=0.0, validation=0.2)
    result = _train(
        (folder / "PET", folder / "MRI"),
        tmp_path / "x.safetensors",
        recipe,
        on_progress=seen.append,
    )
    assert [p.step for p in seen] == [1, 2, 3, 4, 5, 6]
    assert result.stopped == "finished"
    assert result.last_loss < 0.9 * result.first_loss
    assert {"VIF_A", "Qabf", "uptake_correlation"} <= result.validation.keys()


def test_weights_and_card_are_usable_by_path(pair_folders, tmp_path):
    result = _train(pair_folders, tmp_path / "mine.safetensors", command="medfuse train ...")
    guide = get_method(result.weights)
    assert guide.info.name == "mine"
    card = zoo.read_card(result.weights)
    assert card is not None
    assert card.command == "medfuse train ..."
    assert card.data["pairs"] == 4
    assert card.data["validation"] == 2
    assert card.steps == 12
    assert card.recipe["batch"] == 2
    assert card.data["name"] == "paired images"
    assert str(tmp_path) not in result.card.read_text()
    assert not list(tmp_path.glob("*.checkpoint*"))
    assert len(list((tmp_path / "mine.validation").glob("step_*.png"))) == 3


def test_same_seed_gives_the_same_bytes_and_another_seed_others(pair_folders, tmp_path):
    paths = [tmp_path / f"{k}.safetensors" for k in range(3)]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        _train(pair_folders, path, seed=seed)
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second
    assert first != third


def test_resumed_training_equals_an_uninterrupted_one(pair_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole = _train(pair_folders, tmp_path / "whole.safetensors")
    out = tmp_path / "broken.safetensors"

    class PowerCutError(Exception):
        pass

    def stop(progress):
        if progress.step == 7:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        _train(pair_folders, out, on_progress=stop)
    assert not out.exists()
    result = _train(pair_folders, out)
    assert result.resumed_at == 7
    assert result.steps == 12
    assert out.read_bytes() == whole.weights.read_bytes()
    assert result.validation == whole.validation


def test_checkpoint_of_another_recipe_is_refused(pair_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    out = tmp_path / "x.safetensors"
    with pytest.raises(RuntimeError):
        _train(pair_folders, out, on_progress=_raise)
    with pytest.raises(WeightsError, match=r"another recipe.*E_CHECKPOINT"):
        _train(pair_folders, out, SMALL.override(batch=3))
    out.with_suffix(".checkpoint.safetensors").write_bytes(b"rubbish")
    with pytest.raises(WeightsError, match="E_CHECKPOINT"):
        _train(pair_folders, out)


def _raise(progress):
    raise RuntimeError


def test_ctrl_c_saves_weights_and_a_checkpoint_to_go_on_from(pair_folders, tmp_path):
    whole = _train(pair_folders, tmp_path / "whole.safetensors")
    out = tmp_path / "x.safetensors"

    def press(progress):
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    result = _train(pair_folders, out, on_progress=press)
    assert result.stopped == "interrupted"
    assert result.steps == 5
    assert get_method(out).info.parameters > 0
    again = _train(pair_folders, out)
    assert again.stopped == "finished"
    assert again.resumed_at == 5
    assert out.read_bytes() == whole.weights.read_bytes()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_killed_process_resumes(pair_folders, tmp_path):
    script = textwrap.dedent(
        f"""
        import torch
        torch.set_num_threads(1)
        from pathlib import Path
        from medfuse.training import loop
        from medfuse.training.train import run_training
        from medfuse.training.recipes import RECIPES, Recipe
        loop.CHECKPOINT_SECONDS = 0.0
        recipe = Recipe.model_validate_json({SMALL.override(steps=100_000).model_dump_json()!r})
        a, b = Path({str(pair_folders[0])!r}), Path({str(pair_folders[1])!r})
        run_training(a=a, b=b, out=Path({str(tmp_path / "x.safetensors")!r}), recipe=recipe)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    checkpoint = tmp_path / "x.checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = []

    def stop(progress):
        seen.append(progress.step)
        os.kill(os.getpid(), signal.SIGINT)

    result = _train(
        pair_folders, tmp_path / "x.safetensors", SMALL.override(steps=100_000), on_progress=stop
    )
    assert result.resumed_at >= 1
    assert seen == [result.resumed_at + 1]


def test_training_stops_early_when_validation_does_not_improve(pair_folders, tmp_path):
    recipe = SMALL.override(steps=60, validations=30, patience=1, learning_rate=1.0, ema=0.0)
    result = _train(pair_folders, tmp_path / "x.safetensors", recipe)
    assert result.stopped == "early"
    assert result.steps < 60


def test_training_by_the_clock_ends_in_time(pair_folders, tmp_path):
    started = time.monotonic()
    result = _train(pair_folders, tmp_path / "x.safetensors", minutes=0.02)
    assert 1.0 < result.seconds < time.monotonic() - started
    assert result.steps >= 1
    assert json.loads(result.card.read_text())["recipe"]["steps"] is None


def test_training_starts_from_given_weights(pair_folders, tmp_path):
    first = _train(pair_folders, tmp_path / "first.safetensors")
    recipe = SMALL.override(steps=1, learning_rate=1e-9, ema=0.0, validation=0.0)
    second = _train(pair_folders, tmp_path / "x.safetensors", recipe, init=str(first.weights))
    a, b = torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64)
    before = get_method(first.weights).weights(a, b)
    after = get_method(second.weights).weights(a, b)
    torch.testing.assert_close(before, after, atol=0.1, rtol=0)
    assert second.before == {}  # nothing was held out
    card = json.loads(second.card.read_text())
    assert card["recipe"]["init"] == "first"
    assert str(tmp_path) not in second.card.read_text()
    with pytest.raises(WeightsError, match="recipe trains unet"):
        _train(
            pair_folders,
            tmp_path / "y.safetensors",
            Recipe(architecture="unet", options={"base": 4}),
            init=str(first.weights),
        )


def test_start_and_end_are_judged_on_the_same_pairs(shared_data, tmp_path):
    folder = shared_data / "harvard" / "PET-MRI" / "test"
    recipe = SMALL.override(steps=1, validation=0.2, validations=1, ema=0.0)
    folders = folder / "PET", folder / "MRI"
    first = _train(folders, tmp_path / "first.safetensors", recipe)
    assert first.before == {}  # it started from none
    second = _train(folders, tmp_path / "x.safetensors", recipe, init=str(first.weights))
    assert second.before == {k: v for k, v in first.validation.items() if k != "loss"}
    assert second.before["VIF"] != second.validation["VIF"]


def test_weights_to_start_from_bring_their_own_network(pair_folders, tmp_path):
    first = _train(pair_folders, tmp_path / "first.safetensors", SMALL.override(steps=1))
    other = SMALL.override(steps=1, options={"widths": [8, 8], "shuffle": 2, "skip": True})
    second = _train(pair_folders, tmp_path / "x.safetensors", other, init=str(first.weights))
    card = zoo.read_card(second.weights)
    assert card is not None
    assert card.options == SMALL.options


def test_a_first_stage_runs_by_itself_and_only_once(pair_folders, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "stage", SMALL.override(name="stage", steps=3))
    recipe = SMALL.override(first="stage", steps=2)
    seen = []
    result = _train(pair_folders, tmp_path / "x.safetensors", recipe, on_progress=seen.append)
    assert [p.step for p in seen] == [1, 2, 3, 1, 2]
    card = zoo.read_card(result.weights)
    assert card is not None
    assert card.recipe["init"] == "x.first"
    before = result.weights.read_bytes()
    again = _train(pair_folders, tmp_path / "x.safetensors", recipe, on_progress=seen.append)
    assert len(seen) == 7
    assert again.weights.read_bytes() == before


def test_several_maps_a_level_can_be_trained(pair_folders, tmp_path):
    recipe = SMALL.override(steps=2, options={"widths": [8, 8], "maps": 5})
    result = _train(pair_folders, tmp_path / "x.safetensors", recipe)
    assert result.last_loss > 0
    assert result.validation["VIF_A"] > 0


def test_learning_rate_rises_and_falls_once():
    recipe = Recipe(learning_rate=1.0, warmup=0.2)
    values = [learning_rate(recipe, k / 100) for k in range(101)]
    assert max(values) == values[20] == 1.0
    assert values[:21] == sorted(values[:21])
    assert values[20:] == sorted(values[20:], reverse=True)
    assert values[-1] == pytest.approx(1e-3)
    constant = recipe.override(schedule="constant")
    assert learning_rate(constant, 0.0) == learning_rate(constant, 0.9) == 1.0
