"""Do two images make a pair? What they say of themselves, against the roles that they were given.

Sure contradictions are refused unless the user states that they are meant; a file name alone is
doubt, which the audit tells. Nothing is put right by a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfuse.errors import MedfuseError, SeriesError, UsageError, option

#: What a user may state of a pair; "same-image" covers the roles too.
Acceptance = Literal["roles", "same-image"]
Kind = Literal["roles", "same-image", "patients"]

#: How a modality was told: by the user, by what belongs to the file, or by its name alone.
USER, NAME = "user", "file name"
TOLD = "modality_told"

_COVERED: dict[Acceptance, tuple[Kind, ...]] = {
    "roles": ("roles",),
    "same-image": ("same-image", "roles"),
}
_NEVER = {"anatomical": ("PET", "SPECT"), "functional": ("MRI",)}
#: Correlation from which on two images are one, stored with other numbers (8 bits a voxel suffice).
ONE_IMAGE = 0.9995
_SAMPLES = 200_000
_FEWEST = 64
_ON_LATTICE = 0.02  # voxels


@dataclass(frozen=True)
class Doubt:
    """One reason why two images may be no pair.

    ``cause``: in words, for errors and the audit; ``is_sure``: more than a file name says so.
    """

    kind: Kind
    cause: str
    is_sure: bool = True


def told(*, user: str | None = None, **by: str | None) -> str:
    """How a modality is known, as one text: ``user: MRI; DICOM header: PET``.

    Parameters
    ----------
    user : str, optional
        What the user stated.
    **by : str, optional
        What else says so: ``dicom_header``, ``sidecar``, ``BIDS_name``, ``file_name``.
    """
    words = {"dicom_header": "DICOM header", "BIDS_name": "BIDS name", "file_name": NAME}
    known = {USER: user, **{words.get(name, name): value for name, value in by.items()}}
    return "; ".join(f"{how}: {value}" for how, value in known.items() if value)


def restated(text: str, modality: str) -> str:
    """The same text once the user has stated a modality."""
    kept = [part for part in text.split("; ") if part and not part.startswith(f"{USER}: ")]
    return "; ".join([f"{USER}: {modality}", *kept])


def require_pair(
    anatomical: Any,
    functional: Any,
    *,
    accept_pair: Acceptance | None = None,
    allow_patient_mismatch: bool = False,
) -> tuple[Doubt, ...]:
    """Refuse two images that contradict their roles, are one image, or show two persons.

    Parameters
    ----------
    anatomical, functional : MetaTensor (C, X, Y, Z) or array
        With the facts of ``medfuse.load``; what has none is not doubted.
    accept_pair : {"roles", "same-image"}, optional
        What the user states to be meant.
    allow_patient_mismatch : bool

    Returns
    -------
    tuple of Doubt
        What was not refused, for the audit: statements of the user, and doubt by names alone.

    Raises
    ------
    UsageError
        ``E_SAME_IMAGE``, ``E_ROLES``.
    SeriesError
        ``E_MIXED_PATIENT``.
    """
    found = doubts(anatomical, functional)
    allowed = set(_COVERED[accept_pair]) if accept_pair else set()
    if allow_patient_mismatch:
        allowed.add("patients")
    for doubt in found:
        if doubt.is_sure and doubt.kind not in allowed:
            raise _refusal(doubt, " and ".join(_name(x) for x in (anatomical, functional)))
    return found


def doubts(anatomical: Any, functional: Any) -> tuple[Doubt, ...]:
    """All reasons why two images may be no pair, in the order in which they are refused."""
    facts = {"anatomical": _facts(anatomical), "functional": _facts(functional)}
    found = [two_persons(*facts.values()), _one_image(anatomical, functional), _roles(facts)]
    return tuple(doubt for doubt in found if doubt is not None)


def _facts(image: Any) -> dict[str, Any]:
    meta = getattr(image, "meta", None)
    return meta if isinstance(meta, dict) else {}


def _source(meta: dict[str, Any]) -> dict[str, Any]:
    return meta.get("source") or {}


def _name(image: Any) -> str:
    return str(_source(_facts(image)).get("name") or "?")


def two_persons(*facts: dict[str, Any]) -> Doubt | None:
    """Whether facts of images name two persons: header against header, BIDS label against label."""
    sources = [_source(meta) for meta in facts]
    if len({source.get("patient") for source in sources} - {None}) > 1:
        cause = "the headers name two different patients (ID, birth date or sex differ)"
        return Doubt("patients", cause)
    subjects = sorted({str(s["subject"]) for s in sources if s.get("subject")})
    if len(subjects) > 1:
        named = " and ".join(f"sub-{label}" for label in subjects)
        return Doubt("patients", f"the file names say two different subjects, {named}")
    return None


def _roles(facts: dict[str, dict[str, Any]]) -> Doubt | None:
    kinds = {role: str(meta.get("modality") or "unknown") for role, meta in facts.items()}
    sure = {role: _contradiction(role, meta) for role, meta in facts.items()}
    for role, says in sure.items():
        if says is not None:
            return Doubt("roles", f"the {role} image is {says}", is_sure=True)
    if kinds["anatomical"] == kinds["functional"] == "CT":
        return Doubt("roles", "both images are CT, of which neither is the functional one")
    weak = {role: _told_by(meta).get(NAME) for role, meta in facts.items()}
    odd = {role: says for role, says in weak.items() if says in _NEVER[role]}
    listing = " and ".join(f"that of the {role} image says {says}" for role, says in odd.items())
    if len(odd) == len(weak):  # each confirms the other
        return Doubt("roles", f"the two file names are in the other order: {listing}")
    if odd and USER not in _told_by(facts[next(iter(odd))]):
        return Doubt("roles", f"of the file names, {listing}", is_sure=False)
    return None


def _contradiction(role: str, meta: dict[str, Any]) -> str | None:
    """The modality that an image cannot have in this role, and what says so; None if it fits."""
    for how, modality in _told_by(meta).items():
        if how != NAME and modality in _NEVER[role]:
            by = "as was stated" if how == USER else f"by its {how}"
            return f"{modality} {by}"
    return None


def _told_by(meta: dict[str, Any]) -> dict[str, str]:
    """How the modality is known -> modality; facts of other software are those of the user."""
    text = _source(meta).get(TOLD)
    if text is None:
        modality = str(meta.get("modality") or "unknown")
        return {} if modality == "unknown" else {USER: modality}
    return dict(part.split(": ") for part in text.split("; ") if part)


def _one_image(anatomical: Any, functional: Any) -> Doubt | None:
    ours, theirs = _facts(anatomical), _facts(functional)
    a, f = _source(ours), _source(theirs)
    if a.get("sha256") and a.get("sha256") == f.get("sha256"):
        return Doubt("same-image", "both images have the same content")
    alike = ours.get("modality") == theirs.get("modality")
    if alike and a.get("series") and a.get("series") == f.get("series"):
        return Doubt("same-image", "both images are of the same DICOM series")
    by_files = {_by_file(ours), _by_file(theirs)}
    if len(by_files - {None}) == 2:  # no copy of a file changes what its header says
        return None
    if a and f and _same_voxels(anatomical, functional):
        return Doubt("same-image", "both images hold the same voxels, in two files")
    return None


def _by_file(meta: dict[str, Any]) -> str | None:
    """The modality by header, sidecar or BIDS name; None where none of them says it."""
    sure = [modality for how, modality in _told_by(meta).items() if how not in (USER, NAME)]
    return sure[0] if sure else None


def _same_voxels(one: Any, other: Any) -> bool:
    """Whether two volumes are one, whatever their axes, numbers and places say.

    Compared are voxels at one place, where one lattice holds both images (turned, cropped,
    padded), and voxels at one index of axes in one order, where the shapes agree.
    """
    if any(image.ndim != 4 or image.shape[0] != 1 for image in (one, other)):
        return False
    arrays = [image.detach().cpu().numpy()[0] for image in (one, other)]
    affines = [np.asarray(image.affine, dtype=np.float64) for image in (one, other)]
    index = np.linalg.inv(affines[1]) @ affines[0]
    maps = [index] if _is_lattice(index) else []
    turned = [
        _canonical(affine, array.shape) for affine, array in zip(affines, arrays, strict=True)
    ]
    if _bounds(turned[0], arrays[0].shape) == _bounds(turned[1], arrays[1].shape):
        maps.append(np.linalg.inv(turned[1]) @ turned[0])
    return any(_is_one(*_paired(arrays[0], arrays[1], mapping)) for mapping in maps)


def _is_lattice(index: NDArray[np.float64]) -> bool:
    steps, rounded = index[:3, :3], np.round(index)
    one_each = np.abs(rounded[:3, :3]).sum(0).tolist() == [1.0, 1.0, 1.0]
    return one_each and bool(
        np.abs(steps - rounded[:3, :3]).max() < 1e-4
        and np.abs(index[:3, 3] - rounded[:3, 3]).max() < _ON_LATTICE
    )


def _canonical(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(4, 4) index -> index of the same voxels with axes to the right, anterior, superior."""
    import nibabel as nib

    order = nib.orientations.io_orientation(affine)
    return np.linalg.inv(nib.orientations.inv_ornt_aff(order, shape))


def _bounds(canonical: NDArray[np.float64], shape: tuple[int, ...]) -> list[int]:
    axes = np.round(np.abs(canonical[:3, :3]))
    return [int(n) for n in axes @ np.asarray(shape)]


def _paired(
    one: NDArray[Any], other: NDArray[Any], index: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of both at the voxels of the first that the second holds too, or a part of them."""
    stride = max(1, one.size // _SAMPLES)
    stride += stride % 2 == 0  # not in step with axes of even length
    places = np.stack(np.unravel_index(np.arange(0, one.size, stride), one.shape))
    there = np.round(index[:3, :3] @ places + index[:3, 3:]).astype(np.int64)
    inside = ((there >= 0) & (there < np.array(other.shape)[:, None])).all(axis=0)
    values = one[tuple(places[:, inside])], other[tuple(there[:, inside])]
    return values[0].astype(np.float64), values[1].astype(np.float64)


def _is_one(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    if len(a) < _FEWEST or len(np.unique(a)) < 3 or not (a.std() > 0 and b.std() > 0):
        return False
    return float(np.corrcoef(a, b)[0, 1]) >= ONE_IMAGE


def _refusal(doubt: Doubt, where: str) -> MedfuseError:
    if doubt.kind == "patients":
        return SeriesError(
            "E_MIXED_PATIENT",
            what="Cannot make a pair",
            where=where,
            cause=doubt.cause,
            remedy=f"Check the pairing, or use {option('allow_patient_mismatch', 'True')} if you "
            "are certain",
        )
    if doubt.kind == "same-image":
        return UsageError(
            "E_SAME_IMAGE",
            what="Cannot make a pair",
            where=where,
            cause=doubt.cause,
            remedy="Give the other image of this person, or state with "
            f"{option('accept_pair', 'same-image')} that this is meant",
        )
    return UsageError(
        "E_ROLES",
        what="Cannot make a pair",
        where=where,
        cause=f"{doubt.cause}. The anatomical image can be an MRI or a CT, the functional one a "
        "PET, a SPECT or a CT",
        remedy="Exchange the two images if their order is wrong, correct the modality, or state "
        f"with {option('accept_pair', 'roles')} that this is meant",
    )
