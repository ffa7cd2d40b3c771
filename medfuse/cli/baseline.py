"""A case that was just fused, compared with an earlier result: ``--baseline``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfuse.cli import terminal
from medfuse.errors import MedfuseError, UsageError
from medfuse.settings import CaseSettings, as_flag


@dataclass(frozen=True)
class Earlier:
    """A result folder, and the folder that holds its images."""

    folder: Path
    inputs: Path


@dataclass(frozen=True)
class Compared:
    """What became of a comparison, which never costs the case."""

    out: Path
    found: Any = None
    failures: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all of it was made, on a registration that is not suspect."""
        return self.found is not None and not self.failures and self._verdict != "suspect"

    @property
    def _verdict(self) -> str | None:
        return None if self.found is None else str(self.found.registration.verdict)

    def to_dict(self) -> dict[str, Any]:
        """For the machine-readable answer."""
        rows = [] if self.found is None else self.found.rows
        folder = None if self.found is None else self.out.name
        failures = list(self.failures)
        return {
            "folder": folder, "registration": self._verdict, "changes": rows, "failures": failures,
        }  # fmt: skip

    def show(self) -> None:
        """For people, after what is said of the case."""
        from medfuse.cli.followup import show_changes

        if self.found is not None and terminal.mode.shows:
            show_changes(self.found, self.out)
        for failure in self.failures:
            terminal.complain(failure)


def require_baseline(
    baseline: Path | None, inputs: Path | None, anatomical: Path
) -> Earlier | None:
    """What the user named, judged before anything is computed.

    In a BIDS data set the images of the baseline are looked for in the folder of the subject.

    Raises
    ------
    MedfuseError
        ``E_USAGE``, ``E_NOT_A_RESULT``.
    """
    if baseline is None:
        if inputs is not None:
            raise _usage("--baseline-inputs is given without --baseline", "Add --baseline RESULT")
        return None
    from medfuse.verification.finding import read_json

    read_json(baseline, "provenance.json")
    subjects = (p for p in anatomical.absolute().parents if p.name.startswith("sub-"))
    place = inputs or next(subjects, None)
    if place is None or not place.exists():
        cause = "the folder with its images was not given" if place is None else "no such folder"
        raise _usage(cause, "Give the folder with --baseline-inputs DIR")
    return Earlier(baseline, place)


def compare_with(
    earlier: Earlier, result: Any, anatomical: Path, functional: Path, settings: CaseSettings
) -> Compared:
    """Make the comparison; what fails is told."""
    from medfuse.case.baseline import Fused, compare, place_of
    from medfuse.measurement.files import Named
    from medfuse.measurement.gather import found_by_content
    from medfuse.verification.followup import time_point
    from medfuse.verification.inputs import Inputs

    out, failures = place_of(result.folder), list[str]()
    try:
        first = time_point(earlier.folder, Inputs(earlier.inputs))
        second = Fused(result.folder, anatomical, functional, settings).time_point()
        steps = {step["name"]: step["parameters"] for step in first.record["steps"]}
        files = []
        for told in steps.get("measure", {}).get("files", ()):
            path = found_by_content(told["sha256"], earlier.inputs)
            if path is None:
                failures.append(
                    f"note: a file with regions of {earlier.folder.name} is not among its images: "
                    "it was not measured"
                )
            else:
                files.append(Named(path, told["name"]))
        with terminal.progress_bar("medfuse followup") as progress:
            found = compare(first, second, files, out, settings, progress=progress)
    except MedfuseError as error:
        return Compared(out, None, (error.told(as_flag),))
    failures += [error.told(as_flag) for error in found.failures]
    return Compared(out, found, tuple(failures))


def _usage(cause: str, remedy: str) -> UsageError:
    return UsageError("E_USAGE", what="Cannot compare two times", cause=cause, remedy=remedy)
