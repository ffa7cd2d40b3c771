"""What images lie in a folder tree, by headers and names alone: no pixel is read.

A folder becomes a `Node` with its own images and its sub-folders.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec

import pydicom

from medfuse.imaging.dicom.deflated import read_dataset
from medfuse.imaging.dicom.header import (
    NEVER_DICOM,
    DicomFile,
    integer,
    quiet_pydicom,
    read_header,
    texts,
)
from medfuse.imaging.dicom.scan import PICTURE_TYPES, VOLUME_MODALITIES
from medfuse.imaging.nifti.facts import find_facts, modality_of_name
from medfuse.imaging.pointers import is_annexed, lacks_content
from medfuse.imaging.volume import short_hash
from medfuse.results.folder import BIDS_DESCRIPTION, read_json, read_manifest
from medfuse.study.model import REMEDY, Case, Skipped

P = ParamSpec("P")

LEDGER = "batch.jsonl"
LINK_TO_NOWHERE = "the link leads nowhere"
NO_CONTENT = (
    "its content is not on this machine (git-annex): run `datalad get` or `git annex get` on it"
)
NO_FILE = "it is a pipe, a socket or a device and not a file"
FEW_IMAGES = 3
#: Headers read of a folder before it is taken for one series.
SAMPLE = 5
UID_END = 12

NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
#: nnU-Net's number of a channel, at the end of a name.
CHANNEL = re.compile(r"_(\d{4})$")
_OTHER_VOLUMES = frozenset((".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".mnc", ".hdr"))
_IGNORED_FOLDERS = frozenset({"derivatives", "__macosx"})
_LABEL_FOLDERS = frozenset({"labelstr", "labelsts", "labels"})
_MASK_WORDS = frozenset(
    (
        *("mask", "masks", "seg", "dseg", "probseg", "segmentation", "label", "labels", "labelmap"),
        *("roi", "rois", "contour", "contours", "gtv", "gtvt", "gtvn"),
    )
)
#: Words of a name that make an image of a modality a worse choice (positive) or a better one.
_RANKS = {
    "PET": {"nac": 2, "uncorrected": 2, "suv": -1, "suvbw": -1},
    "CT": {"ctres": 2},  # autoPET: the CT on the grid of the PET
}
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
        """Read a folder and all folders below it; one that cannot be read is noted as skipped."""
        try:
            if self._is_output(folder):
                return Node(folder)
            files, folders = self._list(folder)
            children = [self.scan(path) for path in folders]
            return Node(folder, self.images_in(folder, files, beside=children), children)
        except Exception as error:  # the boundary of a folder
            self.skipped.append(_failed(folder, error))
            return Node(folder)

    def unfold(self, folder: Path) -> tuple[list[Path], Iterator[Node]]:
        """Files of a folder, and the folders in it one after the other: a study may be long."""
        if self._is_output(folder):
            return [], iter(())
        files, folders = self._list(folder)
        return files, (self.scan(path) for path in folders)

    def images_in(self, folder: Path, files: list[Path], *, beside: list[Node]) -> list[Image]:
        """Images among the files of a folder that has these sub-folders."""
        if folder.name.lower() in _LABEL_FOLDERS:
            self._skip(folder, "label maps by the name of the folder")
            return []
        below = any(image.path.is_dir() for child in beside for image in child.images())
        self._note_others(folder, files)
        return [*self._niftis(folder, files), *self._dicoms(folder, files, below=below)]

    def _list(self, folder: Path) -> tuple[list[Path], list[Path]]:
        files, folders = [], []
        for entry in self._entries(folder):
            path = folder / entry.name
            if path.name.startswith(".") or not self.is_inside(path):
                continue
            if path.is_dir():
                if self._is_new_folder(path):
                    folders.append(path)
            elif entry.is_symlink() or NIFTI.search(path.name):
                if self.is_image_file(path):
                    files.append(path)
            elif entry.is_file():
                files.append(path)
        return files, folders

    def is_image_file(self, path: Path) -> bool:
        """Whether a path leads to a file in the study; if not, it is noted as skipped."""
        if not self.is_inside(path):
            return False
        if path.is_file():
            return True
        broken = NO_CONTENT if lacks_content(path) else LINK_TO_NOWHERE
        self._skip(path, NO_FILE if path.exists() else broken)
        return False

    def is_inside(self, path: Path) -> bool:
        """Whether a link stays within the study; if not, it is noted as skipped.

        Links of git-annex (DataLad) into the ``.git`` folder of a repository around the study count
        as inside.
        """
        if not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(self.root):
            return True
        if is_annexed(path):
            return True
        self._skip(path, f"the link leaves the study folder: copy the images, or {REMEDY}")
        return False

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.skipped.append(_failed(folder, error))
            return []

    def _is_new_folder(self, path: Path) -> bool:
        if path.name.lower() in _IGNORED_FOLDERS:
            return False
        if path.is_symlink():
            real = Path(os.path.realpath(path))
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

    def _note_others(self, folder: Path, files: list[Path]) -> None:
        """Formats of volumes that are not read."""
        for suffix, count in sorted(Counter(path.suffix.lower() for path in files).items()):
            if suffix in _OTHER_VOLUMES:
                self._skip(folder, f"{count} {suffix} file(s): convert them to NIfTI (.nii.gz)")

    def _niftis(self, folder: Path, files: Iterable[Path]) -> Iterable[Image]:
        channels = _channels(folder)
        for path in files:
            if not NIFTI.search(path.name):
                continue
            stem = NIFTI.sub("", path.name)
            if _MASK_WORDS & set(re.split(r"[^a-z0-9]+", stem.lower())):
                self._skip(path, "a mask or label map by its name")
                continue
            try:
                modality = find_facts(path).modality
            except Exception as error:  # the boundary of a file
                self.skipped.append(_failed(path, error))
                continue
            channel = CHANNEL.search(stem)
            stated = modality_of_name(path.parent.name)[0]
            if channel and not modality:
                stated = channels.get(int(channel[1]), stated)
            if modality or stated:
                yield _nifti_image(path, modality or stated or "", stated=modality is None)
            elif channel and not channels:
                self._skip(path, f"no dataset.json says what channel {channel[1]} is: {REMEDY}")
            else:
                self._skip(path, "neither its name nor a sidecar tells the modality")

    def _dicoms(self, folder: Path, files: list[Path], *, below: bool) -> list[Image]:
        """Series of a folder; `below` says that the reader would find more in its sub-folders."""
        candidates = [
            path
            for path in files
            if path.suffix.lower() not in NEVER_DICOM and not NIFTI.search(path.name)
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
    content = read_json(folder / BIDS_DESCRIPTION)
    return None if content is None else str(content.get("DatasetType", "raw"))


def isolated(
    place: Path, find: Callable[P, Iterator[Case | Skipped]], *args: P.args, **more: P.kwargs
) -> Iterator[Case | Skipped]:
    """What is found at a place; whatever goes wrong there becomes one reason and ends nothing."""
    try:
        yield from find(*args, **more)
    except Exception as error:  # the boundary of a subject
        yield _failed(place, error)


def _failed(place: Path, error: Exception) -> Skipped:
    why = (getattr(error, "strerror", None) or type(error).__name__).lower()
    return Skipped(place, f"it cannot be looked at ({why}): {REMEDY}", "E_UNREADABLE", subject=True)


def _channels(folder: Path) -> dict[int, str]:
    """Modality by channel, of the dataset.json of nnU-Net here or in the folder above."""
    content = read_json(folder / "dataset.json") or read_json(folder.parent / "dataset.json") or {}
    stated = content.get("channel_names", content.get("modality"))
    named = stated.items() if isinstance(stated, dict) else ()
    found = {int(n): modality_of_name(str(name))[0] for n, name in named if str(n).isdigit()}
    return {channel: modality for channel, modality in found.items() if modality}


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
    words = re.split(r"[^a-z0-9]+", path.name.lower())
    ranks = _RANKS.get(modality, {})
    rank = max((ranks[word] for word in words if word in ranks), default=0)
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
                header = read_dataset(path, stop_before_pixels=True, specific_tags=tags)
        except (OSError, ValueError, pydicom.errors.InvalidDicomError):
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        is_own = image.series is None or str(header.get("SeriesNumber", "")) == image.series
        if is_own or uid.endswith(image.series or ""):
            return " ".join(str(header.get(tag, "")) for tag in tags[:3]).lower()
    return ""
