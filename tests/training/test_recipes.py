from __future__ import annotations

import pytest
from pydantic import ValidationError

from medfuse.errors import UsageError
from medfuse.training.recipes import RECIPES, Recipe, get_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_printing(name):
    recipe = get_recipe(name)
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.summary


def test_published_loss_weights_are_the_defaults_of_the_unet_recipe():
    recipe = get_recipe("unet")
    loss = recipe.loss
    assert (loss.maximum, loss.consistency, loss.gradient) == (10, 2, 40)
    assert (loss.ssim_a, loss.ssim_b, loss.consistency_b, loss.window) == (1, 1, 2, 48)
    assert (loss.uptake, loss.fidelity_a, loss.fidelity_b) == (0, 0, 0)
    assert (recipe.learning_rate, recipe.schedule, recipe.kernel) == (1e-4, "constant", "paper")
    assert recipe.crop is None


def test_minutes_and_steps_replace_each_other():
    recipe = Recipe(steps=100)
    assert recipe.override(minutes=1.0).steps is None
    assert recipe.override(minutes=1.0).override(steps=5).minutes is None
    assert recipe.override(steps=None, minutes=None) == recipe


def test_part_of_the_loss_can_be_changed():
    recipe = Recipe().override(loss={"gradient": 90})
    assert recipe.loss.gradient == 90
    assert recipe.loss.maximum == 10


def test_wrong_fields_and_unknown_recipes_are_refused():
    with pytest.raises(ValidationError, match="batch"):
        Recipe().override(batch=0)
    with pytest.raises(ValidationError, match="colour"):
        Recipe().override(colour=1)
    with pytest.raises(UsageError, match="known are swift"):
        get_recipe("nothing")
