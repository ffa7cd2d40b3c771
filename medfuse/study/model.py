"""What a study is made of: cases, and what is skipped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medfuse.study.spill import Spill

MANIFEST_NAME = "cases.csv"
REMEDY = f"name the pair in a {MANIFEST_NAME} (case,anatomical,functional)"
#: A study of fewer cases is held in memory.
FEW = 1000


@dataclass(frozen=True)
class Case:
    """Two images that are to be fused.

    Attributes
    ----------
    name : str
        Name of the result folder (`study.names`); unique in the study.
    anatomical, functional : Path
        NIfTI file or DICOM folder.
    why : str
        Why these two, in words.
    overrides : dict
        `CaseSettings` fields that hold for this case alone.
    baseline : str
        Name, as the user wrote it, of the case that shows the same person at an earlier time.
    """

    name: str
    anatomical: Path
    functional: Path
    why: str
    overrides: dict[str, Any] = field(default_factory=dict)
    baseline: str = ""


@dataclass(frozen=True)
class Skipped:
    """What is not fused, and why.

    Attributes
    ----------
    case : str
        Not empty where the user named this case: then leaving it out is a failure.
    subject : bool
        The folder of a person (or a part of it) of which no case could be made: it stands in the
        summary, other than a single file that is no input.
    names : str
        The part of `reason` that names files.
    """

    path: Path
    reason: str
    code: str = ""
    case: str = ""
    subject: bool = False
    names: str = ""

    @property
    def written(self) -> str:
        """The reason as an output may say it: names of files may be names of people."""
        return self.reason.replace(f" ({self.names})", "") if self.names else self.reason


@dataclass(frozen=True)
class Study:
    """Everything that was found in a study folder.

    Attributes
    ----------
    root : Path
    kind : {"manifest", "bids", "folders"}
    cases : sequence of Case
        A tuple; of a long study a list that stays on disk.
    skipped : sequence of Skipped
        Those with a ``case`` name were asked for by name and count as failed.
    """

    root: Path
    kind: Literal["manifest", "bids", "folders"]
    cases: Sequence[Case]
    skipped: Sequence[Skipped] = ()


def gather(found: Iterable[Case | Skipped]) -> tuple[Sequence[Case], Sequence[Skipped]]:
    """Part cases from what is skipped; of a long study both stay on disk."""
    cases: list[Case] | Spill[Case] = []
    skipped: list[Skipped] | Spill[Skipped] = []
    for item in found:
        if isinstance(item, Case):
            cases.append(item)
            if len(cases) == FEW and isinstance(cases, list):
                cases = Spill(_encode, lambda fields: Case(**_decode(fields)), cases)
        else:
            skipped.append(item)
            if len(skipped) == FEW and isinstance(skipped, list):
                skipped = Spill(_encode, lambda fields: Skipped(**_decode(fields)), skipped)
    return tuple(cases) if isinstance(cases, list) else cases, (
        tuple(skipped) if isinstance(skipped, list) else skipped
    )


def _encode(item: Case | Skipped) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(item).items()}


def _decode(fields: dict[str, Any]) -> dict[str, Any]:
    paths = {"path", "anatomical", "functional"}
    return {k: Path(v) if k in paths else v for k, v in fields.items()}


def place(path: Path, root: Path, series: str | None = None) -> str:
    """Path for people: relative to the study, else the last part alone."""
    try:
        text = path.relative_to(root).as_posix()
    except ValueError:
        text = path.name
    text = path.name if text == "." else text
    return f"{text} (series {series})" if series else text
