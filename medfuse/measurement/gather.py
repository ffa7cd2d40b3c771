"""The regions of a case, as its settings name them: files, files by case, or what lies beside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfuse.errors import MedfuseError
from medfuse.imaging.bids import data_set_of
from medfuse.imaging.dicom.deflated import read_dataset
from medfuse.imaging.dicom.header import PARSE_FAILURES, quiet_pydicom, text
from medfuse.measurement.dicom_regions import SEGMENTATIONS, STRUCTURES
from medfuse.measurement.files import Images, Named, read_regions
from medfuse.measurement.labels import tables_beside
from medfuse.measurement.region import Region
from medfuse.measurement.table import Row
from medfuse.results.folder import file_sha256
from medfuse.settings import FOUND

_MASKS = ("_dseg.nii.gz", "_dseg.nii", "_mask.nii.gz", "_mask.nii")
_MOST_FILES = 20_000
#: Stands for the content of a file that is not there.
ABSENT = "absent"


@dataclass(frozen=True)
class Failure:
    """A file whose regions cannot be measured."""

    file: Named
    number: int
    error: MedfuseError

    @property
    def row(self) -> Row:
        """What the table says of it; the error names the file, which the table may not."""
        remark = f"not measured: {self.error.cause} [{self.error.code}]"
        return Row(region=self.file.name or f"region {self.number}", kind="file", remark=remark)


def files_of(texts: Sequence[str], anatomical: Path, functional: Path) -> list[Named]:
    """The files that the settings of a case name, and those beside its images if asked for."""
    files: list[Named] = []
    for given in texts:
        if given == FOUND:
            files += [Named(path) for path in found_beside(anatomical, functional)]
        else:
            files.append(Named.parse(given))
    return files


def fingerprint(files: Sequence[Named]) -> list[tuple[str, str]]:
    """Name and content of each file with the tables beside it, for the resume key."""
    return [(file.name or "", content_of(file.path)) for file in files]


def content_of(path: Path) -> str:
    """sha256 of a file with regions and of the tables beside it; `ABSENT` where it is not there."""
    try:
        hashes = [file_sha256(path), *map(file_sha256, tables_beside(path))]
    except OSError:
        return ABSENT
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def found_by_content(sha256: str, inputs: Path) -> Path | None:
    """The file with regions of this content, with the tables beside it."""
    folder = inputs if inputs.is_dir() else inputs.parent
    if sha256 == ABSENT:  # nor was it there then
        return folder / ABSENT / ABSENT
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return next((path for path in paths if content_of(path) == sha256), None)


def read_all(
    files: Sequence[Named], images: Images, **options: Any
) -> tuple[list[Region], list[Failure]]:
    """Regions of all files, and what could not be read; one file stops no other.

    Parameters
    ----------
    files : sequence of Named
    images : Images
    **options
        As of `read_regions`, but for the number.
    """
    regions: list[Region] = []
    failures: list[Failure] = []
    for number, file in enumerate(files, start=1):
        try:
            regions += read_regions(file, images, number=number, **options)
        except MedfuseError as error:
            failures.append(Failure(file, number, error))
    return regions, failures


def found_beside(anatomical: Path, functional: Path) -> list[Path]:
    """Regions that lie beside the images of a case, in the order of their paths.

    DICOM segmentations and structure sets in the folder of an image or next to it; of a BIDS data
    set ``*_dseg`` and ``*_mask`` of the subject and session, in all derivatives.
    """
    found: dict[Path, None] = {}
    for image in (anatomical, functional):
        if image.name.startswith("sub-") and image.is_file():
            found |= dict.fromkeys(_of_bids(image))
        else:
            found |= dict.fromkeys(_of_dicom(image))
    return sorted(found)


def _of_bids(image: Path) -> Iterator[Path]:
    top = data_set_of(image)
    levels = [p.name for p in image.absolute().parents if p.name.startswith(("sub-", "ses-"))]
    way = Path(*reversed(levels))
    for data_set in (top, *sorted((top / "derivatives").glob("*"))):
        for path in sorted((data_set / way).rglob("*.nii*")):
            if path.name.endswith(_MASKS) and path.is_file():
                yield path


def _of_dicom(image: Path) -> Iterator[Path]:
    folder = image if image.is_dir() else image.parent
    near = [folder, *(p for p in sorted(folder.parent.iterdir()) if p != folder and _is_apart(p))]
    left = _MOST_FILES
    for place in near:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            left -= 1
            if left < 0:
                return
            if path.is_file() and is_drawn(path):
                yield path


def _is_apart(path: Path) -> bool:
    """A file, or a folder that is no image of many files but may hold regions."""
    if path.is_file():
        return True
    return path.is_dir() and len(list(path.iterdir())) <= 16


def is_drawn(path: Path) -> bool:
    """Whether a file is a DICOM segmentation or structure set."""
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return False
        with quiet_pydicom():
            header = read_dataset(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except PARSE_FAILURES:
        return False
    return text(header, "SOPClassUID") in (*SEGMENTATIONS, STRUCTURES)
