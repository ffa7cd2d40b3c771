"""What travels in a data dictionary beside the images: plain facts that a DataLoader can batch."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from torch import Tensor

from medfuse.audit import Audit, Check
from medfuse.errors import UsageError
from medfuse.registration.region import Region

IMAGES = ("rgb", "luminance", "weights", "share")


def collatable(value: Any) -> Any:
    """Restate a JSON-able value without None, which PyTorch cannot batch; no entry means None."""
    if isinstance(value, Mapping):
        return {key: collatable(v) for key, v in value.items() if v is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [collatable(v) for v in value]
    return value


def batchable(image: Any) -> Any:
    """Return the same image with facts that a DataLoader can batch."""
    if not isinstance(image, MetaTensor):
        return image
    return MetaTensor(
        image.as_tensor(),
        meta=collatable(image.meta),
        applied_operations=image.applied_operations,
    )


def require_volume(image: Any, key: str) -> MetaTensor:
    """Return the image if it carries geometry.

    Raises
    ------
    TypeError
        Names the key and what was found under it.
    """
    if not isinstance(image, MetaTensor):
        raise TypeError(
            f"{key!r} must be a MetaTensor (1, X, Y, Z) as LoadImaged makes it, "
            f"got {type(image).__name__}"
        )
    return image


def facts_of(audit: Audit) -> dict[str, Any]:
    """An audit in plain values that a DataLoader can batch.

    The details of a check are JSON text: their lists (hot spots, slices) have the length of the
    case, and images of two cases could not be batched.
    """
    facts = audit.to_dict()
    checks = [{**check, "details": json.dumps(check["details"])} for check in facts["checks"]]
    plain: dict[str, Any] = collatable({**facts, "checks": checks})
    return plain


def audit_of(facts: Mapping[str, Any]) -> Audit:
    """Rebuild an audit from what `facts_of` made."""
    return Audit(
        tuple(
            Check(**{"threshold": None, **check, "details": json.loads(check["details"])})
            for check in facts["checks"]
        )
    )


def region_text(region: Region) -> str:
    """A region as JSON text: arrays of two cases have two shapes and could not be batched."""
    bits = zlib.compress(np.packbits(region.inside).tobytes())
    told = {"of": region.of, "affine": region.affine.tolist(), "shape": region.inside.shape}
    return json.dumps({**told, "bits": base64.b64encode(bits).decode("ascii")})


def region_from(text: str | None) -> Region | None:
    """Read what `region_text` wrote; None stays None."""
    if text is None:
        return None
    told = json.loads(text)
    bits = np.frombuffer(zlib.decompress(base64.b64decode(told["bits"])), np.uint8)
    inside = np.unpackbits(bits, count=math.prod(told["shape"])).reshape(told["shape"])
    return Region(inside.astype(bool), np.array(told["affine"]), told["of"])


def checksum(images: Sequence[Tensor]) -> int:
    """CRC-32 of the values of some images, to notice that one of them was changed."""
    total = 0
    for image in images:
        total = zlib.crc32(np.ascontiguousarray(image.detach().cpu().numpy()).data, total)
    return total


def require_unchanged(data: Mapping[Hashable, Any], fusion: Mapping[str, Any]) -> None:
    """Refuse images that are not those that the fusion made and audited.

    Raises
    ------
    UsageError
        ``E_CHANGED``.
    """
    images = [data[fusion["keys"][name]] for name in IMAGES]
    if checksum(images) != fusion["checksum"]:
        raise UsageError(
            "E_CHANGED",
            what="The fused images are not those that were audited",
            cause="a transform between FuseLuminanced and this step changed their values",
            remedy="Audit and save first, or change copies (CopyItemsd)",
        )


def case_name(data: Mapping[Hashable, Any], key: str, images: Sequence[MetaTensor]) -> str:
    """Name of a case: ``data[key]``, else made of the content of its images.

    Raises
    ------
    UsageError
        ``E_CASE_NAME`` if the name is no plain folder name.
    """
    if key not in data:
        hashes = [(image.meta.get("source") or {}).get("sha256") or "" for image in images]
        return "case-" + f"{zlib.crc32(''.join(hashes).encode()):08x}"
    name = str(data[key])
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name:
        raise UsageError(
            "E_CASE_NAME",
            what="Cannot write the case",
            cause=f"{name!r} is no folder name",
            remedy=f"Give data[{key!r}] letters, digits, - and _",
        )
    return name
