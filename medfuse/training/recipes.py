"""How a guide is trained: typed, printable, named."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medfuse.errors import UsageError
from medfuse.kernel.pyramid import Kernel
from medfuse.methods.objective import SourceWeights
from medfuse.training.descent import DESCENT
from medfuse.training.losses import LossWeights


class Recipe(BaseModel):
    """Everything that decides the trained weights, besides data and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "swift"
    summary: str = ""
    architecture: Literal[
        "swift", "bands", "descent", "unet", "gifnet", "unfolding", "unfolding-features"
    ] = "swift"
    options: dict[str, Any] = Field(default_factory=dict)
    init: str | None = Field(
        default=None, description="name of shipped weights, or a path, to start from"
    )
    first: str | None = Field(
        default=None, description="recipe of a first stage, whose weights are the start of this one"
    )
    kernel: Kernel = "binomial"
    levels: int = Field(default=4, ge=0, le=8)
    loss: LossWeights = LossWeights()

    steps: int | None = Field(default=300, ge=1)
    minutes: float | None = Field(default=None, gt=0, description="wall clock; replaces steps")
    seed: int = 0
    batch: int = Field(default=8, ge=1)
    crop: int | None = Field(
        default=256, ge=32, description="side of random crops; None: full images"
    )
    full_fraction: float = Field(
        default=0.0, ge=0, le=1, description="last part, run on full images"
    )
    full_batch: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    warmup: float = Field(default=0.15, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of the averaged weights; 0: none"
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    flips: bool = True
    role_swap: float = Field(
        default=0.0, ge=0, le=1, description="probability that A and B change places"
    )
    tone: float = Field(default=0.0, ge=0, le=1, description="probability of random gamma and gain")
    emission: float = Field(default=0.0, ge=0, le=1, description="probability of a PET-like A")
    emission_gain: float = Field(
        default=1.0, ge=0.5, description="strongest gain of PET-like pairs; above 1 some clip"
    )

    cysts: float = Field(
        default=0.0, ge=0, le=1, description="probability of a flat place where A and B disagree"
    )
    palette: float = Field(
        default=0.0, ge=0, le=1, description="probability that a PET-like A is in random colours"
    )
    rims: float = Field(
        default=0.0, ge=0, le=1, description="probability of a rim bright in A and dark in B"
    )

    validation: float = Field(
        default=0.1, ge=0, lt=1, description="share of pairs or patients held out"
    )
    group_digits: int = Field(
        default=0, ge=0, description="digits of slice number at the end of names"
    )
    validation_pairs: int = Field(default=16, ge=1, description="at most so many, evenly spread")
    validations: int = Field(
        default=10, ge=1, description="how many times, evenly spread over training"
    )
    patience: int = Field(
        default=4, ge=1, description="stop after so many validations without gain"
    )

    def override(self, **changes: Any) -> Recipe:
        """The same recipe with some fields changed and checked again; ``None`` changes nothing.

        ``steps`` and ``minutes`` replace each other.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if "minutes" in given and "steps" not in given:
            given["steps"] = None
        elif "steps" in given and "minutes" not in given:
            given["minutes"] = None
        loss = given.get("loss")
        if isinstance(loss, dict):
            given["loss"] = {**self.loss.model_dump(), **loss}
        if isinstance(given.get("sources"), dict) and isinstance(self, BandRecipe):
            given["sources"] = {**self.sources.model_dump(), **given["sources"]}
        return type(self).model_validate({**self.model_dump(), **given})


class BandRecipe(Recipe):
    """How a band guide is trained; ``sources`` replaces ``loss``."""

    architecture: Literal["bands", "descent"] = "bands"
    sources: SourceWeights = SourceWeights()


class GifnetRecipe(Recipe):
    """How GIFNet is trained; ``loss`` is what ``detail`` weighs, beside the published terms."""

    architecture: Literal["gifnet"] = "gifnet"
    levels: int = 0
    temperature: float = Field(
        default=1.0, gt=0, description="of the softmax that weighs the two sources"
    )
    local: bool = Field(default=True, description="a weight for each pixel; False: for each batch")
    detail: float = Field(
        default=1.0, ge=0, description="weight of the fusion loss; 0: the published terms alone"
    )
    twins: float = Field(
        default=0.25, ge=0, le=1, description="share of multi-focus pairs of one image twice"
    )
    until: float = Field(
        default=1.0, gt=0, le=1, description="part of the schedule after which training ends"
    )


class UnfoldingRecipe(Recipe):
    """A stage of unfolding; ``loss`` is what it asks for where the task has no known answer."""

    architecture: Literal["unfolding", "unfolding-features"] = "unfolding"
    levels: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    task: Literal["modalities", "focus", "exposure"] = Field(
        default="modalities", description="what a pair is; focus and exposure are made from A"
    )
    transfer: float = Field(
        default=0.0, ge=0, description="weight of the gradients of the weights to start from"
    )
    doubt: float = Field(default=0.0, ge=0, description="weight of the squared logarithm of trust")
    batch: int = 4
    crop: int | None = 128
    steps: int | None = 500
    validation: float = 0.05
    validations: int = 1


# What the shipped guides minimise: the published terms, and three that hold both sources in
# (docs/guides.md has the figures of each).
_LOSS = LossWeights(edges=10, fidelity_a=5, fidelity_b=5, uptake=1)
_SWIFT = {"shuffle": 2, "widths": [16, 24, 48, 64, 96], "skip": True}
_STREET = {
    "options": _SWIFT,
    "crop": 160,
    "full_batch": 1,
    "emission": 0.25,
    "validation": 0.05,
    "validations": 3,
}
_GIFNET_LOSS = LossWeights(maximum=10, consistency=0, gradient=20, ssim_a=0, ssim_b=0, edges=20)
_GIFNET = {
    "options": {"route": "modal"},
    "loss": _GIFNET_LOSS,
    "crop": 64,
    "batch": 4,
    "weight_decay": 0.0,
    "emission": 0.2,
    "validation": 0.05,
    "validation_pairs": 4,
}
_GIFNET_LAST = {"learning_rate": 1e-3, "warmup": 0.0, "ema": 0.9, "validations": 1}
# The published training: four full images a step at one rate.
_PUBLISHED: dict[str, Any] = {
    "loss": LossWeights(window=48),
    "crop": None,
    "batch": 4,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "flips": False,
}
_IN_DOMAIN = {
    "options": _SWIFT,
    "init": "swift-msrs",
    "loss": _LOSS.model_copy(update={"uptake": 5.0, "fidelity_a": 7.0, "edges": 20.0}),
    "crop": 192,
    "steps": 120,
    "ema": 0.98,
    "validations": 3,
    "learning_rate": 1e-3,
    "group_digits": 3,
}

_BOTH: dict[str, Any] = {
    "crop": 128,
    "batch": 6,
    "validation": 0.3,
    "group_digits": 3,
    "validations": 1,
    "cysts": 0.15,
    "steps": 900,
}
_LONG = {"ema": 0.99, "validations": 3}
_KEEP_BOTH = {"gradient": 10.0, "edges": 6.0, "detail": 2.0, "weaker": 3.0, "own": 10.0}


def _transfer_sequence(
    name: str,
    summary: str,
    *,
    steps: tuple[int, int, int],
    loss: LossWeights,
    doubt: float = 0.0,
    **common: Any,
) -> list[UnfoldingRecipe]:
    """Focus, then exposure, then two modalities; each starts from the one before it."""
    stages = (
        {
            "name": f"{name}-focus",
            "summary": f"first stage of {name}: sharp and blurred parts",
            "task": "focus",
            "role_swap": 0.5,
            "learning_rate": 3e-3,
        },
        {
            "name": f"{name}-exposure",
            "summary": f"second stage of {name}: bright and dark exposures",
            "first": f"{name}-focus",
            "task": "exposure",
            "role_swap": 0.5,
            "transfer": 1.0,
        },
        {
            "name": name,
            "summary": summary,
            "first": f"{name}-exposure",
            "loss": loss,
            "transfer": 1.0,
            "learning_rate": 3e-3,
            "doubt": doubt,
            "emission": 0.4,
            "ema": 0.99,
        },
    )
    return [
        UnfoldingRecipe.model_validate({**common, **stage, "steps": count})
        for stage, count in zip(stages, steps, strict=True)
    ]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="swift",
            summary="swift from scratch: the default of medfuse train",
            options=_SWIFT,
            loss=_LOSS,
            crop=192,
            steps=600,
            full_fraction=0.15,
        ),
        Recipe(
            name="swift-minute",
            summary="swift from scratch in a minute",
            options=_SWIFT,
            loss=LossWeights(edges=30, fidelity_a=5, fidelity_b=5),
            crop=128,
            steps=None,
            minutes=1,
            validation=0.0,
        ),
        Recipe.model_validate(
            {
                **_STREET,
                "name": "swift-street",
                "summary": "first stage of swift-msrs",
                "loss": _LOSS.model_copy(update={"uptake": 5.0, "edges": 15.0}),
                "steps": 900,
                "ema": 0.99,
                "full_fraction": 0.1,
            }
        ),
        Recipe.model_validate(
            {
                **_STREET,
                "name": "swift-msrs",
                "summary": "swift trained on infrared and visible street scenes, no medical image",
                "first": "swift-street",
                "loss": _LOSS.model_copy(update={"uptake": 5.0, "fidelity_a": 10.0}),
                "steps": 120,
                "learning_rate": 1e-3,
                "ema": 0.98,
                "validations": 1,
                "crop": 192,
            }
        ),
        Recipe.model_validate(
            {
                **_IN_DOMAIN,
                "name": "in-domain",
                "summary": "swift-msrs trained further on images of one's own",
                "validation": 0.2,
                "group_digits": 0,
            }
        ),
        Recipe.model_validate(
            {
                **_IN_DOMAIN,
                "name": "swift-pet",
                "summary": "swift-msrs trained further on brain PET and MRI",
                "validation": 0.3,
            }
        ),
        Recipe.model_validate(
            {
                **_IN_DOMAIN,
                "name": "swift-spect",
                # Without the hold this guide learns to show the MRI alone.
                "loss": _LOSS.model_copy(
                    update={"hold_a": 60.0, "hold": 0.3, "uptake": 5.0, "edges": 15.0}
                ),
                "summary": "swift-msrs trained further on brain SPECT and MRI",
            }
        ),
        Recipe.model_validate(
            {
                **_IN_DOMAIN,
                "name": "swift-ct",
                "summary": "swift-msrs trained further on head CT and MRI",
            }
        ),
        GifnetRecipe.model_validate(
            {
                **_GIFNET,
                "name": "gifnet-street",
                "summary": "first stage of gifnet",
                "steps": 400,
                "until": 0.5,
                "learning_rate": 1.5e-3,
                "ema": 0.98,
                "validations": 2,
            }
        ),
        GifnetRecipe.model_validate(
            {
                **_GIFNET,
                "name": "gifnet-fidelity",
                "summary": "second stage of gifnet",
                "first": "gifnet-street",
                "loss": _GIFNET_LOSS.model_copy(
                    update={"fidelity_a": 3.0, "fidelity_b": 3.0, "edges": 30.0}
                ),
                "emission": 0.4,
                "steps": 250,
                **_GIFNET_LAST,
            }
        ),
        GifnetRecipe.model_validate(
            {
                **_GIFNET,
                "name": "gifnet",
                "summary": "GIFNet, trained on street scenes only: a network paints every pixel",
                "first": "gifnet-fidelity",
                "loss": _GIFNET_LOSS.model_copy(
                    update={"fidelity_a": 3.0, "fidelity_b": 3.0, "edges": 60.0}
                ),
                # Scans are bright to the last grey level; the tanh learns that from clipped pairs.
                "emission": 0.6,
                "emission_gain": 1.6,
                "steps": 200,
                **_GIFNET_LAST,
            }
        ),
        Recipe(
            name="unet",
            summary="the published recipe on the paper's U-Net: full images, paper kernel",
            architecture="unet",
            options={"base": 64},
            kernel="paper",
            **_PUBLISHED,
        ),
        Recipe(
            name="unet-paints",
            summary="the same network without a kernel: it paints the luminance itself",
            architecture="unet",
            options={"base": 12, "paints": True},
            levels=0,
            **_PUBLISHED,
        ),
        BandRecipe.model_validate(
            {
                **_BOTH,
                "name": "both-pet",
                "summary": "weights per band that keep both, trained on brain PET and MRI",
                "sources": {
                    **_KEEP_BOTH,
                    "edges": 10.0,
                    "keep_a": 0.82,
                    "keep_b": 0.87,
                    "base": 0.5,
                    "order": 2.0,
                    "keep_order": 0.72,
                },
                **_LONG,
                "steps": 3000,
            }
        ),
        BandRecipe.model_validate(
            {
                **_BOTH,
                "name": "both-ct",
                "summary": "weights per band that keep both, trained on head CT and MRI",
                "sources": {
                    **_KEEP_BOTH,
                    "gradient": 20.0,
                    "edges": 10.0,
                    "weaker": 5.0,
                    "keep_a": 0.84,
                    "keep_b": 0.9,
                    "base": 4.0,
                    "base_bias": 0.1,
                    "thick": 0.5,
                    "own": 500.0,
                },
                "cysts": 0.5,
                **_LONG,
                "steps": 2200,
            }
        ),
        BandRecipe.model_validate(
            {
                **_BOTH,
                "name": "both-spect",
                "summary": "weights per band that keep both, trained on brain SPECT and MRI",
                "sources": {
                    **_KEEP_BOTH,
                    "edges": 12.0,
                    "own": 30.0,
                    "keep_a": 0.82,
                    "keep_b": 0.9,
                    "base": 0.5,
                    "order": 2.0,
                    "keep_order": 0.4,
                },
                **_LONG,
                "steps": 2500,
            }
        ),
        BandRecipe.model_validate(
            {
                **_BOTH,
                "name": "both-msrs",
                "summary": "weights per band that keep both, trained on street scenes alone",
                "sources": {
                    **_KEEP_BOTH,
                    "edges": 4.0,
                    "weaker": 1.0,
                    "keep_a": 0.85,
                    "keep_b": 0.85,
                    "beyond": 150.0,
                    "fewest": 400,
                },
                "steps": 500,
                "learning_rate": 3e-4,
                "role_swap": 0.5,
                "emission": 0.5,
                "palette": 0.7,
                "tone": 0.3,
                "rims": 0.3,
                "group_digits": 0,
                "validation": 0.05,
            }
        ),
        *(BandRecipe.model_validate(fields) for fields in DESCENT),
        *_transfer_sequence(
            "unfolding",
            "per-pixel blend by a solved rule, trained on street scenes",
            steps=(250, 200, 500),
            loss=LossWeights(
                maximum=0, gradient=15, uptake=8, edges=15, fidelity_a=12, fidelity_b=10
            ),
            doubt=0.01,
            crop=96,
        ),
        *_transfer_sequence(
            "unfolding-features",
            "paints by a solved rule in feature space, trained on street scenes",
            steps=(120, 60, 250),
            loss=LossWeights(edges=15, fidelity_b=10),
            architecture="unfolding-features",
            crop=64,
            validation_pairs=4,
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises
    ------
    UsageError
    """
    if name not in RECIPES:
        raise UsageError(
            "E_UNKNOWN_RECIPE",
            what=f"Unknown recipe {name!r}",
            cause=f"known are {', '.join(RECIPES)}",
            remedy="Choose one of these",
        )
    return RECIPES[name]
