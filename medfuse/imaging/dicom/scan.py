"""What DICOM lies in a folder, and which series of it is meant.

Files are walked, never followed through a DICOMDIR; headers only. What is not an image volume is
left out and counted; several volumes are never chosen between by guess.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from medfuse.errors import InputError, MedfuseError, SeriesError, UnitError, option
from medfuse.imaging.dicom.header import NEVER_DICOM, DicomFile, integer, read_header, text, texts
from medfuse.imaging.memory import most_unpacked, or_allow_more
from medfuse.imaging.pointers import ANNEX, LFS, is_annexed, lacks_content, pointer_error
from medfuse.imaging.progress import steps
from medfuse.imaging.volume import display_name, read_failure

VOLUME_MODALITIES = {"CT": "CT", "MR": "MRI", "PT": "PET", "NM": "SPECT"}
#: ImageType values of pictures about a scan: they share its folder, at times its series.
PICTURE_TYPES = frozenset(
    {
        "LOCALIZER",
        "SCOUT",
        "SCREEN SAVE",
        "SCREENSAVE",
        "SCREEN_SAVE",
        "MIP",
        "MAX_IP",
        "MIN_IP",
        "MINIP",
        "PROJECTION IMAGE",
        "CSA REPORT",
        "REPORT",
        "DOSE_INFO",
    }
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_NOT_SCANS = ("1.2.840.10008.5.1.4.1.1.30", "1.2.840.10008.5.1.4.1.1.66")  # maps, segmentations
_OTHER_OBJECT = "other DICOM object with pixels"
_BROKEN = ("damaged", "truncated", "deflated", "without preamble")
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")


@dataclass(frozen=True, eq=False)
class Series:
    """The image files of one SeriesInstanceUID.

    Attributes
    ----------
    skipped : int
        Localisers, screen saves and projections left out of it.
    """

    uid: str
    files: tuple[DicomFile, ...]
    skipped: int = 0

    @property
    def modality(self) -> str:
        """MRI, PET, SPECT or CT, as the Modality tag has it."""
        return VOLUME_MODALITIES[self.files[0].modality]

    @property
    def number(self) -> int | None:
        """SeriesNumber."""
        return integer(self.files[0].header, "SeriesNumber")

    @property
    def images(self) -> int:
        """Number of image planes."""
        return sum(f.frames for f in self.files)

    @property
    def label(self) -> str:
        """Name without patient data: "PET series 4"; without a number, the end of the UID."""
        if self.number is not None:
            return f"{self.modality} series {self.number}"
        return f"{self.modality} series ..{self.uid_end}"

    @property
    def uid_end(self) -> str:
        """End of the UID, by which a series can be chosen; what is no UID character is masked."""
        return re.sub(r"[^0-9.]", "?", self.uid)[-8:]

    @property
    def line(self) -> str:
        """One entry of a list to choose from."""
        number = "none" if self.number is None else self.number
        return f"{number} ({self.modality}, {self.images} images, UID ..{self.uid_end})"


@dataclass(frozen=True, eq=False)
class Scan:
    """Everything that was found under one path.

    Attributes
    ----------
    series : tuple of Series
        By series number.
    others : Counter
        What was left out, and how many files of it.
    broken : dict
        Damaged image files: relative name -> what is wrong. They could belong to any series.
    """

    root: Path
    series: tuple[Series, ...]
    others: Counter[str]
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> dict[str, MedfuseError]:
        """Relative name of each damaged file, and the error that it stands for."""
        return {name: _not_an_image(kind, name) for name, kind in sorted(self.broken.items())}

    @property
    def notes(self) -> list[str]:
        """One line about what was left out, or none."""
        if not self.others:
            return []
        found = ", ".join(f"{n} {kind}" for kind, n in sorted(self.others.items()))
        count = sum(self.others.values())
        were = "files in the folder were" if count > 1 else "file in the folder was"
        return [f"{count} other {were} ignored: {found}"]


def scan_folder(folder: Path) -> Scan:
    """Read the headers of all files under `folder` and group the images by series.

    Links to folders are not followed; links to files are, once, and only within `folder`.

    Raises
    ------
    InputError
        ``E_UNREADABLE``.
    """
    paths, links_out = _walk(folder)
    scan = _group(folder, paths)
    if links_out:
        scan.others["link that leaves the folder"] = links_out
    return scan


def scan_file_series(path: Path) -> Scan:
    """Collect the series to which the file `path` belongs, from its own folder.

    Raises
    ------
    InputError
        ``E_TRUNCATED``, ``E_CORRUPT``, ``E_NO_IMAGES``, ``E_ARCHIVE`` when the file is no image.
    """
    own = _read(path, path.name)
    if isinstance(own, str):
        raise _not_an_image(own, path.name)
    if kind := _other_kind(own):
        raise _nothing_found(path.name, Counter({kind: 1}))
    siblings = [path] if own.frames > 1 else sorted(path.parent.iterdir())
    found = [(p, p.name) for p in siblings if p.is_file()]
    scan = _group(path.parent, found, only=own.series_uid)
    return Scan(scan.root, scan.series, Counter(), scan.broken)


def choose_series(scan: Scan, wanted: str | None) -> Series:
    """Pick the one series that is meant.

    Parameters
    ----------
    wanted : str, optional
        SeriesInstanceUID, its end (four characters or more), or SeriesNumber.

    Raises
    ------
    InputError
        ``E_NO_IMAGES``; a damaged file beside the series (``E_EMPTY_FILE``, ``E_TRUNCATED`` ...).
    SeriesError
        ``E_AMBIGUOUS_SERIES`` and ``E_SERIES_NOT_FOUND`` list the series; ``E_MIXED_PATIENT``.
    """
    where = display_name(scan.root)
    if not scan.series:
        for problem in scan.problems.values():
            raise problem
        raise _nothing_found(where, scan.others)
    chosen = _wanted(scan, wanted) if wanted else _only(scan)
    require_one_patient(chosen.files, chosen.label, where)
    folders = {f.path.parent for f in chosen.files}
    for name, problem in scan.problems.items():
        if (scan.root / name).parent in folders:
            raise problem
    return chosen


def require_one_patient(files: tuple[DicomFile, ...], what: str, where: str) -> None:
    """Refuse files of several persons (``E_MIXED_PATIENT``)."""
    count = len({f.patient for f in files})
    if count > 1:
        raise SeriesError(
            "E_MIXED_PATIENT",
            what=f"Cannot read {what}",
            where=where,
            cause=f"its images carry {count} different patient identities",
            remedy=f"Give a folder of one person, or choose a series with "
            f"{option('series', 'NUMBER')}",
        )


def _walk(folder: Path) -> tuple[list[tuple[Path, str]], int]:
    """Files under `folder` with their relative names, and the number of links that leave it."""

    def refuse(error: OSError) -> None:
        raise read_failure(error, display_name(Path(error.filename or folder)))

    root, seen, links_out = folder.resolve(), set(), 0
    found: list[tuple[Path, str]] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            is_link = path.is_symlink()
            real = Path(os.path.realpath(path)) if is_link else root / path.relative_to(folder)
            if lacks_content(path) and path.suffix.lower() not in NEVER_DICOM:
                raise pointer_error(path.relative_to(folder).as_posix(), ANNEX)
            if not real.is_relative_to(root) and not is_annexed(path):
                links_out += 1
            elif real not in seen and path.is_file():
                seen.add(real)
                found.append((path, path.relative_to(folder).as_posix()))
    return found, links_out


def _read(path: Path, name: str) -> DicomFile | str:
    try:
        file = read_header(path, name)
    except OSError as error:
        raise read_failure(error, name) from None
    if file in (ANNEX, LFS) and path.suffix.lower() not in NEVER_DICOM:
        raise pointer_error(name, file)
    return file


def _group(root: Path, paths: list[tuple[Path, str]], *, only: str | None = None) -> Scan:
    by_uid: dict[str, list[DicomFile]] = {}
    others: Counter[str] = Counter()
    broken: dict[str, str] = {}
    strange: list[DicomFile] = []
    for path, name in steps(paths, "headers"):
        file = _read(path, name)
        if isinstance(file, str):
            is_dicom = name.lower().endswith(_DICOM_SUFFIXES)
            if file in _BROKEN or (file == "empty file" and is_dicom):
                broken[name] = file
            else:
                is_nifti = file == "not DICOM" and name.lower().endswith((".nii", ".nii.gz"))
                others["NIfTI" if is_nifti else file] += 1
        elif only is None or file.series_uid == only:
            if kind := _other_kind(file):
                others[kind] += 1
                strange += [file] if kind == _OTHER_OBJECT else []
            else:
                by_uid.setdefault(file.series_uid, []).append(file)
    for file in strange:  # a slice without its modality must not go missing in silence
        if file.series_uid in by_uid:
            by_uid[file.series_uid].append(file)
    series = [_without_pictures(uid, files) for uid, files in by_uid.items()]
    series.sort(key=lambda s: (s.number is None, s.number or 0, s.uid))
    return Scan(root, tuple(_volumes(series, others)), others, broken)


def _volumes(series: list[Series], others: Counter[str]) -> list[Series]:
    """Leave out series of pictures, unless there is nothing else."""
    volumes = [s for s in series if not _is_picture(s.files[0])]
    pictures = sum(len(s.files) for s in series if s not in volumes)
    if not volumes or not pictures:
        return series
    others["localiser, screen save or projection"] += pictures
    return volumes


def _without_pictures(uid: str, files: list[DicomFile]) -> Series:
    scans = [f for f in files if not _is_picture(f)]
    kept = scans or files
    return Series(uid, tuple(kept), len(files) - len(kept))


def _is_picture(file: DicomFile) -> bool:
    return bool(PICTURE_TYPES.intersection(texts(file.header, "ImageType")))


def _other_kind(file: DicomFile) -> str | None:
    sop_class = text(file.header, "SOPClassUID") or ""
    if sop_class.startswith(_SECONDARY_CAPTURE):
        return "secondary capture"
    if sop_class.startswith(_NOT_SCANS):
        return "map or segmentation"
    return None if file.modality in VOLUME_MODALITIES else _OTHER_OBJECT


def _only(scan: Scan) -> Series:
    if len(scan.series) == 1:
        return scan.series[0]
    where = display_name(scan.root)
    files = tuple(f for s in scan.series for f in s.files)
    require_one_patient(files, "the folder", where)
    raise SeriesError(
        "E_AMBIGUOUS_SERIES",
        what="Cannot choose a series",
        where=where,
        cause=f"the folder holds {len(scan.series)} series: {_listing(scan)}",
        remedy=f"Choose one by number or UID with {option('series', 'NUMBER')}",
    )


def _wanted(scan: Scan, wanted: str) -> Series:
    wanted = wanted.strip().lstrip(".")
    exact = [s for s in scan.series if s.uid == wanted]
    numbered = [s for s in scan.series if str(s.number) == wanted]
    ending = [s for s in scan.series if len(wanted) >= 4 and s.uid.endswith(wanted)]
    for matches in (exact, numbered, ending):
        if len(matches) == 1:
            return matches[0]
    several = len(numbered) > 1
    raise SeriesError(
        "E_AMBIGUOUS_SERIES" if several else "E_SERIES_NOT_FOUND",
        what="Cannot choose a series",
        where=display_name(scan.root),
        cause=f"{len(numbered) if several else 'no'} series with number or UID "
        f"{wanted[:64]!r}; the folder holds {_listing(scan)}",
        remedy=f"Choose one by number or UID with {option('series', 'NUMBER')}",
    )


def _listing(scan: Scan) -> str:
    shown = [s.line for s in scan.series[:12]]
    rest = len(scan.series) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")


def _not_an_image(kind: str, name: str) -> MedfuseError:
    codes = {
        "empty file": ("E_EMPTY_FILE", "the file is empty (0 bytes)"),
        "truncated": ("E_TRUNCATED", "the file ends before its pixel data"),
        "deflated": (
            "E_CODEC",
            f"the deflated data set is damaged, or larger than {most_unpacked() / 2**30:.3g} GB",
        ),
        "damaged": ("E_CORRUPT", "the DICOM header cannot be parsed"),
        "not DICOM": ("E_NOT_DICOM", "the file has no DICM mark at byte 128"),
        "without preamble": ("E_NOT_DICOM", "a data set without preamble and DICM mark"),
        "DICOMDIR": ("E_ARCHIVE", "a DICOMDIR is an index, and medfuse walks the files themselves"),
        "without pixels": ("E_NO_IMAGES", "the DICOM object holds no image (report, contours ...)"),
    }
    code, cause = codes[kind]
    remedy = (
        "Give the folder that holds the images"
        if kind in ("DICOMDIR", "without pixels")
        else "Export or copy the file again (uncompressed), or move it out of the folder"
    )
    if kind == "deflated":
        remedy += or_allow_more()
    return InputError(code, what="Cannot read", where=name, cause=cause, remedy=remedy)


def _nothing_found(where: str, others: Counter[str]) -> MedfuseError:
    found = ", ".join(f"{n} {kind}" for kind, n in sorted(others.items())) or "no file at all"
    if others.get("secondary capture"):
        return UnitError(
            "E_NOT_QUANTITATIVE",
            what="Cannot read",
            where=where,
            cause=f"only pictures of a scan (secondary capture), no scan: {found}",
            remedy="Export the original CT, MR, PET or SPECT series",
        )
    return InputError(
        "E_NO_IMAGES",
        what="Cannot read",
        where=where,
        cause=f"no CT, MR, PET or SPECT image was found: {found}",
        remedy="Give a NIfTI file or the folder of a DICOM series",
    )
