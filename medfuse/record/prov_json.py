"""A record restated for other tools: W3C PROV as PROV-JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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


def _literals(content: Mapping[str, Any]) -> dict[str, Any]:
    return {f"medfuse:{k}": _literal(v) for k, v in content.items() if v not in (None, [], {})}


def _literal(value: Any) -> str | int | float | bool:
    if isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
