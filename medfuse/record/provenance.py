"""What was done, to what, with what: the record of one case, without anybody's name in it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue

import medfuse
from medfuse.errors import NOTICE
from medfuse.imaging.pairing import TOLD
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.devices import find_device
from medfuse.record.privacy import case_secret, pseudonym, sanitize, sanitize_command, sanitize_text
from medfuse.record.prov_json import to_prov_json
from medfuse.results.folder import bids_root, inventory, writing
from medfuse.settings import FILES

Role = Literal["anatomical", "functional"]
Verdict = Literal["pass", "look", "fail"]
Identifiers = Literal["kept", "hashed with a study salt", "hashed with a secret of the case"]

SCHEMA = "medfuse-provenance/1"
SCHEMA_FILE = Path(__file__).with_name("schemas") / "provenance-1.schema.json"
PROV_FILE = "provenance.prov.json"
READ_BOTH = f"{NOTICE} Read the source images beside the fused one."
SOFTWARE = ("torch", "monai", "SimpleITK", "numpy", "nibabel", "pydicom")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Record):
    """One source volume, known by its content."""

    name: str | None = Field(None, description="File or folder name; only with keep_names")
    kind: str = Field(description="dicom, nifti or array")
    files: int = Field(ge=0)
    sha256: str | None = Field(description="Content hash, independent of file order and names")
    modality: str
    modality_told: str = Field("", description="How it is known: by the user, a header, a name")
    unit: str
    shape: list[int]
    spacing_mm: list[float]
    affine: list[list[float]] = Field(description="Voxel index -> RAS mm")
    frame_of_reference: str | None = Field(None, description="UID as `identifiers` says")
    series: str | None = Field(None, description="UID as `identifiers` says")
    suv: dict[str, JsonValue] | None = Field(None, description="The whole SUV arithmetic")
    notes: list[str] = []


class Step(_Record):
    """One thing that was done, with every parameter and what came out."""

    name: str
    parameters: dict[str, JsonValue] = {}
    result: dict[str, JsonValue] = {}


class Guide(_Record):
    """What chose the weights, or painted the luminance."""

    name: str
    kind: str | None = Field(None, description="rule, guide, or synthesis: a network painted")
    weights_sha256: str | None = None
    card: dict[str, JsonValue] | None = None


class ColourMap(_Record):
    """The colour map itself, so that a picture can be read back without medfuse."""

    name: str
    sha256: str = Field(description="Of the table as little-endian float32, row by row")
    table: list[str] = Field(description='"R G B" in [0, 1] for 0 ... 1 of the window')


class AuditSummary(_Record):
    """Counts and what needs eyes; the numbers are in audit.json."""

    verdict: Verdict
    counts: dict[Verdict, int]
    not_passed: dict[str, Verdict] = Field(description="Check id -> verdict")


class Hardware(_Record):
    """Class of machine: what decides whether bits can be reproduced; no host name."""

    system: str
    machine: str
    cpus: int
    vector_unit: str = Field(description="Instruction set that torch uses")
    device: str = Field(description="Where the fusion was computed")


class Bids(_Record):
    """BIDS derivative terms, where the inputs lie in a BIDS data set.

    ``bids:raw:`` stands for that data set (DatasetLinks in dataset_description.json).
    """

    GeneratedBy: list[dict[str, str]]
    Sources: list[str]
    SpatialReference: str = Field(description="The anatomical image: its grid is that of outputs")


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
    identifiers: Identifiers = Field(description="What became of DICOM UIDs")
    software: dict[str, str]
    hardware: Hardware
    guide: Guide
    colormap: ColourMap | None = Field(description="None where the functional image came as RGB")
    outputs: dict[str, str] = Field(description="File name -> sha256")
    audit: AuditSummary
    bids: Bids | None = None
    notes: list[str] = []
    timing: dict[str, float] = Field({}, description="Seconds by stage")
    notice: str = READ_BOTH


def json_schema() -> dict[str, Any]:
    """JSON Schema of provenance.json; the same as ``schemas/provenance-1.schema.json``.

    ``python -m medfuse.record.provenance > FILE`` makes the file.
    """
    schema = Provenance.model_json_schema(by_alias=True)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{SCHEMA}"}
    return head | schema


def build_provenance(
    *,
    case: str,
    inputs: Mapping[Role, Any],
    steps: Sequence[Step | Mapping[str, Any]],
    settings: Mapping[str, Any],
    key: str,
    guide: Any,
    audit: Mapping[str, Any],
    colormap: str | None = None,
    command: str | Sequence[str] = "",
    notes: Sequence[str] = (),
    timing: Mapping[str, float] | None = None,
    created: str | None = None,
    uid_salt: bytes | None = None,
    bids: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the record of one case; `write_provenance` adds the hashes of its outputs.

    Parameters
    ----------
    case : str
        Name that the user chose.
    inputs : {"anatomical": MetaTensor, "functional": MetaTensor}
        (C, X, Y, Z) as loaded, before any resampling.
    steps : sequence of Step or {"name", "parameters", "result"}
    settings : mapping
        ``CaseSettings.model_dump()``; ``keep_uids`` and ``keep_names`` are obeyed here.
    key : str
        Resume key.
    guide : MethodInfo or mapping
        With ``name``, ``weights_sha256``, ``card``.
    audit : mapping
        ``Audit.to_dict()``.
    colormap : str, optional
        Of a scalar functional image.
    command : str or sequence of str
        Paths are shortened to their last part.
    created : str, optional
        ISO time; default now (UTC).
    uid_salt : bytes, optional
        Of the study; default a secret of the case.
    bids : mapping, optional
        From `bids_fields`.

    Returns
    -------
    dict
        JSON-able, valid under `json_schema`, free of absolute paths.

    Raises
    ------
    pydantic.ValidationError
        If a part does not fit the schema.
    """
    sources = {role: volume.meta.get("source") or {} for role, volume in inputs.items()}
    identifiers: Identifiers = "hashed with a secret of the case"
    if uid_salt is not None:
        identifiers = "hashed with a study salt"
    if settings.get("keep_uids"):
        identifiers = "kept"
    salt = uid_salt or case_secret([sources[role] for role in sorted(sources)])
    record = Provenance(
        schema="medfuse-provenance/1",
        case=sanitize_text(case),
        medfuse=medfuse.__version__,
        created=created or datetime.now(UTC).isoformat(timespec="seconds"),
        command=sanitize_command(command),
        inputs={
            role: describe_input(
                volume,
                salt=None if identifiers == "kept" else salt,
                keep_name=bool(settings.get("keep_names")),
            )
            for role, volume in inputs.items()
        },
        steps=[Step.model_validate(sanitize(_plain(step, Step))) for step in steps],
        settings=_settings(settings),
        key=key,
        identifiers=identifiers,
        software=software(),
        hardware=hardware(str(settings.get("device", "auto"))),
        guide=_guide(guide, settings),
        colormap=None if colormap is None else colour_table(colormap),
        outputs={},
        audit=audit_summary(audit),
        bids=None if bids is None else Bids.model_validate(bids),
        notes=[sanitize_text(note) for note in notes],
        timing={name: round(float(seconds), 3) for name, seconds in (timing or {}).items()},
    )
    return record.model_dump(mode="json", by_alias=True)


def describe_input(volume: Any, *, salt: bytes | None, keep_name: bool = False) -> Input:
    """Describe a loaded (C, X, Y, Z) MetaTensor; UIDs are hashed unless `salt` is None."""
    meta = volume.meta
    source = meta.get("source") or {}
    uids = source.get("uids") or {}
    affine = np.asarray(volume.affine, dtype=np.float64)

    def identifier(name: str) -> str | None:
        uid = uids.get(name)
        return uid if salt is None else pseudonym(uid, salt)

    return Input(
        name=sanitize_text(source.get("name") or "") if keep_name else None,
        kind=source.get("kind") or "array",
        files=source.get("files") or 0,
        sha256=source.get("sha256"),
        modality_told=source.get(TOLD) or "",
        modality=meta.get("modality", "unknown"),
        unit=meta.get("unit", "a.u."),
        shape=[int(n) for n in volume.shape[-3:]],
        spacing_mm=np.linalg.norm(affine[:3, :3], axis=0).round(6).tolist(),
        affine=affine.tolist(),
        frame_of_reference=identifier("frame_of_reference"),
        series=identifier("series"),
        suv=sanitize(meta.get("suv")),
        notes=[sanitize_text(str(note)) for note in meta.get("notes") or ()],
    )


def bids_fields(anatomical: Path, functional: Path) -> dict[str, Any] | None:
    """Say in BIDS terms what a result is made from; None unless both lie in one BIDS data set.

    References
    ----------
    BIDS 1.10, derivatives: common metadata (Sources, SpatialReference), BIDS URIs.
    """
    paths = [anatomical.absolute(), functional.absolute()]
    root = bids_root(anatomical)
    if root is None or root not in paths[1].parents:
        return None
    names = [path.relative_to(root).as_posix() for path in paths]
    if not all(name.startswith("sub-") for name in names):
        return None
    sources = [f"bids:raw:{name}" for name in names]
    generator = {"Name": "medfuse", "Version": medfuse.__version__}
    return {"GeneratedBy": [generator], "Sources": sources, "SpatialReference": sources[0]}


def colour_table(name: str) -> ColourMap:
    """A colour map as 256 rows; nine digits give every float32 back."""
    table = COLORMAPS[name].numpy().astype("<f4") + np.float32(0)  # no negative zero
    rows = [" ".join(f"{value:.9g}" for value in row) for row in table.tolist()]
    return ColourMap(name=name, sha256=hashlib.sha256(table.tobytes()).hexdigest(), table=rows)


def audit_summary(audit: Mapping[str, Any]) -> AuditSummary:
    """What provenance says of ``audit.json``."""
    verdicts = {check["id"]: check["verdict"] for check in audit["checks"]}
    counts = Counter(verdicts.values())
    return AuditSummary(
        verdict=audit["verdict"],
        counts={verdict: counts[verdict] for verdict in ("pass", "look", "fail")},
        not_passed={name: verdict for name, verdict in verdicts.items() if verdict != "pass"},
    )


def software() -> dict[str, str]:
    """Versions of what computes."""
    own = {"medfuse": medfuse.__version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in SOFTWARE}


def hardware(device: str = "auto") -> Hardware:
    """Class of this machine and the device of its that computed; no host name, no user name."""
    return Hardware(
        system=platform.system(),
        machine=platform.machine(),
        cpus=os.cpu_count() or 1,
        vector_unit=torch.backends.cpu.get_cpu_capability(),
        device=find_device(device).type,
    )


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


def _guide(guide: Any, settings: Mapping[str, Any]) -> Guide:
    """The guide and its card; of a user's own guide without the names of the training data."""
    content = sanitize(_plain(guide, Guide))
    card = content.get("card") or {}
    is_own = str(settings.get("method")).endswith(".safetensors")
    if card and is_own and not settings.get("keep_names"):
        data = {k: v for k, v in card.get("data", {}).items() if k not in ("name", "validation")}
        content["card"] = {k: v for k, v in card.items() if k != "command"} | {"data": data}
    return Guide.model_validate(content)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what names a series or a file: the record tells them by their content."""
    content: dict[str, Any] = sanitize(settings)
    for name in ("anatomical_series", "functional_series"):
        uid = str(content.get(name) or "")
        if "." in uid and not settings.get("keep_uids"):
            content[name] = "given by UID"
    if not settings.get("keep_names"):
        content |= {name: "given" for name in FILES if content.get(name) is not None}
        if content.get("regions"):
            content["regions"] = ["given"] * len(content["regions"])
    return content


def _plain(value: Any, record: type[_Record]) -> dict[str, Any]:
    """A mapping as it is, of any other object the attributes that the record knows."""
    if isinstance(value, Mapping):
        return dict(value)
    return {name: getattr(value, name) for name in record.model_fields}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
