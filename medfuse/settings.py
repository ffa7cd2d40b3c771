"""What a case is asked for and what became of it: plain values, no library that is slow to import.

A setting is declared here once, with its help, choices, default and group. The commands, the
columns of a manifest, the panel and the MONAI transforms derive what they offer from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from medfuse.errors import UsageError, option

#: Told how far long work is, ``(fraction, text)``; what it raises cancels the work.
Progress = Callable[[float, str], None]

Group = Literal["Reading", "Registration", "Fusion", "Output"]


@dataclass(frozen=True)
class Option:
    """How a setting is offered to people.

    Attributes
    ----------
    group : str
        The heading under which commands list it.
    help : str
        One or two sentences.
    label : str
        What the panel calls it; default the name with spaces.
    common : bool
        Listed first, before the groups.
    short : str
        Short flag, e.g. ``-m``.
    metavar : str
        What stands for the value in a help text.
    choices : tuple of str
        Words that are offered where the type allows any text.
    single : bool
        Belongs to one case: a batch takes it from a column of the manifest, not from a flag.
    is_path : bool
        Names a file of the user.
    """

    group: Group
    help: str
    label: str = ""
    common: bool = False
    short: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    single: bool = False
    is_path: bool = False


_MODALITIES = ("MRI", "PET", "SPECT", "CT")
_UNITS = ("SUVbw", "Bq/ml", "HU", "counts", "a.u.")
_SERIES = "Series of the {} folder: number or UID."


class CaseSettings(BaseModel):
    """Everything that changes the files of a case; part of the resume key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Annotated[
        str,
        Option(
            "Fusion",
            "auto (by modality and color map), a name from `medfuse methods`, or a .safetensors "
            "file; +bf16 behind it is faster.",
            common=True,
            short="-m",
        ),
    ] = "auto"
    mode: Annotated[
        Literal["auto", "slices", "volume"],
        Option(
            "Fusion",
            "Fuse slice by slice, or in 3-D with weights averaged over three axes. auto: 3-D for "
            "near-isotropic voxels.",
        ),
    ] = "auto"
    kernel: Annotated[
        Literal["binomial", "paper"],
        Option("Fusion", "Pyramid filter: binomial is exact for constants, paper as published."),
    ] = "binomial"
    colormap: Annotated[
        str | None,
        Option(
            "Fusion",
            "Color map of a scalar image: see `medfuse colormaps`.",
            label="Color map",
            common=True,
        ),
    ] = None
    gamut: Annotated[
        Literal["band", "desaturate", "fit", "clip"] | None,
        Option(
            "Fusion",
            "What becomes of colors outside RGB (docs/colour.md). [default: by color map]",
        ),
    ] = None
    style: Annotated[
        Literal["fusion", "overlay"],
        Option("Fusion", "overlay: hot colors laid half over the anatomical image, to compare."),
    ] = "fusion"
    bias: Annotated[
        float,
        Option(
            "Fusion",
            "Shift the image toward the anatomical (+) or the functional source (-).",
            label="Emphasis",
        ),
        Field(ge=-1, le=1),
    ] = 0.0
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        Option("Fusion", "Device for network and kernel; auto is the CPU (bit-identical)."),
    ] = "auto"
    bounded: Annotated[
        bool,
        Option(
            "Fusion",
            "Limit luminance to the range of both sources within one voxel; the change is saved.",
        ),
    ] = False
    registration: Annotated[
        Literal["auto", "rigid", "affine", "identity", "deformable"],
        Option(
            "Registration",
            "auto trusts a shared frame of reference, identity the headers; affine fits scale; "
            "deformable bends (estimated).",
            common=True,
        ),
    ] = "auto"
    preset: Annotated[
        Literal["fast", "default", "thorough"],
        Option("Registration", "Effort of the registration.", common=True),
    ] = "default"
    initial: Annotated[
        str | None,
        Option(
            "Registration",
            "Initial transform: ITK or ANTs file (.tfm, .txt, .h5, .mat), transform.json of a "
            "result, or 4x4 text (fixed -> moving point, RAS mm).",
            label="Initial transform",
            metavar="FILE",
            single=True,
            is_path=True,
        ),
    ] = None
    initial_kind: Annotated[
        Literal["auto", "ras", "fsl", "landmarks"],
        Option(
            "Registration",
            "What the text file holds; fsl: a matrix of FLIRT (functional image as -in, "
            "anatomical as -ref).",
            single=True,
        ),
    ] = "auto"
    choose: Annotated[
        str | None,
        Option(
            "Registration",
            "Position to take: headers, search or a number.",
            label="Position",
            metavar="NAME",
            choices=("headers", "search"),
            single=True,
        ),
        Field(pattern=r"^(headers|start|search|[2-9])$"),
    ] = None
    region: Annotated[
        str | None,
        Option(
            "Registration",
            "Structure that must fit above all: FILE or NAME=FILE (mask, SEG, RTSTRUCT).",
            metavar="FILE",
            single=True,
            is_path=True,
        ),
    ] = None
    accept_suspect: Annotated[
        bool,
        Option(
            "Registration",
            "Fuse even if the registration is suspect.",
            label="Accept a suspect registration",
        ),
    ] = False
    allow_patient_mismatch: Annotated[
        bool, Option("Reading", "Fuse two patients, by their headers.")
    ] = False
    accept_pair: Annotated[
        Literal["roles", "same-image"] | None,
        Option(
            "Reading",
            "Fuse a refused pair: roles, or same-image.",
            label="Accept this pair",
            metavar="KIND",
            choices=("roles", "same-image"),
        ),
    ] = None
    unit: Annotated[
        Literal["auto", "suv", "sul", "suvbsa", "proportion"],
        Option(
            "Reading",
            "auto: SUVbw if the header allows it. suv, sul (lean mass), suvbsa (surface): stop if "
            "it does not. proportion: parts per million of all counts (SPECT).",
            label="Unit of PET and SPECT",
        ),
    ] = "auto"
    window: Annotated[
        tuple[float, float] | None,
        Option(
            "Fusion",
            "Functional display window in its unit.",
            label="Functional window",
            metavar="LOW HIGH",
            common=True,
        ),
    ] = None
    anatomical_window: Annotated[
        tuple[float, float] | None,
        Option("Fusion", "Anatomical display window in its unit.", metavar="LOW HIGH"),
    ] = None
    anatomical_modality: Annotated[
        str | None,
        Option("Reading", "Modality of the anatomical NIfTI file.", choices=_MODALITIES),
    ] = None
    functional_modality: Annotated[
        str | None,
        Option("Reading", "Modality of the functional NIfTI file.", choices=_MODALITIES),
    ] = None
    functional_unit: Annotated[
        str | None,
        Option("Reading", "Unit of the functional NIfTI file.", choices=_UNITS, common=True),
    ] = None
    anatomical_series: Annotated[
        str | None, Option("Reading", _SERIES.format("anatomical"), metavar="SERIES", single=True)
    ] = None
    functional_series: Annotated[
        str | None, Option("Reading", _SERIES.format("functional"), metavar="SERIES", single=True)
    ] = None
    frame: Annotated[
        int | Literal["mean"] | None,
        Option("Reading", "Frame of a dynamic series, from 0, or mean.", metavar="N|mean"),
    ] = None
    tilt_correction: Annotated[
        bool, Option("Reading", "Resample a stack with gantry tilt, or refuse it.")
    ] = True
    assume_identity: Annotated[
        bool,
        Option("Reading", "Take a NIfTI without orientation as RAS."),
    ] = False
    seed: Annotated[int, Option("Registration", "Random seed of the registration.")] = 0
    png: Annotated[
        bool,
        Option(
            "Output",
            "Also write every fused slice and a MIP as PNG.",
            label="PNG images",
            common=True,
        ),
    ] = False
    dicom: Annotated[
        Literal["multiframe", "slices"] | None,
        Option(
            "Output",
            "Also write DICOM, which names the sources by UID: one file, or one per slice.",
            label="DICOM",
            common=True,
        ),
    ] = None
    rgb: Annotated[
        Literal["rgb24", "4d"],
        Option(
            "Output",
            "4d: colors on a fourth axis.",
            label="Colors in NIfTI",
        ),
    ] = "rgb24"
    report: Annotated[
        Literal["live", "static"],
        Option("Output", "static: leave the viewer out."),
    ] = "live"
    regions: Annotated[
        tuple[str, ...],
        Option(
            "Output",
            "Measure regions: FILE, NAME=FILE, or found: those beside the scans (docs/measure.md).",
            metavar="FILE",
        ),
        BeforeValidator(lambda given: given.split(";") if isinstance(given, str) else given),
    ] = ()
    contours: Annotated[
        Literal["burned-in", "presentation-state"] | None,
        Option(
            "Output",
            "Outline regions in PNG and DICOM: burned-in (in copies) or presentation-state.",
            label="Contours of regions",
            metavar="KIND",
        ),
    ] = None
    keep_patient: Annotated[
        bool,
        Option("Output", "DICOM output keeps patient and study."),
    ] = False
    keep_uids: Annotated[
        bool, Option("Output", "Write DICOM UIDs unchanged, not hashed.", label="Keep UIDs")
    ] = False
    keep_names: Annotated[
        bool,
        Option("Output", "Write names of input files (they may name patients)."),
    ] = False


#: What a user states of a pair that would else be refused.
PAIR_SETTINGS = ("accept_pair", "allow_patient_mismatch")
#: Settings that name a file; a record holds what it said instead of its name.
FILES = ("initial", "region")
DEFAULT_METHOD: str = CaseSettings.model_fields["method"].default


def option_of(name: str) -> Option:
    """How the setting `name` is offered."""
    metadata = CaseSettings.model_fields[name].metadata
    return next(item for item in metadata if isinstance(item, Option))


def label_of(name: str) -> str:
    """What a person calls the setting: the name of its widget."""
    return option_of(name).label or name.replace("_", " ").capitalize()


def names_in(groups: Iterable[Group], *, single: bool = True) -> Iterator[str]:
    """Settings of some groups in order; without those of a single case unless `single`."""
    wanted = set(groups)
    for name in CaseSettings.model_fields:
        if option_of(name).group in wanted and (single or not option_of(name).single):
            yield name


def fusion_keywords(settings: CaseSettings) -> dict[str, Any]:
    """Settings that `medfuse.fuse` takes under the same names, but for the method."""
    names = [name for name in names_in(("Fusion",)) if name != "method"]
    return {name: getattr(settings, name) for name in names} | pair_keywords(settings)


def pair_keywords(settings: CaseSettings) -> dict[str, Any]:
    """What the user states of a pair, as `medfuse.fuse` and `require_pair` take it."""
    return {name: getattr(settings, name) for name in PAIR_SETTINGS}


#: In the regions of a case: its name, and all that lie beside its images.
CASE, FOUND = "{case}", "found"


def regions_for(given: Iterable[str], case: str) -> tuple[str, ...]:
    """Regions of one case, ``FILE`` or ``NAME=FILE``, with its name filled in and whole paths."""
    texts = [text.replace(CASE, case) for text in given]
    return tuple(text if text == FOUND else _whole(text) for text in texts)


def split_region(text: str) -> tuple[str | None, str]:
    """Name and path of ``NAME=FILE``; an existing path may hold the sign itself."""
    name, equals, path = text.partition("=")
    if equals and name.strip() and not Path(text).exists():
        return name.strip(), path
    return None, text


def file_of(settings: CaseSettings, name: str) -> Path | None:
    """The file that one of `FILES` names, without the name of a structure before it."""
    given = getattr(settings, name)
    return Path(split_region(given)[1]).expanduser() if given else None


def _whole(text: str) -> str:
    name, path = split_region(text)
    whole = str(Path(path).expanduser().absolute())
    return f"{name}={whole}" if name else whole


def settings_from(given: dict[str, Any]) -> CaseSettings:
    """Settings from values as people write them, e.g. a frame as text.

    Raises
    ------
    UsageError
        ``E_SETTINGS``, which names the setting.
    """
    try:
        return CaseSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise UsageError(
            "E_SETTINGS",
            what="Cannot use the settings",
            cause=f"{option(name)} is {given.get(name)!r}: {first['msg'].lower()}",
            remedy=f"Correct {option(name)}",
        ) from None


@dataclass(frozen=True)
class CaseResult:
    """What became of one case."""

    case: str
    status: Literal["done", "skipped", "failed"]
    folder: Path | None = None
    code: str | None = None
    message: str | None = None
    verdict: str | None = None
    chosen: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    timing: dict[str, float] = field(default_factory=dict)


def as_flag(name: str, value: str) -> str:
    """The words of a command line: ``--frame mean``."""
    dashed = name.replace("_", "-")
    if value in ("True", "False"):
        return f"--{dashed}" if value == "True" else f"--no-{dashed}"
    return f"--{dashed} {value}".rstrip()


def as_flag_or_column(name: str, value: str) -> str:
    """The words of a batch: a flag for all cases, or a column of the manifest for one."""
    if name not in CaseSettings.model_fields:
        return as_flag(name, value)
    column = f"the column {name} ({value})" if value else f"the column {name}"
    if option_of(name).single:
        return f"{column} of cases.csv"
    return f"{as_flag(name, value)} (for one case: {column} of cases.csv)"
