"""Train a guide through the fixed kernel: resumable, interruptible, the same bits every time."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from medfuse.kernel.blend import blend
from medfuse.methods import zoo
from medfuse.methods.network import level_maps, network_input
from medfuse.methods.objective import Losses
from medfuse.training.checkpoint import (
    restore_state,
    save_state,
    update_average,
)
from medfuse.training.data import Pairs
from medfuse.training.losses import fusion_loss
from medfuse.training.recipes import Recipe
from medfuse.training.sampling import Sampler
from medfuse.training.start import fresh_state

CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class TrainingProgress:
    """What happened up to now, for a progress bar.

    ``validation`` is set after a validation, with ``weights``, those that were validated.
    """

    step: int
    fraction: float
    seconds: float
    loss: float
    parts: dict[str, float]
    validation: float | None = None
    picture: Path | None = None
    weights: dict[str, Tensor] | None = None


OnProgress = Callable[[TrainingProgress], None]


class Run:
    """One training run: data, state and the clock."""

    def __init__(
        self,
        recipe: Recipe,
        training: Pairs,
        validation: Pairs,
        out: Path,
        on_progress: OnProgress | None,
    ) -> None:
        self.recipe, self.out = recipe, out
        self.on_progress = on_progress or (lambda progress: None)
        self.training = training
        self.validation = _spread(validation, recipe.validation_pairs)
        self.sampler = Sampler(training, recipe)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.state = fresh_state(recipe, self.device)
        self.checkpoint = checkpoint_path(out)
        what = recipe.model_dump_json() + training.sha256()
        self.key = hashlib.sha256(what.encode()).hexdigest()

    def resume(self) -> int:
        restore_state(self.checkpoint, self.state, self.key)
        return self.state.step

    def fraction(self) -> float:
        """How much of the training is done; by the clock where minutes are given."""
        if self.recipe.minutes is not None:
            return min(self.state.seconds / (60 * self.recipe.minutes), 1.0)
        return self.state.step / (self.recipe.steps or 1)

    def loop(self, interrupted: threading.Event) -> Literal["finished", "early", "interrupted"]:
        state, recipe = self.state, self.recipe
        saved = state.seconds
        while self.fraction() < 1:
            if interrupted.is_set():
                return "interrupted"
            with self._counted():
                losses = self._step()
            validated, picture = None, None
            if self.fraction() >= (state.validations + 1) / recipe.validations:
                with self._counted():
                    validated, picture = self._validate()
            if state.seconds - saved > CHECKPOINT_SECONDS and self.fraction() < 1:
                with self._counted():
                    save_state(self.checkpoint, state, self.key)
                saved = state.seconds
            self._report(losses, validated, picture)
            if state.without_gain >= recipe.patience:
                return "early"
        return "finished"

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count this as training time; what the caller does with the progress is not."""
        started = time.monotonic()
        yield
        self.state.seconds += time.monotonic() - started

    def _step(self) -> Losses:
        state, recipe, fraction = self.state, self.recipe, self.fraction()
        full = recipe.crop is not None and fraction >= 1 - recipe.full_fraction
        a, b = (x.to(self.device) for x in self.sampler.draw(state.step, full=full))
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, fraction)
        state.net.train()
        for losses in self.objectives(a, b):
            state.optimiser.zero_grad(set_to_none=True)
            losses.total.backward()
            nn.utils.clip_grad_norm_(state.net.parameters(), recipe.clip)
            state.optimiser.step()
        if recipe.ema:
            update_average(state, recipe.ema)
        state.step += 1
        state.last_loss = float(losses.total.detach())
        if state.first_loss is None:
            state.first_loss = state.last_loss
        return losses

    def objectives(self, a: Tensor, b: Tensor) -> Iterator[Losses]:
        """What one batch asks for; each is computed with the weights that the one before left."""
        with precision(self.recipe, self.device):
            weights = self.state.net(network_input(a, b))
        yield self._loss(a, b, weights)

    def judge(self, net: nn.Module, a: Tensor, b: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        """Validation loss of one pair, and the pictures to look at."""
        weights = net(network_input(a, b))
        loss = float(self._loss(a, b, weights).total)
        return loss, (a, b, self._fuse(a, b, weights), weights)

    def _loss(self, a: Tensor, b: Tensor, weights: Tensor) -> Losses:
        a, b = a * 2 - 1, b * 2 - 1
        return fusion_loss(a, b, self._fuse(a, b, weights), self.recipe.loss)

    def _fuse(self, a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
        maps = level_maps(weights.float())
        return blend(a, b, maps, levels=self.recipe.levels, kernel=self.recipe.kernel)

    def _validate(self) -> tuple[float | None, Path | None]:
        state = self.state
        state.validations += 1
        if not len(self.validation):
            return None, None
        net = self._network(state.weights())
        total = 0.0
        with torch.inference_mode():
            for k in range(len(self.validation)):
                a, b = self._validation_pair(k)
                loss_of_pair, panels = self.judge(net, a, b)
                total += loss_of_pair
                if k == 0:
                    picture = self._picture(panels)
        loss = total / len(self.validation)
        if loss < state.best_loss:
            state.best_loss, state.without_gain = loss, 0
            state.best = {n: t.detach().clone() for n, t in state.weights().items()}
        else:
            state.without_gain += 1
        return loss, picture

    def _validation_pair(self, k: int) -> tuple[Tensor, Tensor]:
        images = (self.validation.a[k], self.validation.b[k])
        a, b = (x[None, None].float().to(self.device) / 255 for x in images)
        return a, b

    def _network(self, weights: dict[str, Tensor]) -> nn.Module:
        net = zoo.build_network(self.recipe.architecture, self.recipe.options)
        net.load_state_dict(weights)
        return net.to(self.device).eval()

    def _picture(self, panels: tuple[Tensor, ...]) -> Path:
        """Save the pictures of one pair side by side."""
        strip = torch.cat([x[0, 0].clamp(0, 1) for x in panels], dim=1)
        folder = self.out.with_name(f"{self.out.stem}.validation")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step_{self.state.step:06d}.png"
        Image.fromarray((strip * 255).round().byte().cpu().numpy()).save(path)
        return path

    def _report(self, losses: Losses, validated: float | None, picture: Path | None) -> None:
        self.on_progress(
            TrainingProgress(
                step=self.state.step,
                fraction=self.fraction(),
                seconds=self.state.seconds,
                loss=float(losses.total.detach()),
                parts={name: float(part) for name, part in losses.parts.items()},
                validation=validated,
                picture=picture,
                weights=None if validated is None else self.state.weights(),
            )
        )


class PaintingRun(Run):
    """The network makes the luminance itself, without a kernel."""

    def _fuse(self, a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
        return weights

    def _loss(self, a: Tensor, b: Tensor, weights: Tensor) -> Losses:
        return fusion_loss(a * 2 - 1, b * 2 - 1, weights.float() * 2 - 1, self.recipe.loss)


def checkpoint_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}.checkpoint.safetensors")


def learning_rate(recipe: Recipe, fraction: float) -> float:
    """Learning rate where ``fraction`` of the training is done: linear warm-up, then half a cosine.

    References
    ----------
    Smith & Topin, 2018 (one-cycle).
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if fraction < recipe.warmup:
        factor = fraction / recipe.warmup
    else:
        factor = 0.5 + 0.5 * math.cos(math.pi * (fraction - recipe.warmup) / (1 - recipe.warmup))
    return recipe.learning_rate * max(factor, 1e-3)


def precision(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 inside the network where the processor computes it, unless the recipe says otherwise."""
    wanted = recipe.precision
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" or _cpu_has_bf16() else "fp32"
    return torch.autocast(device.type, torch.bfloat16) if wanted == "bf16" else nullcontext()


def _cpu_has_bf16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def _spread(pairs: Pairs, count: int) -> Pairs:
    """At most ``count`` pairs, evenly spread."""
    if len(pairs) <= count:
        return pairs
    return pairs.select([int(i) for i in np.linspace(0, len(pairs) - 1, count).round()])
