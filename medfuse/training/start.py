"""What training starts from: fresh values of a seed, or given weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from medfuse.errors import WeightsError
from medfuse.methods import zoo
from medfuse.methods.network import build_seeded
from medfuse.training.checkpoint import TrainingState
from medfuse.training.recipes import Recipe


def fresh_state(recipe: Recipe, device: torch.device) -> TrainingState:
    """Network and optimiser before the first step.

    Raises
    ------
    WeightsError
        If the weights to start from are missing or of another network.
    """
    net = build_seeded(lambda: zoo.build_network(recipe.architecture, recipe.options), recipe.seed)
    if recipe.init is not None:
        _load_init(net, recipe.init)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    return TrainingState(net, optimiser)


def like_init(recipe: Recipe) -> Recipe:
    """The recipe, with the network options of the weights that it starts from.

    Raises
    ------
    WeightsError
        If they are missing or of another architecture.
    """
    if recipe.init is None:
        return recipe
    path = _init_path(recipe.init)
    header, _ = zoo.parse_weights(zoo.read_weights(path), path)
    if header["architecture"] != recipe.architecture:
        raise WeightsError(
            "E_WEIGHTS",
            what="Cannot start from these weights",
            where=path.name,
            cause=f"they are a {header['architecture']}, the recipe trains {recipe.architecture}",
            remedy="Choose weights of the same network",
        )
    return recipe.override(options=header.get("options", {}))


def _init_path(init: str) -> Path:
    """Weights by the name of shipped ones, or a file."""
    name = zoo.DEFAULT if init == "swift" else init
    return zoo.shipped_file(name) if name in zoo.shipped() else Path(init)


def _load_init(net: nn.Module, init: str) -> None:
    path = _init_path(init)
    header, tensors = zoo.parse_weights(zoo.read_weights(path), path)
    net.load_state_dict(zoo.load_network(header, tensors, path).state_dict())
