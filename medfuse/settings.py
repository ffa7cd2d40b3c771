"""What a case is asked for and what became of it: plain values, no library that is slow to import.

The process that starts and records cases, and a command line that only plans, need nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CaseSettings(BaseModel):
    """Everything that changes the pixels of a case; part of the resume key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "swift"
    mode: Literal["auto", "slices", "volume"] = "auto"
    kernel: Literal["binomial", "paper"] = "binomial"
    colormap: str | None = None
    gamut: Literal["fit", "clip"] = "fit"
    bias: float = Field(default=0.0, ge=-1, le=1)
    bounded: bool = False
    registration: Literal["auto", "rigid", "affine", "identity"] = "auto"
    preset: Literal["fast", "default", "thorough"] = "default"
    initial: str | None = None
    initial_kind: Literal["auto", "ras", "fsl", "landmarks"] = "auto"
    accept_suspect: bool = False
    allow_patient_mismatch: bool = False
    unit: Literal["auto", "suv", "sul", "suvbsa", "proportion"] = "auto"
    window: tuple[float, float] | None = None
    anatomical_window: tuple[float, float] | None = None
    anatomical_modality: str | None = None
    functional_modality: str | None = None
    functional_unit: str | None = None
    anatomical_series: str | None = None
    functional_series: str | None = None
    frame: int | Literal["mean"] | None = None
    tilt_correction: bool = True
    assume_identity: bool = False
    seed: int = 0
    png: bool = False
    dicom: Literal["multiframe", "slices"] | None = None
    keep_patient: bool = False
    keep_uids: bool = False
    keep_names: bool = False


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
