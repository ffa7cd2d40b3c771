"""Networks by name, and whether a file can fill what it asks for: told before memory is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medfuse.methods.bands import BandNet
from medfuse.methods.descent import DescentNet
from medfuse.methods.gifnet import GifNet
from medfuse.methods.swift import SwiftNet
from medfuse.methods.unet import UNet
from medfuse.methods.unfolding import UnfoldingNet
from medfuse.methods.unfolding_features import FeatureNet

ARCHITECTURES = ("swift", "bands", "descent", "unet", "gifnet", "unfolding", "unfolding-features")
MAX_LEVELS = 16  # of a pyramid; the widest image has 2**15 pixels
MAX_STAGES = 32  # of a network
MAX_NUMBER = 1 << 16  # channels, the largest of all options


def build_network(architecture: str, options: dict[str, Any]) -> nn.Module:
    """Build an untrained network by name.

    Raises
    ------
    ValueError
        If the name or an option is unknown.
    """
    if architecture == "swift":
        widths = [int(w) for w in options.get("widths", (32, 48, 64, 96))]
        if len(widths) < 2:
            raise ValueError(f"swift needs two widths or more, got {len(widths)}")
        shuffle, skip = int(options.get("shuffle", 4)), bool(options.get("skip", False))
        return SwiftNet(widths, shuffle, skip=skip, maps=int(options.get("maps", 1)))
    if architecture == "bands":
        widths = [int(w) for w in options.get("widths", (16, 24, 48, 64, 96))]
        levels = int(options.get("levels", 4))
        if 0 < len(widths) <= levels:
            raise ValueError(f"{levels} levels need {levels + 1} widths or more, got {len(widths)}")
        return BandNet(widths, levels, int(options.get("hidden", 16)))
    if architecture == "descent":
        return DescentNet(
            options.get("wanted", {}),
            int(options.get("levels", 4)),
            int(options.get("rounds", 3)),
            int(options.get("hidden", 16)),
            str(options.get("start", "local-energy")),
        )
    if architecture == "unet":
        return UNet(int(options.get("base", 64)), paints=bool(options.get("paints", False)))
    if architecture == "gifnet":
        return GifNet(
            route=options.get("route", "focus"), parity=bool(options.get("parity", False))
        )
    if architecture == "unfolding":
        return UnfoldingNet(int(options.get("channels", 16)), trust=options.get("trust", 99.0))
    if architecture == "unfolding-features":
        return FeatureNet(int(options.get("channels", 16)))
    raise ValueError(f"unknown architecture {architecture!r}; known are {', '.join(ARCHITECTURES)}")


def misfit(architecture: Any, options: Any, tensors: Mapping[str, Tensor]) -> str:
    """Why tensors cannot fill the network that a header names; empty where they can.

    The network is laid out without memory for its values, so that nothing is taken for one that
    the tensors do not fill.

    Parameters
    ----------
    architecture, options
        As a file states them: anything.
    tensors : dict of Tensor
    """
    if not isinstance(architecture, str) or not isinstance(options, dict):
        return "its header names no network"
    try:
        wild = [str(name)[:20] for name, value in options.items() if not _is_tame(value)]
        if wild:
            return f"no network has such options ({', '.join(wild[:3])})"
        with torch.device("meta"):
            expected = build_network(architecture, options).state_dict()
    except Exception as error:  # the options are those of a stranger
        return str(error)[:120] or type(error).__name__
    wrong = [n for n, t in expected.items() if n not in tensors or tensors[n].shape != t.shape]
    extra = [n for n in tensors if n not in expected]
    if not (wrong or extra):
        return ""
    return (
        f"{len(wrong)} tensors are missing or of another shape, {len(extra)} are unknown "
        f"(first: {(wrong + extra)[0][:80]})"
    )


def _is_tame(value: Any) -> bool:
    """Whether an option is a number, a word or a short list of a size that networks have."""
    if isinstance(value, dict):
        return len(value) <= MAX_STAGES and all(_is_tame(x) for x in value.values())
    if isinstance(value, list):
        return len(value) <= MAX_STAGES and all(_is_tame(x) for x in value)
    if isinstance(value, str):
        return len(value) <= MAX_STAGES
    return isinstance(value, int | float) and -MAX_NUMBER <= value <= MAX_NUMBER
