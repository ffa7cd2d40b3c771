"""The sequence focus, exposure, modalities: each stage is guided by the one before it."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from medfuse.methods.base import Painter
from medfuse.methods.registry import get_method
from medfuse.training.data import load_pairs
from medfuse.training.recipes import UnfoldingRecipe, get_recipe
from medfuse.training.train import run_training
from medfuse.training.unfolding import UnfoldingRun, answer_loss, gradient_transfer_loss

NAMES = ("unfolding", "unfolding-features")
SMALL = {"options": {"channels": 4}, "crop": 48, "batch": 2, "steps": 3, "validation_pairs": 1}


@pytest.fixture
def one_thread():
    """As the command of the weights: other numbers of threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_stages(monkeypatch, name: str) -> None:
    """Make the three recipes of a sequence a matter of seconds."""
    from medfuse.training import recipes

    for stage in (f"{name}-focus", f"{name}-exposure", name):
        monkeypatch.setitem(recipes.RECIPES, stage, get_recipe(stage).override(**SMALL))


@pytest.mark.parametrize("name", NAMES)
def test_three_stages_run_by_one_call_and_twice_give_the_same_bytes(
    name, pair_folders, tmp_path, monkeypatch, one_thread
):
    small_stages(monkeypatch, name)
    written = []
    for out in (tmp_path / "one.safetensors", tmp_path / "two.safetensors"):
        run_training(a=pair_folders[0], b=pair_folders[1], out=out, recipe=name)
        stages = sorted(p.name for p in out.parent.glob(f"{out.stem}*.safetensors"))
        assert len(stages) == 3
        written.append(out.read_bytes())
    assert written[0] == written[1]
    method = get_method(out)
    assert isinstance(method, Painter) == (name == "unfolding-features")
    assert method.info.levels == 0


def test_a_killed_run_continues_and_ends_with_the_same_bytes(
    pair_folders, tmp_path, monkeypatch, one_thread
):
    """Killed in the second stage, where the teacher must be the first stage and not the state."""
    recipe = get_recipe("unfolding-exposure").override(**SMALL).override(steps=8)
    recipe = recipe.model_copy(update={"first": None})
    start = tmp_path / "start.safetensors"
    small_stages(monkeypatch, "unfolding")
    folders = {"a": pair_folders[0], "b": pair_folders[1]}
    run_training(**folders, out=start, recipe="unfolding-focus")
    recipe = recipe.override(init=str(start))
    whole = run_training(**folders, out=tmp_path / "whole.safetensors", recipe=recipe)
    out = tmp_path / "killed.safetensors"
    script = textwrap.dedent(
        f"""
        import os, signal, torch
        torch.set_num_threads(1)
        from pathlib import Path
        from medfuse.training import loop
        from medfuse.training.train import run_training
        from medfuse.training.recipes import UnfoldingRecipe
        loop.CHECKPOINT_SECONDS = 0.0
        recipe = UnfoldingRecipe.model_validate_json({recipe.model_dump_json()!r})
        a, b = Path({str(pair_folders[0])!r}), Path({str(pair_folders[1])!r})
        def die(progress):
            if progress.step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        run_training(a=a, b=b, out=Path({str(out)!r}), recipe=recipe, on_progress=die)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    result = run_training(**folders, out=out, recipe=recipe)
    assert result.resumed_at == 5
    assert out.read_bytes() == whole.weights.read_bytes()


def test_the_teacher_is_what_the_stage_starts_from_and_does_not_learn(pair_folders, tmp_path):
    pairs = load_pairs(*pair_folders)
    recipe = get_recipe("unfolding-exposure").override(**SMALL)
    run = UnfoldingRun(recipe, pairs, pairs.select([0]), tmp_path / "x.safetensors", None)
    before = {n: t.clone() for n, t in run.teacher.state_dict().items()}
    for _ in range(3):
        losses = run._step()
    assert losses.parts["transfer"] >= 0
    now = run.state.net.state_dict()
    assert any(not torch.equal(now[n], t) for n, t in before.items())
    assert all(torch.equal(run.teacher.state_dict()[n], t) for n, t in before.items())


def test_transfer_asks_for_structure_and_not_for_brightness():
    generator = torch.Generator().manual_seed(0)
    taught = 0.5 * torch.rand((1, 1, 20, 20), generator=generator)
    assert gradient_transfer_loss(taught, taught + 0.3) < 1e-6
    flat = torch.full_like(taught, 0.25)
    assert gradient_transfer_loss(taught, flat) > 0.01
    assert gradient_transfer_loss(flat, flat + 0.5) == 0


def test_transfer_is_the_published_formula():
    """T = mean of | w |grad t| - w |grad s| |, w the larger of both, by explicit loops."""
    generator = torch.Generator().manual_seed(1)
    taught, found = (torch.rand((1, 1, 5, 6), generator=generator) for _ in range(2))

    def strength(image: torch.Tensor, row: int, column: int) -> float:
        total = {"x": 0.0, "y": 0.0}
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                y, x = min(max(row + i, 0), 4), min(max(column + j, 0), 5)
                value = image[0, 0, y, x].item()
                total["x"] += j * (2 - abs(i)) * value
                total["y"] += i * (2 - abs(j)) * value
        return abs(total["x"]) + abs(total["y"])

    terms = []
    for row in range(5):
        for column in range(6):
            t, s = strength(taught, row, column), strength(found, row, column)
            terms.append(max(t, s) * abs(t - s))
    wanted = sum(terms) / len(terms)
    assert gradient_transfer_loss(taught, found).item() == pytest.approx(wanted, rel=1e-4)


def test_the_right_answer_costs_nothing():
    image = torch.rand((1, 1, 24, 24), generator=torch.Generator().manual_seed(0))
    assert answer_loss(image, image).total < 1e-5
    assert answer_loss(image, 1 - image).total > 0.5


def test_focus_is_learned_in_a_few_steps(pair_folders, tmp_path):
    changes = {**SMALL, "steps": 30, "learning_rate": 1e-2, "batch": 4}
    recipe = get_recipe("unfolding-focus").override(**changes)
    assert isinstance(recipe, UnfoldingRecipe)
    pairs = load_pairs(*pair_folders)
    run = UnfoldingRun(recipe, pairs, pairs.select([0, 1]), tmp_path / "x.safetensors", None)
    losses = [float(run._step().total.detach()) for _ in range(30)]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
