"""Methods by name: guides, rules and painters that come with medfuse, and weights of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from torch import Tensor

from medfuse.errors import UsageError
from medfuse.kernel.blend import blend
from medfuse.kernel.pyramid import Kernel
from medfuse.methods import rules, zoo
from medfuse.methods.base import BF16, Method, Painter

_FACTORIES: dict[str, tuple[Callable[[], Method | Painter], str]] = {}


def register_method(name: str, factory: Callable[[], Method | Painter], summary: str) -> None:
    """Make a method known by name; the factory runs when the method is first used."""
    _FACTORIES[name] = (factory, summary)


def get_method(method: str | Path | Method | Painter) -> Method | Painter:
    """Find a method by name, by a path to safetensors weights, or pass an object through.

    ``+bf16`` behind a guide runs its network in bfloat16: faster on processors that have it, but
    the bits then depend on the processor. The name, and so the provenance, keeps the suffix.

    Raises
    ------
    UsageError
        If no method has this name.
    WeightsError
        If weights are missing, altered or of another architecture.
    """
    if isinstance(method, Method | Painter):
        return method
    if str(method).endswith(BF16):
        return _in_bfloat16(get_method(str(method).removesuffix(BF16)))
    _discover()
    if str(method) in _FACTORIES:
        return _FACTORIES[str(method)][0]()
    if str(method).endswith(".safetensors") or Path(method).is_file():
        return zoo.load_guide(Path(method))
    raise UsageError(
        "E_UNKNOWN_METHOD",
        what=f"Unknown method {str(method)!r}",
        cause=f"known are {', '.join(sorted(_FACTORIES))}",
        remedy="Choose one of these or give a path to a .safetensors file",
    )


def fuse_by(
    method: Method | Painter, a: Tensor, b: Tensor, *, kernel: Kernel = "binomial"
) -> Tensor:
    """Fused luminance by any method: the kernel's blend for a guide, a painter's own picture.

    Parameters
    ----------
    method : Method or Painter
    a, b : (N, 1, H, W) float32 in [0, 1]
    kernel : {"binomial", "paper"}

    Returns
    -------
    (N, 1, H, W) float32
    """
    if isinstance(method, Painter):
        return method.luminance(a, b)
    return blend(a, b, method.weights(a, b), levels=method.info.levels, kernel=kernel)


def _in_bfloat16(method: Method | Painter) -> Method | Painter:
    in_bfloat16 = getattr(method, "in_bfloat16", None)
    if in_bfloat16 is None:
        raise UsageError(
            "E_UNKNOWN_METHOD",
            what=f"Unknown method {method.info.name + BF16!r}",
            cause=f"{method.info.name} cannot be computed in bfloat16",
            remedy=f"Leave {BF16} out",
        )
    return cast("Method | Painter", in_bfloat16())


def list_methods() -> list[tuple[str, str]]:
    """Name and one-line summary of every registered method, in order of registration."""
    _discover()
    return [(name, summary) for name, (_, summary) in _FACTORIES.items()]


def _discover() -> None:
    if not _FACTORIES:
        for entry in (*zoo.catalogue(), *rules.catalogue()):
            register_method(*entry)
