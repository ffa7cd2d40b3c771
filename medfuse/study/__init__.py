"""What is in this directory? A study becomes cases: which images belong together, and why.

Prints nothing and reads no pixels. Nothing is guessed: where two images are equally good, the
subject is skipped with a reason and the way out, a manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

from medfuse.errors import InputError
from medfuse.study.bids import bids_cases, is_bids
from medfuse.study.folders import pair_folder, pair_tree
from medfuse.study.model import MANIFEST_NAME, Case, Skipped, Study, gather, place
from medfuse.study.names import case_name, told_apart
from medfuse.study.scan import Scanner, dataset_type, isolated

__all__ = ["Case", "Skipped", "Study", "discover", "explain"]


def discover(study: Path, *, manifest: Path | None = None) -> Study:
    """Find the cases of a study.

    In this order: a manifest (`manifest`, ``cases.csv`` in the folder, or a CSV given as the
    study), BIDS (also several data sets side by side), or folders in any nesting with DICOM or
    NIfTI. Functional is PET or SPECT, else CT; anatomical is MRI (T1 before T2, FLAIR, PD), else
    CT.

    Parameters
    ----------
    study : Path
        Folder, or a CSV file.
    manifest : Path, optional
        CSV with the columns case, anatomical, functional and any `CaseSettings` fields; paths are
        relative to it.

    Returns
    -------
    Study
        Possibly without a case; the reasons are in ``skipped``.

    Raises
    ------
    InputError
        ``E_UNREADABLE``, ``E_ARCHIVE``: the study is not a readable folder.
    UsageError
        ``E_MANIFEST``: the manifest has no usable columns.
    """
    study = Path(study)
    if manifest is None and study.suffix.lower() in (".csv", ".tsv") and study.is_file():
        manifest, study = study, study.parent
    _require_folder(study)
    if manifest is None and (study / MANIFEST_NAME).is_file():
        manifest = study / MANIFEST_NAME
    if manifest is not None:
        from medfuse.study.manifest import read_cases

        cases, skipped = gather(_named(read_cases(Path(manifest))))
        return Study(study, "manifest", told_apart(cases, study), skipped)
    return _search(study)


def explain(study: Study) -> Iterator[tuple[str, str, str, str]]:
    """Rows (case, anatomical, functional, why) for people; what was skipped comes last."""
    for case in study.cases:
        yield (
            case.name,
            place(case.anatomical, study.root, case.overrides.get("anatomical_series")),
            place(case.functional, study.root, case.overrides.get("functional_series")),
            case.why,
        )
    for skipped in study.skipped:
        head = f"{skipped.case} (failed)" if skipped.case else "(skipped)"
        yield head, place(skipped.path, study.root), "", skipped.reason


def _require_folder(study: Path) -> None:
    if study.is_dir():
        return
    archive = study.suffix.lower() in (".zip", ".tar", ".tgz", ".7z", ".rar", ".gz")
    if study.exists() and archive:
        code, cause, remedy = "E_ARCHIVE", "it is an archive", "Unpack it first"
    elif study.exists():
        code, cause, remedy = "E_UNREADABLE", "it is a file", "Give the folder that holds it"
    else:
        code, cause, remedy = "E_UNREADABLE", "no such folder", "Check the path"
    raise InputError(
        code, what="Cannot read the study", where=study.name, cause=cause, remedy=remedy
    )


def _search(root: Path) -> Study:
    scanner = Scanner(root)
    data_sets = [root] if is_bids(root) else [f for f in _folders(root) if _is_raw(f)]
    found = _once(_named(_found(root, data_sets, scanner)))
    cases, skipped = gather(chain(found, _later(scanner)))
    kind: Literal["bids", "folders"] = "bids" if data_sets else "folders"
    return Study(root, kind, told_apart(cases, root), skipped)


def _found(root: Path, data_sets: list[Path], scanner: Scanner) -> Iterator[Case | Skipped]:
    for data_set in data_sets:
        yield from bids_cases(data_set, root, scanner)
    if not data_sets:
        yield from pair_folder(root, root, scanner)
    elif root not in data_sets:
        for folder in _folders(root):
            if folder not in data_sets and scanner.is_inside(folder):
                yield from isolated(folder, pair_tree, scanner.scan(folder), root)


def _later(scanner: Scanner) -> Iterator[Skipped]:
    """What the scanner has skipped by the time it is asked."""
    yield from scanner.skipped


def _named(found: Iterator[Case | Skipped]) -> Iterator[Case | Skipped]:
    for item in found:
        if isinstance(item, Case):
            yield replace(item, name=case_name(item.name))
        else:
            yield replace(item, case=case_name(item.case)) if item.case else item


def _once(found: Iterator[Case | Skipped]) -> Iterator[Case | Skipped]:
    """Leave out a pair that a link shows a second time."""
    seen: dict[int, str] = {}
    for item in found:
        if not isinstance(item, Case):
            yield item
            continue
        images = [os.path.realpath(path) for path in (item.anatomical, item.functional)]
        key = hash((*images, str(item.overrides)))
        if key in seen:
            yield Skipped(item.functional, f"a link to the images of {seen[key]}")
        else:
            seen[key] = item.name
            yield item


def _is_raw(folder: Path) -> bool:
    return is_bids(folder) and dataset_type(folder) != "derivative"


def _folders(folder: Path) -> Iterator[Path]:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return (folder / name for name in names if (folder / name).is_dir())
