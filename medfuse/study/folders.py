"""Cases in folders of any nesting, with DICOM or NIfTI."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from os.path import realpath
from pathlib import Path
from typing import Any

from medfuse.imaging.nifti.facts import MODALITY_WORDS, modality_of_name
from medfuse.study.model import REMEDY, Case, Skipped, place
from medfuse.study.scan import CHANNEL, NIFTI, Image, Node, Scanner, isolated, mr_kind

#: So many names of a folder with both images make it a folder of several persons.
LEAST_PERSONS = 2

_MODALITY_WORDS = re.compile(
    rf"(?<![a-z0-9])({'|'.join(MODALITY_WORDS)})(?![a-z0-9])", re.IGNORECASE
)
_FOLDER_WORDS = frozenset(["anat", "anatomical", "func", "functional", "nuc"])


def pair_folder(root: Path, top: Path, scanner: Scanner) -> Iterator[Case | Skipped]:
    """Cases of a folder as `pair_tree` finds them, one sub-folder in memory at a time."""
    files, children = scanner.unfold(root)
    rest, found = [], False
    for child in children:
        if _can_pair(child.images()):
            found = True
            yield from isolated(child.path, pair_tree, child, top)
        else:
            rest.append(child)
    node = Node(root, scanner.images_in(root, files, beside=rest), rest)
    if found:
        yield from _leftovers(node)
    else:
        yield from isolated(root, pair_tree, node, top)


def pair_tree(root: Node, top: Path) -> Iterator[Case | Skipped]:
    """Cases of a folder tree: the deepest folders that hold both kinds of image."""
    if not _can_pair(root.images()):
        for node in [child for child in root.children if child.images()] or [root]:
            yield Skipped(node.path, _why_no_pair(node.images()), subject=True)
        return
    whole = [child for child in root.children if _can_pair(child.images())]
    if not whole:
        yield from _pair_flat(root, top) or [_pair(root, top)]
        return
    for child in whole:
        yield from pair_tree(child, top)
    rest = [child for child in root.children if child not in whole]
    yield from _leftovers(Node(root.path, root.own, rest))


def _leftovers(node: Node) -> Iterator[Skipped]:
    """Images of a folder whose cases lie in other sub-folders."""
    for child in node.children:
        if images := child.images():
            yield Skipped(child.path, _why_no_pair(images), subject=True)
    for image in node.own:
        yield Skipped(image.path, f"{image.label} outside the folders that make cases")


def _pair_flat(node: Node, top: Path) -> list[Case | Skipped]:
    """Cases of a folder with images of several persons; empty where it is not such a folder.

    The layout of challenges: ``PATIENT__CT.nii.gz`` and ``PATIENT__PT.nii.gz``, nnU-Net's channels
    ``PATIENT_0000.nii.gz``, or ``CT/PATIENT.nii.gz`` and ``PET/PATIENT.nii.gz``. What is left of
    the names without the words for a modality must be the same for both images of a case; at least
    two names must have both, else these are several images of one person.
    """
    persons: dict[str, list[Image]] = {}
    for image in _unique(node.images()):
        persons.setdefault(_person(image.path.relative_to(node.path)), []).append(image)
    if sum(_can_pair(images) for name, images in persons.items() if name) < LEAST_PERSONS:
        return []
    found: list[Case | Skipped] = []
    for name, images in sorted(persons.items()):
        own = Node(node.path / name, images)
        if name and _can_pair(images):
            found.append(_pair(own, top))
        else:
            place = images[0].path if len(images) == 1 else own.path
            found.append(Skipped(place, _why_no_pair(images), subject=True))
    return found


def _person(path: Path) -> str:
    """What a path says beside modalities: "CT/p1_T1.nii.gz" -> "p1"."""
    parts = [*path.parts[:-1], CHANNEL.sub("", NIFTI.sub("", path.name))]
    return "/".join(filter(None, (_MODALITY_WORDS.sub("", part).strip("_-. ") for part in parts)))


def _pair(node: Node, top: Path) -> Case | Skipped:
    images = _unique(node.images())
    functional, anatomical = _candidates(images)
    chosen = []
    for role, found in (("functional", functional), ("anatomical", anatomical)):
        best = _best(found)
        if len(best) > 1:
            listing = ", ".join(place(i.path, node.path, i.series) for i in best[:6])
            reason = f"{len(best)} equally good {role} images ({listing}): {REMEDY}"
            code = "E_AMBIGUOUS_SERIES"
            return Skipped(node.path, reason, code, subject=True, names=listing)
        chosen.append(best[0])
    func, anat = chosen
    if doubt := _doubt(node, top, func, anat):
        reason, code, names = doubt
        return Skipped(node.path, reason, code, subject=True, names=names)
    name = "/".join(node.path.relative_to(top).parts) or node.path.resolve().name
    return Case(name, anat.path, func.path, _why(images, func, anat), _overrides(func, anat))


def _candidates(images: list[Image]) -> tuple[list[Image], list[Image]]:
    """Functional and anatomical images of a folder, before any choice."""
    by = {m: [i for i in images if i.modality == m] for m in ("MRI", "PET", "SPECT", "CT")}
    emission = [*by["PET"], *by["SPECT"]]
    if emission:
        return emission, by["MRI"] or by["CT"]
    return by["CT"], by["MRI"]


def _can_pair(images: list[Image]) -> bool:
    return all(_candidates(images))


def _best(images: list[Image]) -> list[Image]:
    if len(images) > 1 and all(image.modality == "MRI" for image in images):
        kinds = {image: mr_kind(image) for image in images}
        images = [replace(i, label=f"{kinds[i][0]} MRI", rank=kinds[i][1]) for i in images]
    lowest = min(image.rank for image in images)
    return [image for image in images if image.rank == lowest]


def _unique(images: Iterable[Image]) -> list[Image]:
    """Drop images that a link shows a second time."""
    return list(
        {(realpath(image.path), image.series, image.modality): image for image in images}.values()
    )


def _doubt(node: Node, top: Path, func: Image, anat: Image) -> tuple[str, str, str] | None:
    """Say why two images might not show one person: reason, code and names in the reason."""
    if func.patient and anat.patient:
        if func.patient != anat.patient:
            reason = f"the DICOM headers name two different patients: {REMEDY}"
            return reason, "E_MIXED_PATIENT", ""
        return None
    if node.path != top:
        return None
    folders = [image.path.relative_to(top).parts[0] for image in (func, anat)]
    own = {image.path.name for image in node.own}
    if all(folder in own or _tells_modality(folder) for folder in folders):
        return None
    listing = " and ".join(sorted(folders))
    reason = f"the images of two folders ({listing}) may show two people: {REMEDY}"
    return reason, "E_AMBIGUOUS_SERIES", listing


def _tells_modality(folder: str) -> bool:
    words = set(re.split(r"[^a-z0-9]+", folder.lower()))
    return modality_of_name(folder)[0] is not None or bool(words & _FOLDER_WORDS)


def _why(images: list[Image], func: Image, anat: Image) -> str:
    text = f"{func.label} on {anat.label}"
    counts = Counter(i.modality for i in images)
    left = counts - Counter([func.modality, anat.modality])
    if left:
        text += "; left out: " + ", ".join(f"{n} other {m}" for m, n in sorted(left.items()))
    return text


def _overrides(func: Image, anat: Image) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for role, image in (("functional", func), ("anatomical", anat)):
        if image.series:
            found[f"{role}_series"] = image.series
        if image.stated:
            found[f"{role}_modality"] = image.modality
    return found


def _why_no_pair(images: list[Image]) -> str:
    if not images:
        return "no CT, MR, PET or SPECT volume was found"
    counts = Counter(image.modality for image in images)
    found = ", ".join(f"{n} {modality}" for modality, n in sorted(counts.items()))
    if set(counts) <= {"PET", "SPECT"}:
        return f"only {found}: no MRI or CT to lay under it"
    return f"only {found}: no PET, SPECT or CT to lay on it"
