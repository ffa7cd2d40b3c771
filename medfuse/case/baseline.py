"""A case compared with an earlier one of the same person, right after it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import medfuse
from medfuse.case.followup import WHAT, TimePoint, follow_up
from medfuse.case.followup_files import record_of, write_follow_up
from medfuse.case.pipeline import load_pair
from medfuse.case.regions import region_files
from medfuse.errors import InputError
from medfuse.measurement.asked import Asked
from medfuse.measurement.files import Named
from medfuse.measurement.measure import MTV
from medfuse.report.followup import FollowUp
from medfuse.results.folder import read_json, read_manifest
from medfuse.results.ledger_files import FOLLOW_UP, SUFFIX
from medfuse.settings import CaseSettings, Progress


@dataclass(frozen=True)
class Fused:
    """A finished case, its images and the settings with which it was made."""

    folder: Path
    anatomical: Path
    functional: Path
    settings: CaseSettings

    def time_point(self) -> TimePoint:
        """The result with its images.

        Raises
        ------
        InputError
            ``E_NOT_A_RESULT``: there is none; ``E_NO_INPUT``: it was made of other images.
        MedfuseError
            As ``medfuse.load``.
        """
        record = read_json(self.folder / "provenance.json")
        transform = read_json(self.folder / "transform.json")
        if read_manifest(self.folder) is None or record is None or transform is None:
            raise InputError(
                "E_NOT_A_RESULT",
                what=WHAT,
                where=self.folder.name,
                cause="it has no finished result",
                remedy="Run it first, and this one again",
            )
        images = load_pair(self.anatomical, self.functional, self.settings)
        made = [record["inputs"][role]["sha256"] for role in ("anatomical", "functional")]
        if made != [image.meta["source"]["sha256"] for image in images]:
            raise InputError(
                "E_NO_INPUT",
                what=WHAT,
                where=self.folder.name,
                cause="its result was made of other images than those that lie there now",
                remedy="Run it again",
            )
        return TimePoint(record, transform, *images)


def place_of(folder: Path) -> Path:
    """Where the comparison of a case with its baseline lies: beside its result."""
    return folder.with_name(f"{folder.name}{SUFFIX}")


def compare_cases(first: Fused, second: Fused, *, progress: Progress | None = None) -> FollowUp:
    """Compare two cases of one person with the regions of the first; errors as `follow_up`."""
    files = region_files(first.settings, first.anatomical, first.functional)
    times = first.time_point(), second.time_point()
    return compare(*times, files, place_of(second.folder), second.settings, progress=progress)


def compare(
    first: TimePoint,
    second: TimePoint,
    files: Sequence[Named],
    out: Path,
    settings: CaseSettings,
    *,
    progress: Progress | None = None,
) -> FollowUp:
    """Make the comparison of two times as the settings of the second say, and write it.

    A region that cannot be read costs its own row alone. An earlier comparison is replaced.

    Raises
    ------
    MedfuseError
        As `follow_up` and `write_follow_up`.
    """
    asked = Asked(
        files=files,
        mtv_threshold=MTV,
        keep_names=settings.keep_names,
        allow_patient_mismatch=settings.allow_patient_mismatch,
    )
    preset, accept = settings.preset, settings.accept_suspect
    found = follow_up(
        first, second, asked, preset=preset, accept_suspect=accept, regions_needed=False,
        progress=progress,
    )  # fmt: skip
    about = record_of(first, second, asked, found, preset=preset, accept_suspect=accept)
    write_follow_up(out, found, about, replace_earlier=True)
    return found


def is_current(first: Path, second: Path) -> bool:
    """Whether the comparison of two result folders is there, of these very results."""
    record = read_json(place_of(second) / FOLLOW_UP) or {}
    keys = [(read_manifest(folder) or {}).get("key") for folder in (first, second)]
    told = [record.get("times", {}).get(when, {}).get("key") for when in ("first", "second")]
    return None not in keys and keys == told and record.get("medfuse") == medfuse.__version__
