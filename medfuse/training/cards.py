"""Write trained weights and the card that says where they come from."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from medfuse.evaluation.metrics import compute
from medfuse.evaluation.sources import judge_sources
from medfuse.kernel.blend import blend
from medfuse.methods import zoo
from medfuse.methods.base import MethodInfo, Painter
from medfuse.methods.network import count_parameters, level_maps, network_input
from medfuse.methods.registry import fuse_by, get_method
from medfuse.training.checkpoint import write_atomically
from medfuse.training.data import Pairs
from medfuse.training.recipes import Recipe
from medfuse.training.start import fresh_state

_METRICS = ("VIF", "Qabf", "SSIM", "uptake_correlation")
_SMALLEST = 41  # sides below this have no VIF


@dataclass(frozen=True)
class CardFacts:
    """What a training run knows about itself."""

    data_name: str
    training: Pairs
    validation: Pairs
    steps: int
    seconds: float
    device: str
    command: str
    metrics: dict[str, float]
    keep_names: bool = False


def write_weights(out: Path, recipe: Recipe, weights: dict[str, Tensor], facts: CardFacts) -> None:
    """Write ``out`` (safetensors) and its card (JSON) beside it, each whole or not at all.

    Raises
    ------
    OutputError
    """
    header = {"architecture": recipe.architecture, "options": recipe.options}
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in weights.items()}
    data = save(tensors, {"medfuse": json.dumps(header, sort_keys=True)})
    card = _card(out.stem, recipe, hashlib.sha256(data).hexdigest(), facts)
    write_atomically(out, data)
    text = card.model_dump_json(by_alias=True, indent=1) + "\n"
    write_atomically(out.with_suffix(".json"), text.encode())


def validation_metrics(
    recipe: Recipe, weights: dict[str, Tensor], pairs: Pairs
) -> dict[str, float]:
    """Mean paper-profile metrics over gray pairs; empty without pairs."""
    net = zoo.build_network(recipe.architecture, recipe.options)
    net.load_state_dict(weights)
    net.eval()
    method = zoo.wrap_network(copy.deepcopy(net), MethodInfo(recipe.name, "", ""))

    def fuse(a: Tensor, b: Tensor) -> Tensor:
        if isinstance(method, Painter):
            return method.luminance(a, b)
        maps = level_maps(net(network_input(a, b)))
        return blend(a, b, maps, levels=recipe.levels, kernel=recipe.kernel)

    return _judged(fuse, pairs)


def rule_metrics(name: str, recipe: Recipe, pairs: Pairs) -> dict[str, float]:
    """The same of a method by name or by path."""
    method = get_method(name)
    return _judged(lambda a, b: fuse_by(method, a, b, kernel=recipe.kernel), pairs)


def merit(metrics: dict[str, float]) -> float:
    """One number to rank by: detail kept of the weaker source, and Qabf; NaN where unknown."""
    weaker = min(metrics.get("kept_A", math.nan), metrics.get("kept_B", math.nan))
    return weaker + metrics.get("Qabf", math.nan)


def _judged(fuse: Callable[[Tensor, Tensor], Tensor], pairs: Pairs) -> dict[str, float]:
    if not len(pairs) or min(min(image.shape) for image in pairs.a) < _SMALLEST:
        return {}
    found: dict[str, list[float]] = {}
    with torch.inference_mode():
        for image_a, image_b in zip(pairs.a, pairs.b, strict=True):
            a, b = (x[None, None].float() / 255 for x in (image_a, image_b))
            picture = fuse(a, b).clamp(0, 1)
            values = compute(a, b, picture, profile="paper", only=_METRICS)
            for name, value in (values | judge_sources(a, b, picture)).items():
                found.setdefault(name, []).append(float(value))
    means = {name: torch.tensor(values).nanmean().item() for name, values in found.items()}
    return {"pairs": len(pairs)} | {name: round(mean, 4) for name, mean in means.items()}


def start_metrics(recipe: Recipe, pairs: Pairs) -> dict[str, float]:
    """The same of the weights that training starts from; empty where it starts from none."""
    if recipe.init is None:
        return {}
    net = fresh_state(recipe, torch.device("cpu")).net
    return validation_metrics(recipe, net.state_dict(), pairs)


def _card(name: str, recipe: Recipe, digest: str, facts: CardFacts) -> zoo.Card:
    net = zoo.build_network(recipe.architecture, recipe.options)
    return zoo.Card(
        schema=zoo.SCHEMA,
        name=name,
        summary=recipe.summary or f"{recipe.architecture} trained on {facts.data_name}",
        architecture=recipe.architecture,
        options=recipe.options,
        parameters=count_parameters(net),
        levels=recipe.levels,
        kernel=recipe.kernel,
        sha256=digest,
        data={
            "name": facts.data_name,
            "pairs": len(facts.training),
            "sha256_of_pixels": facts.training.sha256(),
            "validation": len(facts.validation),
            "validation_sha256_of_pixels": facts.validation.sha256(),
            **({"validation_names": list(facts.validation.names)} if facts.keep_names else {}),
        },
        recipe=recipe.model_dump(exclude={"summary", "init"}) | {"init": _init_name(recipe)},
        seed=recipe.seed,
        steps=facts.steps,
        seconds=round(facts.seconds, 1),
        threads=torch.get_num_threads(),
        device=facts.device,
        software={n: importlib.metadata.version(n) for n in ("medfuse", "torch", "safetensors")},
        command=facts.command,
        validation=facts.metrics,
    )


def _init_name(recipe: Recipe) -> str | None:
    """Name of the weights that training started from, never their folder."""
    return Path(recipe.init).stem if recipe.init else None
