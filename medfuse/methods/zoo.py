"""Named weights: find, verify, load. Only safetensors are read, never anything executable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from medfuse.errors import NOTICE, WeightsError
from medfuse.imaging.downloads import fetch
from medfuse.methods.architectures import MAX_LEVELS, misfit
from medfuse.methods.architectures import build_network as build_network
from medfuse.methods.bands import BandGuide, BandNet
from medfuse.methods.base import BF16, Entry, Method, MethodInfo, Painter
from medfuse.methods.descent import DescentNet
from medfuse.methods.gifnet import VARIANTS, GifNet, GifnetPainter
from medfuse.methods.network import NetworkGuide, NetworkPainter, count_parameters
from medfuse.methods.swift import SwiftGuide, SwiftNet
from medfuse.methods.unet import UNet, UnetGuide
from medfuse.methods.unfolding import UnfoldingGuide, UnfoldingNet
from medfuse.methods.unfolding_features import FeatureNet, FeaturePainter

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "swift-msrs"
SCHEMA = "medfuse-card/1"

# Zip archives (torch.save) and bare pickles start like this; safetensors with a length.
_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_PAINTERS = ("gifnet", "unfolding-features")
_MAX_BYTES = 512 * 1024**2
_MAX_CARD_BYTES = 4 * 1024**2


class Card(BaseModel):
    """Where weights come from; lies beside them as JSON of the same name."""

    model_config = ConfigDict(extra="forbid")

    schema_: str = Field(SCHEMA, alias="schema")
    name: str
    summary: str
    architecture: str
    options: dict[str, Any]
    parameters: int
    levels: int = Field(ge=0, le=MAX_LEVELS)
    kernel: str
    sha256: str
    data: dict[str, Any]
    recipe: dict[str, Any]
    seed: int
    steps: int
    seconds: float
    threads: int
    device: str
    software: dict[str, str]
    command: str
    validation: dict[str, Any]
    test: dict[str, Any] = Field(default_factory=dict)
    limitations: str = "Judged on the named data alone; compare every result with its sources."
    notice: str = NOTICE


def wrap_network(net: nn.Module, info: MethodInfo) -> Method | Painter:
    """Make a method of a trained network; the network is taken over."""
    if isinstance(net, SwiftNet):
        return SwiftGuide(net, info)
    if isinstance(net, BandNet | DescentNet):
        return BandGuide(net, info)
    if isinstance(net, UNet):
        return NetworkPainter(net, info) if net.paints else UnetGuide(net=net, info=info)
    if isinstance(net, GifNet):
        return GifnetPainter(net, info)
    if isinstance(net, UnfoldingNet):
        return UnfoldingGuide(net, info)
    if isinstance(net, FeatureNet):
        return FeaturePainter(net, info)
    return NetworkGuide(net, info)


def paints(architecture: str, options: dict[str, Any]) -> bool:
    """Whether a network makes the luminance itself; told without building it."""
    return architecture in _PAINTERS or bool(options.get("paints", False))


def load_guide(path: Path) -> Method | Painter:
    """Load a guide or a painter from a safetensors file.

    A card of the same name beside it is optional; where there is one, its sha256 must agree.

    Raises
    ------
    WeightsError
        If the file is missing, is not safetensors, was altered, or holds another network.
    """
    return wrap_network(*_read_guide(path, read_card(path)))


def _read_guide(path: Path, card: Card | None) -> tuple[nn.Module, MethodInfo]:
    data = read_weights(path)
    digest = _sha256_of(data, path, card)
    header, tensors = parse_weights(data, path)
    net = load_network(header, tensors, path)
    architecture = header["architecture"]
    paints_itself = paints(architecture, header.get("options", {}))
    single_pixels = paints_itself or architecture == "unfolding"
    info = MethodInfo(
        name=card.name if card else path.stem,
        summary=card.summary if card else f"{architecture} without a card",
        kind="synthesis" if paints_itself else "guide",
        parameters=count_parameters(net),
        levels=card.levels if card else 0 if single_pixels else 4,
        maps=net.levels + 1 if isinstance(net, BandNet | DescentNet) else 1,
        weights_sha256=digest,
        card=card.model_dump(by_alias=True) if card else {},
    )
    return net, info


def _sha256_of(data: bytes, path: Path, card: Card | None) -> str:
    """Of the bytes of a weights file, refused where its card says otherwise."""
    digest = hashlib.sha256(data).hexdigest()
    if card is not None and card.sha256 != digest:
        raise _error(
            path,
            f"sha256 is {digest[:12]}..., its card says {card.sha256[:12]}...",
            "Restore the file, or delete the card if the weights were changed on purpose",
        )
    return digest


def read_weights(path: Path) -> bytes:
    """Read a weights file, refusing executable formats without opening them.

    Raises
    ------
    WeightsError
    """
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise _error(path, "pickled weights can run code when loaded", _CONVERT)
    if not path.is_file():
        raise _error(path, "no such file", "Give the path of a .safetensors file")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise _error(path, f"{size / 1e6:.0f} MB is too large for a guide", _CHECK)
    data = path.read_bytes()
    if data.startswith(_PICKLE_MAGIC):
        raise _error(path, "this is a pickle, which can run code when loaded", _CONVERT)
    return data


def parse_weights(data: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Architecture and tensors of a safetensors file.

    Raises
    ------
    WeightsError
        If the bytes are no safetensors of medfuse or hold NaN or infinities.
    """
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        header = json.loads(metadata.get("medfuse", "{}"))
    except (SafetensorError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise _error(path, f"no safetensors ({str(error)[:80]})", _CHECK) from error
    if not isinstance(header, dict) or "architecture" not in header:
        raise _error(path, "it does not say which network it belongs to", _CHECK)
    against = misfit(header["architecture"], header.get("options", {}), tensors)
    if against:
        raise _error(path, against, _CHECK)
    broken = [name for name, t in tensors.items() if not _is_finite(t)]
    if broken:
        raise _error(path, f"{len(broken)} tensors hold NaN or infinities", _CHECK)
    return header, tensors


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.to(torch.float32)).all())


def load_network(header: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """Build the network that a header names and fill it, both as `parse_weights` gave them.

    Raises
    ------
    WeightsError
        If names or shapes do not fit.
    """
    architecture, options = header["architecture"], header.get("options", {})
    net = build_network(architecture, options)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise _error(path, misfit(architecture, options, tensors), _CHECK) from error
    return net


def read_card(path: Path) -> Card | None:
    """The card beside a weights file, or None.

    Raises
    ------
    WeightsError
        If the card is there but cannot be understood.
    """
    card = path.with_suffix(".json")
    if not card.is_file():
        return None
    try:
        if card.stat().st_size > _MAX_CARD_BYTES:
            raise ValueError("too large")
        return Card.model_validate_json(card.read_text(encoding="utf-8"))
    except ValueError as error:  # no text, no JSON, or not of this schema
        raise _error(card, "the card is no medfuse-card/1", "Restore the card") from error


def shipped() -> list[str]:
    """Names of the weights in the package, the default first."""
    names = sorted(card.stem for card in WEIGHTS.glob("*.json"))
    return sorted(names, key=lambda name: name != DEFAULT)


def load_shipped(name: str) -> Method | Painter:
    """Load weights of the package by name; they must have a card.

    Raises
    ------
    WeightsError
    """
    path, card = shipped_file(name), WEIGHTS / f"{name}.json"
    files = [file for file in (path, card) if file.is_file()]
    net, info = _load_once(path, card, tuple(file.stat().st_mtime_ns for file in files))
    return wrap_network(net, info)  # of its own, since it notes what it solved


def shipped_file(name: str) -> Path:
    """The weights behind a name of `shipped`: in the package, else fetched from the release.

    Raises
    ------
    InputError
        ``E_DOWNLOAD``: the package leaves them out and they cannot be fetched.
    """
    path = WEIGHTS / f"{name}.safetensors"
    if path.is_file():
        return path
    card = read_card(path)
    return path if card is None else fetch(path.name, card.sha256)


def shipped_sha256(method: str) -> str | None:
    """sha256 of the shipped weights behind a method, not built; None for a rule.

    Raises
    ------
    WeightsError
        If the file cannot be read or is not what its card says.
    """
    name = weights_name(method)
    if name not in shipped():
        return None
    path = shipped_file(name)
    return _sha256_of(read_weights(path), path, read_card(WEIGHTS / f"{name}.safetensors"))


@lru_cache(maxsize=16)
def _load_once(path: Path, card: Path, changed: tuple[int, ...]) -> tuple[nn.Module, MethodInfo]:
    """Network and facts of shipped weights, read again only where a file has changed."""
    facts = read_card(card)
    if facts is None:
        raise _error(path, "its card is missing", "Reinstall medfuse")
    return _read_guide(path, facts)


def catalogue() -> Iterator[Entry]:
    """The weights of the package for the registry; they are loaded when first used."""
    for name in shipped():
        card = read_card(WEIGHTS / f"{name}.safetensors")
        load_it = partial(load_shipped, name)
        if name == DEFAULT:
            yield "auto", load_it, "chosen by modality and color map; of unknown kinds, swift"
            yield "swift", load_it, f"the default, {DEFAULT}"
        yield name, load_it, card.summary if card else name
        if card is not None and card.architecture == "gifnet":
            for variant, how in VARIANTS.items():
                yield f"{name}-{variant}", partial(_variant, name, variant), how


def weights_name(method: str) -> str:
    """Name of the shipped weights behind a registered method: ``swift``, and variants of GIFNet."""
    base = method.removesuffix(BF16)
    for variant in VARIANTS:
        base = base.removesuffix(f"-{variant}")
    return DEFAULT if base in ("swift", "auto") else base


def _variant(name: str, variant: str) -> Painter:
    painter = load_shipped(name)
    assert isinstance(painter, GifnetPainter)
    return painter.variant(variant)


_CHECK = "Download or train the weights again (medfuse train)"
_CONVERT = "Convert it to safetensors in an environment you trust"


def _error(path: Path, cause: str, remedy: str) -> WeightsError:
    return WeightsError(
        "E_WEIGHTS", what="Cannot load weights", where=path.name, cause=cause, remedy=remedy
    )
