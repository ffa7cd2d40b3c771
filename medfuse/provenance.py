"""What was done, to what, with what: the record of one case, without anybody's name in it."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

import medfuse
from medfuse.imaging.folder import inventory, writing

Role = Literal["anatomical", "functional"]

PROV_FILE = "provenance.prov.json"
NOTICE = (
    "Research use only: not a medical device, not for diagnosis or treatment. "
    "Read the source images beside the fused one."
)
SOFTWARE = ("torch", "monai", "SimpleITK", "numpy", "nibabel", "pydicom")
# Only for the comparison of the two inputs while a case runs; identifies a person across studies.
NEVER_WRITTEN = frozenset({"patient"})

_PATH_IN_TEXT = re.compile(r"(?<![\w.:/\\])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\"<>|:;,()]+){2,}[/\\]?")
_PATH_TOKEN = re.compile(r"(?:~|\.\.[/\\]|[A-Za-z]:[/\\]|[/\\])")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Record):
    """One source volume. UIDs and content are hashed."""

    name: str = Field(description="File or folder name, without its path")
    kind: str = Field(description="dicom, nifti or array")
    files: int = Field(ge=0)
    sha256: str | None = Field(description="Content hash, independent of file order and names")
    modality: str
    unit: str
    shape: list[int]
    spacing_mm: list[float]
    affine: list[list[float]] = Field(description="Voxel index -> RAS mm")
    frame_of_reference: str | None = None
    series: str | None = None
    suv: dict[str, JsonValue] | None = Field(None, description="The whole SUV arithmetic")
    notes: list[str] = []


class Step(_Record):
    """One thing that was done, with every parameter and what came out."""

    name: str
    parameters: dict[str, JsonValue] = {}
    result: dict[str, JsonValue] = {}


class Guide(_Record):
    """What chose the weights."""

    name: str
    weights_sha256: str | None = None
    card: dict[str, JsonValue] | None = None


class AuditSummary(_Record):
    """The verdict; the numbers are in audit.json."""

    verdict: Literal["pass", "look", "fail"]


class Provenance(_Record):
    """The record of one case (provenance.json)."""

    schema_name: Literal["medfuse-provenance/1"] = Field("medfuse-provenance/1", alias="schema")
    case: str
    medfuse: str = Field(description="Version")
    created: str = Field(description="ISO 8601, UTC")
    command: str
    inputs: dict[Role, Input]
    steps: list[Step]
    settings: dict[str, JsonValue]
    key: str = Field(description="Hash of inputs, settings, version and weights; for resuming")
    software: dict[str, str | int]
    guide: Guide
    outputs: dict[str, str] = Field(description="File name -> sha256")
    audit: AuditSummary
    notes: list[str] = []
    timing: dict[str, float] = Field({}, description="Seconds by stage")
    notice: str = NOTICE


def json_schema() -> dict[str, Any]:
    """JSON Schema of provenance.json."""
    return Provenance.model_json_schema(by_alias=True)


def build_provenance(
    *,
    case: str,
    inputs: Mapping[Role, Any],
    steps: Sequence[Step | Mapping[str, Any]],
    settings: Mapping[str, Any],
    key: str,
    guide: Any,
    audit_verdict: str,
    command: str | Sequence[str] = "",
    notes: Sequence[str] = (),
    timing: Mapping[str, float] | None = None,
    outputs: Mapping[str, str] | None = None,
    created: str | None = None,
) -> dict[str, Any]:
    """Make the record of one case.

    Parameters
    ----------
    case : str
        Name that the user chose.
    inputs : {"anatomical": MetaTensor, "functional": MetaTensor}
        (C, X, Y, Z) as loaded, before any resampling.
    steps : sequence of Step or {"name", "parameters", "result"}
    settings : mapping
        ``CaseSettings.model_dump()``.
    key : str
        Resume key.
    guide : MethodInfo or mapping
        With ``name``, ``weights_sha256``, ``card``.
    audit_verdict : {"pass", "look", "fail"}
    command : str or sequence of str
        Paths are shortened to their last part.
    outputs : mapping, optional
        File name in the result folder -> sha256; `write_provenance` fills it in.
    created : str, optional
        ISO time; default now (UTC).

    Returns
    -------
    dict
        JSON-able, valid under `json_schema`, free of absolute paths.

    Raises
    ------
    pydantic.ValidationError
        If a part does not fit the schema.
    """
    record = Provenance(
        schema="medfuse-provenance/1",
        case=sanitize_text(case),
        medfuse=medfuse.__version__,
        created=created or datetime.now(UTC).isoformat(timespec="seconds"),
        command=sanitize_command(command),
        inputs={role: describe_input(volume) for role, volume in inputs.items()},
        steps=[Step.model_validate(sanitize(_plain(step, Step))) for step in steps],
        settings=sanitize(settings),
        key=key,
        software=software(),
        guide=Guide.model_validate(sanitize(_plain(guide, Guide))),
        outputs=dict(sorted((outputs or {}).items())),
        audit=AuditSummary.model_validate({"verdict": audit_verdict}),
        notes=[sanitize_text(note) for note in notes],
        timing={name: round(float(seconds), 3) for name, seconds in (timing or {}).items()},
    )
    return record.model_dump(mode="json", by_alias=True)


def describe_input(volume: Any) -> Input:
    """Describe a loaded (C, X, Y, Z) MetaTensor; its ``patient`` hash is left out."""
    meta = volume.meta
    source = sanitize(meta.get("source") or {})
    affine = np.asarray(volume.affine, dtype=np.float64)
    return Input(
        name=source.get("name") or "",
        kind=source.get("kind") or "array",
        files=source.get("files") or 0,
        sha256=source.get("sha256"),
        modality=meta.get("modality", "unknown"),
        unit=meta.get("unit", "a.u."),
        shape=[int(n) for n in volume.shape[-3:]],
        spacing_mm=np.linalg.norm(affine[:3, :3], axis=0).round(6).tolist(),
        affine=affine.tolist(),
        frame_of_reference=source.get("frame_of_reference"),
        series=source.get("series"),
        suv=sanitize(meta.get("suv")),
        notes=[sanitize_text(str(note)) for note in meta.get("notes") or ()],
    )


def software() -> dict[str, str | int]:
    """Versions and class of machine; no host name, no user name."""
    versions: dict[str, str | int] = {
        "medfuse": medfuse.__version__,
        "python": platform.python_version(),
    }
    versions |= {name: importlib.metadata.version(name) for name in SOFTWARE}
    versions["platform"] = f"{platform.system()}-{platform.machine()}"
    versions["cpus"] = os.cpu_count() or 1
    return versions


def write_provenance(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write provenance.json and, for other tools, provenance.prov.json (W3C PROV).

    Files that lie in the folder already are its outputs; their hashes join the record.

    Returns
    -------
    dict
        The record as written.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    outputs = {name: file["sha256"] for name, file in inventory(folder).items()}
    complete = {**record, "outputs": outputs}
    for name, content in (("provenance.json", complete), (PROV_FILE, to_prov_json(complete))):
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        with writing(folder / name):
            (folder / name).write_text(text + "\n", encoding="utf-8")
    return complete


def to_prov_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """Restate a record as W3C PROV: files are entities, steps are activities, medfuse the agent.

    Leaves out when it was made and how long it took, so equal cases give equal bytes.

    References
    ----------
    PROV-JSON, W3C Member Submission, 24 April 2013.
    """
    agent, case = "medfuse:software", "medfuse:case"
    inputs = {
        f"medfuse:input-{role}": {"prov:label": role, **_literals(description)}
        for role, description in record["inputs"].items()
    }
    guide = {"medfuse:guide": {"prov:label": "guide", **_literals(record["guide"])}}
    outputs = {
        f"medfuse:output-{number:02d}": {"prov:label": name, "medfuse:sha256": digest}
        for number, (name, digest) in enumerate(record["outputs"].items())
    }
    steps = {
        f"medfuse:step-{number:02d}": {"prov:label": step["name"], **_literals(step)}
        for number, step in enumerate(record["steps"])
    }
    used = [*inputs, *guide]
    order = list(steps)
    return {
        "prefix": {"medfuse": "urn:medfuse:provenance:1:"},
        "entity": inputs | guide | outputs,
        "activity": {
            case: {"prov:label": "one case", "medfuse:settings": _literal(record["settings"])},
            **steps,
        },
        "agent": {agent: {"prov:type": "prov:SoftwareAgent", **_literals(record["software"])}},
        "used": {
            f"_:u{n}": {"prov:activity": case, "prov:entity": name} for n, name in enumerate(used)
        },
        "wasGeneratedBy": {
            f"_:g{n}": {"prov:entity": name, "prov:activity": case}
            for n, name in enumerate(outputs)
        },
        "wasDerivedFrom": {
            f"_:d{n}": {"prov:generatedEntity": made, "prov:usedEntity": source}
            for n, (made, source) in enumerate((o, i) for o in outputs for i in inputs)
        },
        "wasInformedBy": {
            f"_:i{n}": {"prov:informed": later, "prov:informant": earlier}
            for n, (earlier, later) in enumerate(zip(order, [*order[1:], case], strict=True))
        },
        "wasAssociatedWith": {
            f"_:a{n}": {"prov:activity": activity, "prov:agent": agent}
            for n, activity in enumerate([case, *steps])
        },
    }


def sanitize(value: Any) -> Any:
    """Make a value fit for an output: plain JSON types, no absolute paths, no patient hash.

    NaN and infinity become None, arrays lists, paths their last part.
    """
    match value:
        case Mapping():
            return {str(k): sanitize(v) for k, v in value.items() if k not in NEVER_WRITTEN}
        case str():
            return sanitize_text(value)
        case PurePath():
            return value.name
        case bool() | None | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Sequence() | set() | frozenset():
            return [sanitize(v) for v in value]
        case _ if hasattr(value, "tolist"):
            return sanitize(value.tolist())
    return sanitize_text(str(value))


def sanitize_text(text: str) -> str:
    """Shorten absolute paths in a text to their last part and drop control characters."""
    text = text.replace(str(Path.home()) + os.sep, "/~/")
    text = _PATH_IN_TEXT.sub(lambda found: _last_part(found[0]), text)
    return "".join(c for c in text if c.isprintable() or c == "\n")


def sanitize_command(command: str | Sequence[str]) -> str:
    """Shorten every path of a command that is not plainly relative to its last part.

    >>> sanitize_command("medfuse fuse /home/jane/t1.nii.gz pet --initial=/tmp/x.tfm")
    'medfuse fuse t1.nii.gz pet --initial=x.tfm'
    """
    tokens = _split(command) if isinstance(command, str) else list(command)
    return shlex.join(_short_token(token) for token in tokens)


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unbalanced quotation mark
        return command.split()


def _short_token(token: str) -> str:
    option, equals, value = token.partition("=")
    if equals and option.startswith("-") and _PATH_TOKEN.match(value):
        return f"{option}={_last_part(value)}"
    return sanitize_text(_last_part(token) if _PATH_TOKEN.match(token) else token)


def _last_part(path: str) -> str:
    # Windows rules know both separators.
    return PureWindowsPath(path).name or "..."


def _plain(value: Any, record: type[_Record]) -> dict[str, Any]:
    """A mapping as it is, of any other object the attributes that the record knows."""
    if isinstance(value, Mapping):
        return dict(value)
    return {name: getattr(value, name) for name in record.model_fields}


def _literals(content: Mapping[str, Any]) -> dict[str, Any]:
    return {f"medfuse:{k}": _literal(v) for k, v in content.items() if v not in (None, [], {})}


def _literal(value: Any) -> str | int | float | bool:
    if isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
