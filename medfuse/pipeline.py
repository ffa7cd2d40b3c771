"""One case, from files to a result folder that is whole or absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

Progress = Callable[[float, str], None]


class CaseSettings(BaseModel):
    """Everything that changes the pixels of a case; part of the resume key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "swift"
    mode: Literal["slices", "volume"] = "slices"
    kernel: Literal["binomial", "paper"] = "binomial"
    colormap: str = "hot"
    registration: Literal["auto", "rigid", "identity"] = "auto"
    preset: Literal["fast", "default", "thorough"] = "default"
    initial: str | None = None
    accept_suspect: bool = False
    unit: Literal["auto", "suv"] = "auto"
    window: tuple[float, float] | None = None
    anatomical_window: tuple[float, float] | None = None
    anatomical_modality: str | None = None
    functional_modality: str | None = None
    functional_unit: str | None = None
    anatomical_series: str | None = None
    functional_series: str | None = None
    frame: int | Literal["mean"] | None = None
    seed: int = 0
    png: bool = False


@dataclass(frozen=True)
class CaseResult:
    """What became of one case."""

    case: str
    status: Literal["done", "skipped", "failed"]
    folder: Path | None = None
    code: str | None = None
    message: str | None = None
    verdict: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    timing: dict[str, float] = field(default_factory=dict)
