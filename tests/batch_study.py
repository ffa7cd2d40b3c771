"""A study of small text files, for tests of what a batch does with its cases."""

from __future__ import annotations

from pathlib import Path

from medfuse.study import Case, Study


def make_study(root: Path, *names: str, seconds: float = 0.0) -> Study:
    root.mkdir(exist_ok=True)
    cases = []
    for name in names:
        anatomical, functional = root / f"{name}-mr.txt", root / f"{name}-pet.txt"
        anatomical.write_text(str(seconds))
        functional.write_text(f"uptake of {name}")
        cases.append(Case(name, anatomical, functional, "test"))
    return Study(root, "folders", tuple(cases))
