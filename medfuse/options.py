"""Options that several commands share, with their help texts. No heavy imports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Out = Annotated[Path, typer.Option("--out", "-o", help="Result folder (written whole or not).")]
MethodName = Annotated[
    str, typer.Option("--method", "-m", help="Guide: a name (medfuse methods) or a .safetensors.")
]
Mode = Annotated[
    Literal["slices", "volume"],
    typer.Option(help="Blend slice by slice, or in 3-D with the guide averaged over three axes."),
]
KernelName = Annotated[
    Literal["binomial", "paper"], typer.Option(help="binomial is exact; paper is as published.")
]
Colormap = Annotated[
    str | None, typer.Option(help="Colour map of a scalar PET/SPECT/CT. [default: by modality]")
]
GamutPolicy = Annotated[
    Literal["fit", "clip"],
    typer.Option(help="Colours outside RGB: move luminance (fit) or cut channels (clip, paper)."),
]
Bias = Annotated[
    float,
    typer.Option(min=-1, max=1, help="Shift the weights to the anatomical (+) or functional (-)."),
]
RegistrationMode = Annotated[
    Literal["auto", "rigid", "identity"],
    typer.Option(help="auto trusts a shared frame of reference; identity trusts the headers."),
]
Preset = Annotated[
    Literal["fast", "default", "thorough"], typer.Option(help="Effort of the registration.")
]
Initial = Annotated[
    Path | None,
    typer.Option(help="Start of the registration: 4x4 text, fixed -> moving point, RAS mm."),
]
AcceptSuspect = Annotated[
    bool, typer.Option("--accept-suspect", help="Fuse although the registration is suspect.")
]
PatientMismatch = Annotated[
    bool, typer.Option("--allow-patient-mismatch", help="Fuse although headers name two patients.")
]
Unit = Annotated[
    Literal["auto", "suv"], typer.Option(help="suv: stop where SUV cannot be computed.")
]
Window = Annotated[
    tuple[float, float] | None,
    typer.Option("--window", metavar="LOW HIGH", help="Functional window in its unit."),
]
AnatomicalWindow = Annotated[
    tuple[float, float] | None,
    typer.Option("--anatomical-window", metavar="LOW HIGH", help="Anatomical window."),
]
Modality = Annotated[
    Literal["MRI", "PET", "SPECT", "CT"] | None,
    typer.Option(help="State the modality of a NIfTI file."),
]
FunctionalUnit = Annotated[
    Literal["SUVbw", "Bq/ml", "HU", "counts", "a.u."] | None,
    typer.Option(help="State the unit of a functional NIfTI file."),
]
Series = Annotated[
    str | None, typer.Option(help="Series UID or number, where a folder holds several.")
]
Frame = Annotated[
    str | None, typer.Option(help="Dynamic series: a frame number from 0, or 'mean'.")
]
Seed = Annotated[int, typer.Option(help="Seed of the registration.")]
Png = Annotated[bool, typer.Option("--png", help="Also every fused slice and a MIP as PNG.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable answer on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")]
