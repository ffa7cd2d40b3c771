"""The images from which a result was made: known by their content, and looked for in their place.

Names count for nothing. Where the folder is a study, discovery says which two images are those of
a case, and only those will do for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.case.pipeline import load_image
from medfuse.errors import InputError, MedfuseError, option
from medfuse.imaging.dicom.scan import Series, scan_folder
from medfuse.imaging.nifti.facts import find_facts
from medfuse.imaging.pairing import TOLD
from medfuse.imaging.volume import content_hash
from medfuse.record.provenance import Role
from medfuse.results.folder import file_sha256
from medfuse.settings import FILES, CaseSettings
from medfuse.study import Case, discover
from medfuse.verification.finding import Finding, not_checked

if TYPE_CHECKING:
    from monai.data import MetaTensor

ROLES: tuple[Role, Role] = ("anatomical", "functional")


@dataclass(frozen=True)
class Source:
    """An image that lies in the inputs: a NIfTI file, or a DICOM series in a folder."""

    path: Path
    series: Series | None = None

    def lies_in(self, place: Path, series: str | None) -> bool:
        """Whether it is what discovery found there, as the series of that number or UID."""
        here, there = self.path.resolve(), place.resolve()
        if self.series is None:
            return here == there
        if here != there and there not in here.parents and here not in there.parents:
            return False
        known = (str(self.series.number), self.series.uid)
        return not series or series in known or self.series.uid.endswith(series)


class Inputs:
    """Images under a folder, and the cases that discovery makes of them."""

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise InputError(
                "E_NO_INPUT",
                what="Cannot verify with the inputs",
                where=root.name,
                cause="there is no such folder",
                remedy=f"Give the folder that holds the images with {option('inputs', 'DIR')}",
            )
        self.root = root
        self._index: list[tuple[str, Source]] | None = None
        self._cases: dict[str, Case] | None = None

    def load(
        self, role: Role, record: dict[str, Any], settings: CaseSettings, case: str
    ) -> tuple[MetaTensor, Source] | None:
        """The image with the recorded content, in the place of the case if it lies there too."""
        own = self.cases.get(case)
        if own is not None:
            found = _first(_images(getattr(own, role)), role, record, settings)
            if found is not None:
                return found
        if self._index is None:
            self._index = list(_images(self.root))
        return _first(self._index, role, record, settings)

    def place(self, case: str, found: dict[Role, Source]) -> Iterator[Finding]:
        """Whether the two images lie where discovery looks for those of this case."""
        own = self.cases.get(case)
        if own is None:
            others = [
                n for n, c in self.cases.items() if all(_is_place(found[r], c, r) for r in ROLES)
            ]
            where = f"there they are those of {others[0]}" if others else "they make no case there"
            yield not_checked("place of the inputs", f"the inputs have no case {case}; {where}")
            return
        wrong = [role for role in ROLES if not _is_place(found[role], own, role)]
        text = f"the {' and the '.join(wrong)} image is not the one that the study has for {case}"
        yield Finding("place of the inputs", not wrong, text if wrong else f"those of {case}")

    @property
    def cases(self) -> dict[str, Case]:
        """Cases that discovery finds, by name; none where the folder is no study."""
        if self._cases is None:
            try:
                self._cases = {case.name: case for case in discover(self.root).cases}
            except MedfuseError:
                self._cases = {}
        return self._cases


def known_settings(provenance: dict[str, Any]) -> CaseSettings:
    """Settings on record, but for those that named files and series: they are not there."""
    own: dict[str, Any] = {**dict.fromkeys(FILES), "initial_kind": "auto", "regions": ()}
    own |= {"anatomical_series": None, "functional_series": None}
    return CaseSettings(**{**provenance["settings"], **own})


def _first(
    images: Iterable[tuple[str, Source]], role: Role, record: dict[str, Any], settings: CaseSettings
) -> tuple[MetaTensor, Source] | None:
    """The first image with the recorded content."""
    series = []
    for digest, source in images:
        if digest == record["sha256"]:
            image = _try(source, role, _stated(settings, role, record, source))
            if image is not None:
                if TOLD in record:  # under another name, or without a statement of the user
                    image.meta["source"][TOLD] = record[TOLD]
                return image, source
        elif source.series is not None and record["kind"] == "dicom":
            series.append(source)
    for source in series:  # one frame of a series: fewer files than lie there
        image = _try(source, role, _stated(settings, role, record, source))
        if image is not None and image.meta["source"]["sha256"] == record["sha256"]:
            return image, source
    return None


def _images(root: Path) -> Iterator[tuple[str, Source]]:
    """Content hash and place of every image below a folder, or beside a table of cases."""
    is_image = root.is_file() and root.suffix.lower() != ".csv"
    folder = root if root.is_dir() else root.parent
    for path in [root] if is_image else sorted(folder.rglob("*")):
        if path.name.lower().endswith((".nii", ".nii.gz")) and path.is_file():
            try:
                yield _nifti_hash(path), Source(path)
            except (MedfuseError, OSError):  # another image that cannot be read
                continue
    for series in scan_folder(folder).series:
        paths = [file.path for file in series.files]
        inside = Path(*_common([path.parent.parts for path in paths]))
        try:
            yield content_hash([file_sha256(p) for p in paths]), Source(inside, series)
        except OSError:
            continue


def _is_place(source: Source, case: Case | None, role: Role) -> bool:
    if case is None:
        return False
    return source.lies_in(getattr(case, role), case.overrides.get(f"{role}_series"))


def _stated(
    settings: CaseSettings, role: Role, record: dict[str, Any], source: Source
) -> CaseSettings:
    """What the place or the name of a file said: which series, and in NIfTI the modality."""
    known = {f"{role}_series": source.series.uid if source.series else None}
    if record["kind"] == "nifti" and record["modality"] != "unknown":
        known[f"{role}_modality"] = record["modality"]
    return settings.model_copy(update=known)


def _try(source: Source, role: Role, settings: CaseSettings) -> MetaTensor | None:
    try:
        return load_image(source.path, role, settings)
    except MedfuseError:
        return None


def _nifti_hash(path: Path) -> str:
    sidecar = find_facts(path).sidecar_sha256
    return content_hash([file_sha256(path), *([sidecar] if sidecar else [])])


def _common(parts: list[tuple[str, ...]]) -> list[str]:
    """The part that all paths begin with."""
    return [level[0] for level in zip(*parts, strict=False) if len(set(level)) == 1]
