"""What somebody does who changes a result and makes all of its records agree again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medfuse.case.pipeline import CaseSettings
from medfuse.record.prov_json import to_prov_json
from medfuse.record.provenance import PROV_FILE, audit_summary
from medfuse.report.case import render_report
from medfuse.results.folder import MANIFEST, inventory
from medfuse.verification.verify import Finding

CHOSEN = CaseSettings(
    registration="identity",
    accept_suspect=True,  # a small piece
    mode="slices",
    bias=0.1,
    method="swift",
    colormap="ember",
)


def wrong(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.what for finding in findings if not finding.ok}


def text_of(findings: tuple[Finding, ...], what: str) -> str:
    return next(f.text for f in findings if f.what == what)


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content, indent=2) + "\n")


def reseal(folder: Path) -> None:
    """What a careful forger would do: make all records agree with the files again."""

    def restate(record: dict[str, Any]) -> None:
        found = inventory(folder)
        audit = json.loads((folder / "audit.json").read_text())
        record["outputs"] = {name: found[name]["sha256"] for name in record["outputs"]}
        record["audit"] = audit_summary(audit).model_dump()

    edit_json(folder / "provenance.json", restate)
    record = json.loads((folder / "provenance.json").read_text())
    (folder / PROV_FILE).write_text(json.dumps(to_prov_json(record)))
    render_report(folder)
    manifest = json.loads((folder / MANIFEST).read_text()) | {"files": inventory(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def leaves(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to the entries of a JSON value; of a list to the first and the last."""
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from leaves(value, (*at, name))
    elif isinstance(content, list) and content:
        for number in sorted({0, len(content) - 1}):
            yield from leaves(content[number], (*at, number))
    else:
        yield at


def change(content: Any, way: tuple[Any, ...]) -> None:
    """Give an entry another value of the same kind, where it has one."""
    *path, last = way
    for step in path:
        content = content[step]
    content[last] = _other(content[last])


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case None:
            return 1
        case dict():
            return {"added": 1}
        case _:
            return ["added"]
