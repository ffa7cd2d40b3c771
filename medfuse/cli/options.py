"""Options that several commands share, with their help texts. No heavy imports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Out = Annotated[Path, typer.Option("--out", "-o", help="Result folder (written whole or not).")]
MethodName = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        help="Guide: a name (medfuse methods) or a .safetensors; with +bf16 behind it faster, but "
        "not to the bit the same on every processor.",
    ),
]
Mode = Annotated[
    Literal["auto", "slices", "volume"],
    typer.Option(
        help="Blend slice by slice, or in 3-D with the guide averaged over three axes; auto: 3-D "
        "for near-isotropic voxels."
    ),
]
KernelName = Annotated[
    Literal["binomial", "paper"], typer.Option(help="binomial is exact; paper is as published.")
]
Colormap = Annotated[
    str | None,
    typer.Option(
        help="Colour map of a scalar PET/SPECT/CT; ember, dusk and amber can be read back, medfuse "
        "colormaps lists all with their errors. [default: by modality]"
    ),
]
GamutPolicy = Annotated[
    Literal["fit", "clip"],
    typer.Option(help="Colours outside RGB: move luminance (fit) or cut channels (clip, paper)."),
]
Bias = Annotated[
    float,
    typer.Option(min=-1, max=1, help="Shift the weights to the anatomical (+) or functional (-)."),
]
Bounded = Annotated[
    bool,
    typer.Option(
        "--bounded",
        help="Keep the luminance within both sources (one voxel around); the change is recorded.",
    ),
]
RegistrationMode = Annotated[
    Literal["auto", "rigid", "affine", "identity"],
    typer.Option(
        help="auto trusts a shared frame of reference; identity trusts the headers; affine also "
        "fits scale and shear."
    ),
]
Preset = Annotated[
    Literal["fast", "default", "thorough"], typer.Option(help="Effort of the registration.")
]
Initial = Annotated[
    Path | None,
    typer.Option(
        help="Start of the registration: ITK or ANTs transform (.tfm, .txt, .h5, .mat), "
        "transform.json of a result, or 4x4 text (fixed -> moving point, RAS mm)."
    ),
]
InitialKind = Annotated[
    Literal["auto", "ras", "fsl"],
    typer.Option(
        help="What a 4x4 text given as --initial means: ras, or fsl (FLIRT -omat with the "
        "functional image as -in and the anatomical as -ref)."
    ),
]
Landmarks = Annotated[
    Path | None,
    typer.Option(help="Start from pairs of points: CSV, fixed x,y,z, moving x,y,z a line, RAS mm."),
]
AcceptSuspect = Annotated[
    bool, typer.Option("--accept-suspect", help="Fuse although the registration is suspect.")
]
PatientMismatch = Annotated[
    bool, typer.Option("--allow-patient-mismatch", help="Fuse although headers name two patients.")
]
Unit = Annotated[
    Literal["auto", "suv", "sul", "suvbsa", "proportion"],
    typer.Option(
        help="auto: SUVbw where the header allows. suv, sul (lean mass), suvbsa (surface): stop "
        "where it does not. proportion: parts per million of all counts (SPECT)."
    ),
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
TiltCorrection = Annotated[
    bool,
    typer.Option(
        "--tilt-correction/--no-tilt-correction",
        help="Resample a stack with gantry tilt to a straight grid, or refuse it.",
    ),
]
AssumeIdentity = Annotated[
    bool,
    typer.Option(
        "--assume-identity",
        help="Take the axes of a NIfTI without orientation as right, anterior, superior.",
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        min=0.1,
        help="Keep volumes on disk beside the result where a case needs more, by estimate: slower, "
        "same bytes; refuse what needs more even so. [default: the machine's memory, no disk]",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the registration.")]
Png = Annotated[bool, typer.Option("--png", help="Also every fused slice and a MIP as PNG.")]
Dicom = Annotated[
    Literal["multiframe", "slices"] | None,
    typer.Option(
        "--dicom",
        help="Also DICOM: the fused picture as one file or one a slice, weight map, registration "
        "and a blending of the untouched sources. Names the sources by their UIDs, as DICOM must; "
        "patient and study are blank without --keep-patient.",
    ),
]
KeepPatient = Annotated[
    bool,
    typer.Option(
        "--keep-patient",
        help="With --dicom: patient and study as in the anatomical DICOM, for the archive.",
    ),
]
KeepUids = Annotated[
    bool,
    typer.Option(
        "--keep-uids", help="Write DICOM UIDs as they are; default: hashed with a secret."
    ),
]
KeepNames = Annotated[
    bool,
    typer.Option(
        "--keep-names",
        help="Write names of input files and folders into the result (people name them after "
        "patients; the name of the result folder itself is always in it).",
    ),
]
ResultLayout = Annotated[
    Literal["cases", "bids"],
    typer.Option(
        "--layout",
        help="cases: OUT/CASE/. bids: OUT is a BIDS derivative data set (images of a BIDS data "
        "set only), with the cases in OUT/cases/.",
    ),
]
UidSalt = Annotated[
    Path | None,
    typer.Option(
        help="File with the secret that hashes UIDs, made if missing; never share it. Default: "
        "OUT.uid-salt for a batch; for one case a secret that only its input files give."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable answer on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")]
