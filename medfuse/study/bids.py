"""Cases in a BIDS data set: by folder and file names alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from medfuse.study.folders import pair_tree
from medfuse.study.model import REMEDY, Case, Skipped
from medfuse.study.scan import Scanner, dataset_type, isolated

ANAT_SUFFIXES = ("T1w", "UNIT1", "T2w", "FLAIR", "PDw")


def is_bids(folder: Path) -> bool:
    """Raw BIDS: a description of a raw data set, or subjects with anat/ or pet/ folders."""
    if dataset_type(folder) == "raw":
        return next(_subjects(folder), None) is not None
    return any(next(_bids_folders(subject), None) for subject in _subjects(folder))


def _subjects(folder: Path) -> Iterator[Path]:
    """Folders of the subjects in order; only their names are held."""
    names = sorted(name for name in os.listdir(folder) if name.startswith("sub-"))
    return (folder / name for name in names if (folder / name).is_dir())


def _bids_folders(subject: Path) -> Iterator[Path]:
    for pattern in ("anat", "pet", "ses-*/anat", "ses-*/pet"):
        yield from (p for p in sorted(subject.glob(pattern)) if p.is_dir())


def bids_cases(data_set: Path, top: Path, scanner: Scanner) -> Iterator[Case | Skipped]:
    prefix = "" if data_set == top else f"{data_set.name}_"
    for subject in _subjects(data_set):
        if not scanner.is_inside(subject):
            continue
        yield from isolated(subject, _bids_subject, subject, top, prefix, scanner)


def _bids_subject(
    subject: Path, top: Path, prefix: str, scanner: Scanner
) -> Iterator[Case | Skipped]:
    if next(_bids_folders(subject), None) is None:
        yield from pair_tree(scanner.scan(subject), top)
        return
    for session in _sessions(subject):
        yield from _bids_session(subject, session, prefix, scanner)


def _sessions(subject: Path) -> list[Path]:
    sessions = [p for p in sorted(subject.glob("ses-*")) if p.is_dir()]
    return [p for p in (subject, *sessions) if (p / "anat").is_dir() or (p / "pet").is_dir()]


def _bids_session(
    subject: Path, session: Path, prefix: str, scanner: Scanner
) -> Iterator[Case | Skipped]:
    name = "_".join(dict.fromkeys([subject.name, session.name]))
    pets = _niftis(session / "pet", "pet", scanner)
    if not pets:
        if session != subject or len(_sessions(subject)) == 1:
            yield Skipped(session, "no pet/*_pet.nii or .nii.gz", subject=True)
        return
    anat, note = _bids_anat(subject, session, scanner)
    if isinstance(anat, Skipped):
        yield anat
        return
    for pet in pets:
        own = name if len(pets) == 1 else re.sub(r"_pet\.nii(\.gz)?$", "", pet.name)
        yield Case(f"{prefix}{own}", anat, pet, f"BIDS: PET on {note}")


def _bids_anat(subject: Path, session: Path, scanner: Scanner) -> tuple[Path | Skipped, str]:
    """The preferred anatomical image of a session, else of the subject's other sessions."""
    others = [s for s in _sessions(subject) if s != session]
    for places, where in (([session], ""), (others, " of another session")):
        for suffix in ANAT_SUFFIXES:
            found = [p for place in places for p in _niftis(place / "anat", suffix, scanner)]
            if len(found) == 1:
                return found[0], f"{suffix}{where}"
            if found:
                listing = ", ".join(p.name for p in found[:6])
                reason = f"{len(found)} equally good {suffix} images ({listing}): {REMEDY}"
                skipped = Skipped(
                    session, reason, "E_AMBIGUOUS_SERIES", subject=True, names=listing
                )
                return skipped, ""
    reason = "PET without an anatomical image (anat/*_T1w, T2w, FLAIR, PDw)"
    return Skipped(session, reason, subject=True), ""


def _niftis(folder: Path, suffix: str, scanner: Scanner) -> list[Path]:
    found = []
    for path in sorted(folder.glob(f"*_{suffix}.nii*")):
        if path.name.endswith((".nii", ".nii.gz")) and scanner.is_image_file(path):
            found.append(path)
    return found
