"""Results as a BIDS derivative data set (``--layout bids``).

Result folders stay what they are, in ``OUT/cases``. What BIDS has a name for is linked from there
(copied where the disk has no links) to ``OUT/sub-*/[ses-*/]pet``, the rest to ``.../fusion``, which
``.bidsignore`` lists; each with a sidecar.

References
----------
BIDS 1.10, derivatives: introduction, common data types and metadata, imaging data types.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medfuse.batch import BatchSummary, run_batch
from medfuse.batch.ledger import describe_data_set
from medfuse.batch.loop import EXIT_OUTPUT, OnEvent
from medfuse.errors import NOTICE, SHORT_NOTICE, MedfuseError, OutputError, UsageError, option
from medfuse.registration.deformation import FILE
from medfuse.results.folder import (
    BIDS_DESCRIPTION,
    bids_root,
    file_sha256,
    read_json,
    write_through,
    writing,
)
from medfuse.results.ledger_files import result_folders
from medfuse.settings import CaseSettings
from medfuse.study import Study

CASES = "cases"
IGNORE_FILE = ".bidsignore"
IGNORED = f"{CASES}\nfusion\n"
README = f"""# medfuse results

Each PET of the raw data set, fused with the MRI of the subject, on the grid of the MRI.

- `sub-*/[ses-*/]pet/*_desc-fused_pet.nii.gz`: the fused image in color (RGB, 8 bits a channel).
- `sub-*/[ses-*/]pet/*_desc-registered_pet.nii.gz`: the PET in its unit on the grid of the MRI.
- `sub-*/[ses-*/]fusion/`: what BIDS has no name for: luminance, weights, shares, the transform.
- `cases/`: the whole record of every case: audit, provenance, report, hashes. `cases/study.html`
  is the place to begin; `medfuse verify cases/` checks everything.

`Sources` and `SpatialReference` in the sidecars name images of the raw data set (`bids:raw:`).
{NOTICE}
"""

_NAME = re.compile(
    r"(?P<folder>sub-\w+/(?:ses-\w+/)?)(?P<datatype>\w+)/"
    r"(?P<entities>sub-[a-zA-Z0-9]+(?:_[a-z]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)\.nii(\.gz)?"
)
_IN_DATATYPE = {
    "fused_rgb": ("fused", "Functional color, luminance blended from both sources"),
    "functional_on_anatomical": (
        "registered",
        "Functional image, resampled linearly to the anatomical grid",
    ),
}
_IN_FUSION = {
    "luminance": ("luminance", "Fused luminance before it was brought into the RGB gamut"),
    "weight_map": ("weights", "What the guide asked for: 1 anatomical, 0 functional"),
    "anatomical_share": ("share", "What really came from the anatomical image, 0 to 1"),
    "gamut_change": ("gamutchange", "Luminance of the picture less the fused luminance"),
    "bound_change": (
        "boundchange",
        "What the limit to the range of both sources added to the luminance",
    ),
    "painted": ("painted", "What a network that paints added to both contributions"),
}
_COLORS = {"rgb24": "RGB24", "4d": "4th axis: red, green, blue"}
_UNITS = {
    "SUVbw": "g/mL", "SUL": "g/mL", "SUVbsa": "cm^2/mL", "Bq/ml": "Bq/mL", "HU": "HU",
}  # fmt: skip
#: Required of a raw PET and still true of it on another grid (of a dynamic one not its frames).
_KEPT = (
    "Manufacturer", "ManufacturersModelName", "TracerName", "TracerRadionuclide",
    "InjectedRadioactivity", "InjectedRadioactivityUnits", "InjectedMass", "InjectedMassUnits",
    "SpecificRadioactivity", "SpecificRadioactivityUnits", "ModeOfAdministration", "TimeZero",
    "ScanStart", "InjectionStart", "AcquisitionMode", "ImageDecayCorrected",
    "ImageDecayCorrectionTime", "ReconMethodName", "ReconMethodParameterLabels",
    "ReconMethodParameterUnits", "ReconMethodParameterValues", "ReconFilterType",
    "ReconFilterSize", "AttenuationCorrection",
)  # fmt: skip
_FRAMES = ("FrameTimesStart", "FrameDuration")


def run_bids_batch(
    study: Study, out: Path, settings: CaseSettings, *, on_event: OnEvent | None = None, **more: Any
) -> BatchSummary:
    """Fuse a BIDS data set into a derivative data set.

    Parameters
    ----------
    study : Study
        All its images lie in one BIDS data set.
    out : Path
        The derivative data set. The batch itself runs in its folder ``cases``.
    settings : CaseSettings
    on_event, more
        As `run_batch`.

    Returns
    -------
    BatchSummary
        What could not be placed is in the notes; then the exit code is at least 4.

    Raises
    ------
    UsageError
        ``E_USAGE``: an image has no BIDS name, or they lie in several data sets.
    UsageError, OutputError
        Of `run_batch` and `Derivative.begin`.
    """
    roots = {require_bids(case.anatomical, case.functional) for case in study.cases}
    if not roots:
        return run_batch(study, out / CASES, settings, on_event=on_event, **more)
    if len(roots) > 1:
        raise _not_bids(study.root.name, f"the cases lie in {len(roots)} data sets")
    derivative = Derivative.begin(out, roots.pop(), keep_names=settings.keep_names)
    refused: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "case-end" and event["status"] in ("done", "skipped"):
            try:
                derivative.place(event["case"])
            except MedfuseError as error:
                refused.append(str(error))
        if on_event:
            on_event(event)

    summary = run_batch(study, derivative.cases, settings, on_event=listen, **more)
    if not refused:
        return summary
    notes = (*summary.notes, *refused)
    return replace(summary, notes=notes, exit_code=summary.exit_code or EXIT_OUTPUT)


def require_bids(anatomical: Path, functional: Path) -> Path:
    """Top folder of the data set that both images lie in.

    Raises
    ------
    UsageError
        ``E_USAGE`` if there is none, or they have no BIDS names.
    """
    roots = [bids_root(anatomical), bids_root(functional)]
    if roots[0] is None or roots[0] != roots[1]:
        raise _not_bids(functional.name, f"no {BIDS_DESCRIPTION} above both images of the case")
    for path in (anatomical, functional):
        if not _NAME.fullmatch(path.absolute().relative_to(roots[0]).as_posix()):
            raise _not_bids(path.name, "place and name are not sub-*/[ses-*/]DATATYPE/sub-*.nii.gz")
    return roots[0]


@dataclass(frozen=True)
class Derivative:
    """A derivative data set that is being filled from result folders.

    Attributes
    ----------
    out, raw : Path
        Top folders of both data sets.
    cases : Path
        Where the result folders lie.
    """

    out: Path
    raw: Path
    cases: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", self.out / CASES)

    @classmethod
    def begin(cls, out: Path, raw: Path, *, keep_names: bool = False) -> Derivative:
        """Make the top files of a data set, or find those of an earlier run.

        ``DatasetLinks`` is the way to the raw data set, relative; where the derivative lies neither
        in nor beside it, the way would tell names of folders and is written with `keep_names` only.

        Raises
        ------
        OutputError
            ``E_WRITE``: the folder holds another data set, or results in the other layout.
        """
        if out.is_dir() and next(result_folders(out), None) is not None:
            raise _in_the_way(out.name, "it holds results that are not in BIDS layout")
        description = out / BIDS_DESCRIPTION
        if description.exists() and not _is_ours(description):
            raise _in_the_way(out.name, "it is a data set that medfuse did not make")
        near = raw.resolve().parent in out.resolve().parents
        way = os.path.relpath(raw.resolve(), out.resolve()) if near or keep_names else None
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        describe_data_set(out, way and Path(way).as_posix())
        for name, text in (("README.md", README), (IGNORE_FILE, IGNORED)):
            if not (out / name).exists():
                write_through(out / name, text.encode())
        return cls(out, raw)

    def folder_of(self, functional: Path) -> Path:
        """Result folder of a case that is fused alone, named by the entities of the image."""
        return self.cases / functional.name.partition(".")[0].rpartition("_")[0]

    def place(self, case: str) -> None:
        """Show a whole result in the BIDS tree; what an earlier result showed there goes.

        Every file appears whole. ``cases/CASE.bids.json`` lists them with their sha256: only files
        on that list are ever replaced or removed, and only as long as they are unaltered.

        Raises
        ------
        OutputError
            ``E_WRITE``: a file of somebody else is in the way, or the disk is full.
        """
        files = _files(self.cases / case, self.raw)
        ledger = self.cases / f"{case}.bids.json"
        earlier = read_json(ledger) or {}
        hashes = {name: _sha256(content) for name, content in files.items()}
        names = {name for name in files.keys() | earlier.keys() if (self.out / name).exists()}
        present = {name: file_sha256(self.out / name) for name in names}
        for name in files.keys() & names:
            if present[name] not in (hashes[name], *earlier.get(name, ())):
                raise _in_the_way(name, "the file is not, or no longer, what medfuse wrote")
        # A run that ends between these lines leaves no file that the list does not know.
        both = {name: [*earlier.get(name, ()), sha256] for name, sha256 in hashes.items()}
        write_through(ledger, _to_json(earlier | both))
        for name, content in files.items():
            if present.get(name) != hashes[name]:
                _put(self.out / name, content)
        for name in names - files.keys():
            if present[name] in earlier[name]:
                with writing(self.out / name):
                    (self.out / name).unlink()
        write_through(ledger, _to_json({name: [sha256] for name, sha256 in hashes.items()}))


def _files(result: Path, raw: Path) -> dict[str, Path | bytes]:
    """What the BIDS tree shows of a result: name below the top -> file, or content of a sidecar."""
    provenance = read_json(result / "provenance.json") or {}
    bids = provenance["bids"]
    names = (uri.removeprefix("bids:raw:") for uri in bids["Sources"])
    anatomical, functional = (_NAME.fullmatch(name) for name in names)
    assert anatomical is not None  # both were looked at before the case began
    assert functional is not None
    folder, stem, suffix = functional["folder"], functional["entities"], functional["suffix"]
    unit = provenance["inputs"]["functional"]["unit"]
    facts_of_case = {
        "case": provenance["case"],
        "audit": provenance["audit"]["verdict"],
        "unit": unit,
        "method": provenance["guide"]["name"],
        "colormap": (provenance["colormap"] or {}).get("name"),
    }
    common = {**bids, "medfuse": facts_of_case}
    files: dict[str, Path | bytes] = {}

    def add(source: Path, name: str, text: str, more: Mapping[str, Any]) -> None:
        if source.is_file():
            files[name] = source
            sidecar = {"Description": f"{text}. {SHORT_NOTICE}", **common, **more}
            files[f"{name.partition('.')[0]}.json"] = _to_json(sidecar)

    space = f"{stem}_space-{anatomical['suffix']}"
    facts = _facts_of(functional.string, raw, unit)
    for product, (label, text) in _IN_DATATYPE.items():
        name = f"{folder}{functional['datatype']}/{space}_desc-{label}_{suffix}.nii.gz"
        more = facts
        if label == "fused":
            text += f" ({_COLORS[provenance['settings'].get('rgb', 'rgb24')]})"
            more = {**facts, "Units": "arbitrary"}
        add(result / f"{product}.nii.gz", name, text, more)
    for product, (own, text) in _IN_FUSION.items():
        add(result / f"{product}.nii.gz", f"{folder}fusion/{space}_{own}.nii.gz", text, {})
    way = f"{stem}_from-{suffix}_to-{anatomical['suffix']}_mode-image_xfm.tfm"
    text = "ITK transform: points of the anatomical image -> points of the functional image, LPS mm"
    add(result / "transform.tfm", f"{folder}fusion/{way}", text, {})
    text = "Displacement in mm, LPS, of points of the anatomical image before the ITK transform"
    field = way.replace("_xfm.tfm", "_desc-deformation_xfm.nii.gz")
    add(result / FILE, f"{folder}fusion/{field}", text, {})
    for suffix in ("tsv", "json"):  # its columns are explained beside it
        table = result / f"measurements.{suffix}"
        if table.is_file():
            files[f"{folder}fusion/{space}_desc-regions_measurements.{suffix}"] = table
    return files


def _facts_of(name: str, root: Path, unit: str) -> dict[str, Any]:
    """What a sidecar must repeat of the functional image; BIDS, derivatives, "Metadata"."""
    sidecar = _inherited(root / name, root)
    facts = {name: sidecar[name] for name in _KEPT if name in sidecar}
    facts |= {
        name: sidecar[name] for name in _FRAMES
        if isinstance(sidecar.get(name), list) and len(sidecar[name]) == 1
    }  # fmt: skip
    return facts | {"Units": _UNITS.get(unit, "arbitrary"), "SkullStripped": False}


def _inherited(image: Path, root: Path) -> dict[str, Any]:
    """Sidecar of a raw image by the inheritance principle: the nearest word counts."""
    words = set(image.name.partition(".")[0].split("_"))
    suffix = image.name.partition(".")[0].rpartition("_")[2]
    found: dict[str, Any] = {}
    for folder in (f for f in reversed(image.parents) if f.is_relative_to(root)):
        for path in sorted(folder.glob(f"*{suffix}.json"), key=lambda p: len(p.name)):
            if words >= set(path.stem.split("_")):
                found |= read_json(path) or {}
    return found


def _put(target: Path, content: Path | bytes) -> None:
    """Make a file appear whole, by a link where the disk has links."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            write_through(target, content)
            return
        temporary = target.with_name(f"{target.name}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(content, temporary)
        except OSError:
            shutil.copyfile(content, temporary)
        os.replace(temporary, target)


def _sha256(content: Path | bytes) -> str:
    if isinstance(content, Path):
        return file_sha256(content)
    return hashlib.sha256(content).hexdigest()


def _is_ours(description: Path) -> bool:
    makers = (read_json(description) or {}).get("GeneratedBy")
    return isinstance(makers, list) and any(maker.get("Name") == "medfuse" for maker in makers)


def _to_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _not_bids(where: str, cause: str) -> UsageError:
    return UsageError(
        "E_USAGE",
        what="Cannot write a BIDS derivative",
        where=where,
        cause=cause,
        remedy=f"Give one BIDS data set, or use {option('layout', 'cases')}",
    )


def _in_the_way(where: str, cause: str) -> OutputError:
    return OutputError(
        "E_WRITE",
        what="Cannot write the BIDS layout",
        where=where,
        cause=cause,
        remedy="Move it away or choose another output folder; results are whole in cases/",
    )
