"""Which case of a study is the first time of the same person."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medfuse.study.model import Case
from medfuse.study.names import case_name

_SESSION = re.compile(r"_ses-([a-zA-Z0-9]+)")


def baselines(cases: Iterable[Case], *, first_sessions: bool) -> dict[str, str]:
    """Name of a case -> name of the case with which it is compared.

    Parameters
    ----------
    cases : iterable of Case
        The `baseline` that a manifest names goes before.
    first_sessions : bool
        Of a BIDS data set, each session of a subject with its first one, in the order of their
        names (2 before 10), where the PET files have the same name but for the session.
    """
    found: dict[str, str] = {}
    firsts: dict[tuple[str, str], tuple[list[tuple[int, str]], str]] = {}
    places: list[tuple[str, tuple[str, str]]] = []
    for case in cases:
        if case.baseline:
            found[case.name] = case_name(case.baseline)
            continue
        session = _SESSION.search(case.functional.name)
        if not first_sessions or session is None:
            continue
        subject = next((p for p in case.functional.parents if p.name.startswith("sub-")), None)
        place = (str(subject), _SESSION.sub("", case.functional.name, count=1))
        order = _natural(session[1])
        if place not in firsts or order < firsts[place][0]:
            firsts[place] = (order, case.name)
        places.append((case.name, place))
    sessions = {name: firsts[place][1] for name, place in places}
    return {name: first for name, first in {**sessions, **found}.items() if name != first}


def _natural(text: str) -> list[tuple[int, str]]:
    """2 before 10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
