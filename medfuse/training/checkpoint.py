"""The state of a training run in one safetensors file, replaced atomically."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from medfuse.errors import OutputError, WeightsError


@dataclass
class TrainingState:
    """A run between two steps; everything that the next step depends on.

    ``average`` is the exponential moving average of the weights, ``best`` the weights of the
    lowest validation loss so far.
    """

    net: nn.Module
    optimiser: torch.optim.AdamW
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    validations: int = 0
    without_gain: int = 0
    first_loss: float | None = None
    last_loss: float | None = None

    NUMBERS = (
        "step",
        "seconds",
        "best_loss",
        "validations",
        "without_gain",
        "first_loss",
        "last_loss",
    )

    def weights(self) -> dict[str, Tensor]:
        """The weights to use: averaged where an average is kept."""
        return self.average or self.net.state_dict()


def save_state(path: Path, state: TrainingState, key: str) -> None:
    """Write a checkpoint beside ``path`` and move it into place.

    Parameters
    ----------
    path : Path
    state : TrainingState
    key : str
        Hash of recipe and data; a checkpoint continues only the run that it was made by.

    Raises
    ------
    OutputError
    """
    tensors = {f"net.{n}": t for n, t in state.net.state_dict().items()}
    tensors |= {f"average.{n}": t for n, t in state.average.items()}
    tensors |= {f"best.{n}": t for n, t in state.best.items()}
    names = [name for name, _ in state.net.named_parameters()]
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{names[index]}.{n}": t for n, t in moments.items()}
    numbers = {name: getattr(state, name) for name in TrainingState.NUMBERS}
    header = {"medfuse-checkpoint": json.dumps({"key": key, **numbers})}
    # Copies, because safetensors refuses tensors that share memory.
    data = save({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, header)
    write_atomically(path, data)


def restore_state(path: Path, state: TrainingState, key: str) -> bool:
    """Fill a fresh state from a checkpoint.

    Returns
    -------
    bool
        False if there is no checkpoint.

    Raises
    ------
    WeightsError
        If the checkpoint belongs to another recipe or other data, or cannot be read.
    """
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("medfuse-checkpoint", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own Rust exception types
        raise _error(path, f"the checkpoint cannot be read ({str(error)[:60]})") from error
    if header.get("key") != key:
        raise _error(path, "the checkpoint belongs to another recipe or other data")
    state.net.load_state_dict(_section(tensors, "net."))
    state.average, state.best = _section(tensors, "average."), _section(tensors, "best.")
    moments = _section(tensors, "optimiser.")
    packed = state.optimiser.state_dict()
    for index, (name, _) in enumerate(state.net.named_parameters()):
        packed["state"][index] = _section(moments, f"{name}.")
    state.optimiser.load_state_dict(packed)
    for name in TrainingState.NUMBERS:
        setattr(state, name, header[name])
    return True


def update_average(state: TrainingState, decay: float) -> None:
    """Move the averaged weights towards the current ones; fast at first."""
    current = state.net.state_dict()
    if not state.average:
        state.average = copy.deepcopy(current)
        return
    decay = min(decay, (state.step + 1) / (state.step + 10))
    for name, value in current.items():
        if value.is_floating_point():
            state.average[name].lerp_(value, 1 - decay)
        else:
            state.average[name].copy_(value)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is whole or absent.

    Raises
    ------
    OutputError
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OutputError(
            "E_WRITE",
            what="Cannot write",
            where=path.name,
            cause=error.strerror or "the system refused",
            remedy="Check free space and permissions of the output folder",
        ) from error


def _section(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


def _error(path: Path, cause: str) -> WeightsError:
    return WeightsError(
        "E_CHECKPOINT",
        what="Cannot resume training",
        where=path.name,
        cause=cause,
        remedy="Delete it to start anew, or write to another output",
    )
