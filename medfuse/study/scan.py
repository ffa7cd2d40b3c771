"""What images lie in a folder tree, by headers and names alone: no pixel is read.

A folder becomes a `Node` with its own images and its sub-folders.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from medfuse.imaging.dicom.header import DicomFile, integer, quiet_pydicom, read_header, texts
from medfuse.imaging.dicom.scan import PICTURE_TYPES, VOLUME_MODALITIES
from medfuse.imaging.nifti.facts import find_facts, modality_of_name
from medfuse.imaging.volume import short_hash
from medfuse.results.folder import BIDS_DESCRIPTION, read_manifest
from medfuse.study.model import Skipped

LEDGER = "batch.jsonl"
LINK_TO_NOWHERE = "the link leads nowhere (git-annex, DataLad: get the content)"
FEW_IMAGES = 3
#: Headers read of a folder before it is taken for one series.
SAMPLE = 5
UID_END = 12

_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_NEVER_DICOM = frozenset(
    (
        *(".bval", ".bvec", ".css", ".csv", ".gz", ".htm", ".html", ".jpeg", ".jpg", ".js"),
        *(".json", ".log", ".mat", ".md", ".mgz", ".npy", ".pdf", ".png", ".py", ".sh", ".svg"),
        *(".tfm", ".tif", ".tiff", ".tsv", ".txt", ".xlsx", ".xml", ".yaml", ".yml", ".zip"),
    )
)
_IGNORED_FOLDERS = frozenset({"derivatives", "__macosx"})
_MASK_WORDS = frozenset(
    ["mask", "masks", "seg", "dseg", "probseg", "label", "labels", "labelmap", "roi", "rois"]
)
_UNCORRECTED_WORDS = frozenset(["nac", "uncorrected"])
#: Words of MR descriptions, the most wanted first; a description may hold several.
_MR_KINDS = (
    ("FLAIR", 2, re.compile(r"flair")),
    ("parametric or functional", 5, re.compile(r"dwi|dti|adc|swi|bold|fmri|asl|phase|fieldmap")),
    ("T1", 0, re.compile(r"t1|mp_?rage|spgr|bravo|vibe")),
    ("T2", 1, re.compile(r"t2")),
    ("PD", 3, re.compile(r"(?<![a-z])pdw?(?![a-z])|proton")),
)


@dataclass(frozen=True)
class Image:
    """One scan: a NIfTI file, or a DICOM series in a folder.

    Attributes
    ----------
    path : Path
        NIfTI file or DICOM folder.
    modality : {"MRI", "PET", "SPECT", "CT"}
    rank : int
        Among images of one modality the lowest is preferred.
    label : str
        For people, without patient data: "T1 MRI".
    series : str or None
        Number or end of the UID, for ``--series``.
    patient : str or None
        Short hash of the DICOM PatientID; only for equality.
    stated : bool
        The modality comes from a folder name, and the reader must be told.
    """

    path: Path
    modality: str
    rank: int
    label: str
    series: str | None = None
    patient: str | None = None
    stated: bool = False


@dataclass
class Node:
    """A folder with its images."""

    path: Path
    own: list[Image] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def images(self) -> list[Image]:
        """Images here and below."""
        return [*self.own, *(image for child in self.children for image in child.images())]


class Scanner:
    """Walks a study without leaving it.

    Links to folders are followed once each, and only to places inside the study. Hidden folders,
    ``derivatives`` and result folders of medfuse are no input.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.skipped: list[Skipped] = []
        self._linked: set[Path] = set()

    def scan(self, folder: Path) -> Node:
        """Read a folder and all folders below it."""
        if self._is_output(folder):
            return Node(folder)
        files, folders = self._list(folder)
        children = [self.scan(path) for path in folders]
        return Node(folder, self.images_in(folder, files, beside=children), children)

    def unfold(self, folder: Path) -> tuple[list[Path], Iterator[Node]]:
        """Files of a folder, and the folders in it one after the other: a study may be long."""
        if self._is_output(folder):
            return [], iter(())
        files, folders = self._list(folder)
        return files, (self.scan(path) for path in folders)

    def images_in(self, folder: Path, files: list[Path], *, beside: list[Node]) -> list[Image]:
        """Images among the files of a folder that has these sub-folders."""
        below = any(image.path.is_dir() for child in beside for image in child.images())
        return [*self._niftis(files), *self._dicoms(folder, files, below=below)]

    def _list(self, folder: Path) -> tuple[list[Path], list[Path]]:
        files, folders = [], []
        for entry in self._entries(folder):
            path = folder / entry.name
            if not self.is_inside(path) or path.name.startswith("."):
                continue
            if entry.is_dir():
                if self._is_new_folder(path):
                    folders.append(path)
            elif entry.is_file():
                files.append(path)
            elif entry.is_symlink():
                self._skip(path, LINK_TO_NOWHERE)
        return files, folders

    def is_inside(self, path: Path) -> bool:
        """Whether a link stays within the study; if not, it is noted as skipped."""
        if path.is_symlink() and not path.resolve().is_relative_to(self.root):
            self._skip(path, "the link leaves the study folder")
            return False
        return True

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._skip(folder, f"cannot be read: {(error.strerror or 'unknown').lower()}")
            return []

    def _is_new_folder(self, path: Path) -> bool:
        if path.name.lower() in _IGNORED_FOLDERS:
            return False
        if path.is_symlink():
            real = path.resolve()
            if real in self._linked or path.parent.resolve().is_relative_to(real):
                return False
            self._linked.add(real)
        return True

    def _is_output(self, folder: Path) -> bool:
        kind = self._output_kind(folder)
        if kind:
            self._skip(folder, f"{kind}, not an input")
        return kind is not None

    def _output_kind(self, folder: Path) -> str | None:
        if read_manifest(folder) is not None or (folder / LEDGER).is_file():
            return "a result folder of medfuse"
        if folder.resolve() != self.root and dataset_type(folder) == "derivative":
            return "a BIDS derivative"
        return None

    def _niftis(self, files: Iterable[Path]) -> Iterable[Image]:
        for path in files:
            if not _NIFTI.search(path.name):
                continue
            words = set(re.split(r"[^a-z0-9]+", _NIFTI.sub("", path.name).lower()))
            if words & _MASK_WORDS:
                self._skip(path, "a mask or label map by its name")
                continue
            modality = find_facts(path).modality
            by_folder = None if modality else modality_of_name(path.parent.name)[0]
            if not (modality or by_folder):
                self._skip(path, "neither its name nor a sidecar tells the modality")
                continue
            yield _nifti_image(path, modality or by_folder or "", stated=modality is None)

    def _dicoms(self, folder: Path, files: list[Path], *, below: bool) -> list[Image]:
        """Series of a folder; `below` says that the reader would find more in its sub-folders."""
        candidates = [
            path
            for path in files
            if path.suffix.lower() not in _NEVER_DICOM and not _NIFTI.search(path.name)
        ]
        groups, junk = _group_by_series(candidates)
        images = []
        is_shared = below or len(groups) > 1
        names = _names(groups, by_number=not below)
        for first, count in groups:
            if problem := _problem(first, count):
                self._skip(folder, f"{_series_name(first)} with {count} image(s): {problem}")
                continue
            series = names[first.series_uid] if is_shared else None
            images.append(_dicom_image(folder, first, series))
        damaged = sum(junk[kind] for kind in ("damaged", "truncated", "empty file"))
        if damaged and not groups:
            self._skip(folder, f"{damaged} damaged, truncated or empty file(s), no image")
        return images

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(path, reason))


def dataset_type(folder: Path) -> str | None:
    """DatasetType of a BIDS data set ("raw" where it does not say), None if it is not one."""
    try:
        content = json.loads((folder / BIDS_DESCRIPTION).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(content.get("DatasetType", "raw")) if isinstance(content, dict) else None


def mr_kind(image: Image) -> tuple[str, int]:
    """Weighting of an MRI and its rank; DICOM descriptions are looked up and never shown."""
    text = image.path.name.lower()
    if image.path.is_dir():
        text = _description(image)
    for name, rank, pattern in _MR_KINDS:
        if pattern.search(text):
            return name, rank
    return "other", 4


def _nifti_image(path: Path, modality: str, *, stated: bool) -> Image:
    words = set(re.split(r"[^a-z0-9]+", path.name.lower()))
    rank = 2 if modality == "PET" and words & _UNCORRECTED_WORDS else 0
    return Image(path, modality, rank, modality, stated=stated)


def _dicom_image(folder: Path, first: DicomFile, series: str | None) -> Image:
    modality = VOLUME_MODALITIES[first.modality]
    corrected = texts(first.header, "CorrectedImage")
    rank = 2 if modality == "PET" and corrected and "ATTN" not in corrected else 0
    patient = short_hash(str(first.header.get("PatientID") or "").strip() or None)
    return Image(folder, modality, rank, modality, series=series, patient=patient)


def _group_by_series(paths: list[Path]) -> tuple[list[tuple[DicomFile, int]], Counter[str]]:
    """First file and number of image planes of every series; kinds of the other files.

    A folder whose evenly spaced sample is one series is taken to be one series: the reader checks
    every file later.
    """
    step = max(1, (len(paths) - 1) // (SAMPLE - 1))
    sample = [_header(path) for path in dict.fromkeys([*paths[::step], *paths[-1:]])]
    uids = {file.series_uid for file in sample if isinstance(file, DicomFile)}
    if len(sample) < len(paths) and len(uids) == 1 and not _mixed(sample):
        first = next(file for file in sample if isinstance(file, DicomFile))
        return [(first, len(paths) * first.frames)], Counter()
    groups: dict[str, tuple[DicomFile, int]] = {}
    junk: Counter[str] = Counter()
    for path in paths:
        file = _header(path)
        if isinstance(file, DicomFile):
            first, count = groups.get(file.series_uid, (file, 0))
            groups[file.series_uid] = (first, count + file.frames)
        else:
            junk[file] += 1
    return list(groups.values()), junk


def _names(groups: list[tuple[DicomFile, int]], *, by_number: bool) -> dict[str, str]:
    """Name each series as ``--series`` takes it: its number, else the end of its UID."""
    numbers = {first.series_uid: integer(first.header, "SeriesNumber") for first, _ in groups}
    count = Counter(numbers.values())
    names = {}
    for uid, number in numbers.items():
        if by_number and number is not None and count[number] == 1:
            names[uid] = str(number)
            continue
        length = UID_END
        while length < len(uid) and sum(other.endswith(uid[-length:]) for other in numbers) > 1:
            length += 1
        names[uid] = uid[-length:]
    return names


def _mixed(sample: list[DicomFile | str]) -> bool:
    return any(isinstance(file, str) or _is_picture(file) for file in sample)


def _header(path: Path) -> DicomFile | str:
    try:
        with quiet_pydicom():
            return read_header(path, path.name)
    except OSError:
        return "damaged"


def _is_picture(file: DicomFile) -> bool:
    return bool(PICTURE_TYPES.intersection(texts(file.header, "ImageType")))


def _problem(first: DicomFile, count: int) -> str | None:
    if first.modality not in VOLUME_MODALITIES:
        return "not a CT, MR, PET or SPECT image"
    if _is_picture(first):
        return "a localiser, screen save or projection"
    if count < FEW_IMAGES:
        return "too few for a volume"
    return None


def _series_name(first: DicomFile) -> str:
    number = integer(first.header, "SeriesNumber")
    return f"series {number}" if number is not None else "a series"


def _description(image: Image) -> str:
    """Lower-case description of a DICOM series, for classification alone."""
    tags = [
        "SeriesDescription",
        "ProtocolName",
        "SequenceName",
        "SeriesNumber",
        "SeriesInstanceUID",
    ]
    for path in sorted(image.path.iterdir()):
        try:
            with quiet_pydicom():
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        except (OSError, ValueError, pydicom.errors.InvalidDicomError):
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        is_own = image.series is None or str(header.get("SeriesNumber", "")) == image.series
        if is_own or uid.endswith(image.series or ""):
            return " ".join(str(header.get(tag, "")) for tag in tags[:3]).lower()
    return ""
