"""Where networks, kernel and metrics are computed: the processor, unless a GPU is asked for.

No GPU rounds as the processor does, nor as another GPU; so none is taken unless the user says so,
and a result says where it was computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from medfuse.errors import UsageError, option

Device = Literal["auto", "cpu", "cuda", "mps"]


CPU = torch.device("cpu")


def devices_here() -> list[str]:
    """Names of the devices that torch can compute on, the processor first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ["cpu", *(name for name, is_here in found.items() if is_here)]


def find_device(name: str = "auto") -> torch.device:
    """Device of a name; ``auto`` is the processor, whose results are the same to the bit anywhere.

    Raises
    ------
    UsageError
        ``E_DEVICE``: unknown, or torch cannot compute on it here.
    """
    if name == "auto":
        return CPU
    here = devices_here()
    if name not in here:
        known = name in get_args(Device)
        raise UsageError(
            "E_DEVICE",
            what=f"Cannot compute on {name!r}",
            cause=f"this PyTorch ({torch.__version__}) can use {' and '.join(here)} here"
            if known
            else f"known are {', '.join(get_args(Device))}",
            remedy=f"Leave {option('device')} out to use the processor, or install a PyTorch "
            "and a driver for that device",
        )
    return torch.device(name)


@contextmanager
def exact_convolutions(device: torch.device) -> Iterator[None]:
    """On CUDA: full float32 and the same algorithm in every run."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
