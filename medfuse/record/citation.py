"""The methods section of one result: what was done, with its parameters, and what to cite.

Everything is read from the record of the result. What the record does not hold is named, so that
an author adds it; nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from medfuse.errors import InputError
from medfuse.record.provenance import Provenance
from medfuse.record.references import REFERENCES, as_bibtex, as_text
from medfuse.results.folder import read_json, shown_name

ROLES = ("anatomical", "functional")


def cite(result: Path, style: Literal["text", "bibtex"] = "text") -> str:
    """The methods section of a result, or the references alone.

    Parameters
    ----------
    result : Path
        A result folder, or its provenance.json.
    style : {"text", "bibtex"}

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``: there is no record, or none that medfuse writes.
    """
    found = read_json(result / "provenance.json" if result.is_dir() else result)
    write = bibliography if style == "bibtex" else methods_section
    try:
        return write(Provenance.model_validate(found).model_dump(mode="json", by_alias=True))
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            "E_NOT_A_RESULT",
            what="Cannot cite",
            where=shown_name(result.name),
            cause="there is no record of a result in it"
            if found is None
            else "its record is not one that medfuse writes",
            remedy="Give the folder that medfuse fuse or medfuse batch has written for one case",
        ) from None


def methods_section(provenance: Mapping[str, Any]) -> str:
    """A paragraph, what the record does not tell, and the references, in plain text.

    Parameters
    ----------
    provenance : mapping
        ``provenance.json`` of a result.
    """
    keys = list(cited(provenance))
    numbers = {key: f"[{number}]" for number, key in enumerate(keys, start=1)}
    paragraph = " ".join(_with_numbers(sentence, numbers) for sentence in sentences(provenance))
    version = str(provenance.get("medfuse", "?"))
    references = [f"{numbers[key]} {as_text(REFERENCES[key], version)}" for key in keys]
    missing = [f"- {item}" for item in not_recorded(provenance)]
    return "\n".join(
        [
            paragraph,
            "",
            "Not recorded in this result; add it yourself:",
            *missing,
            "",
            "References",
            *references,
            "",
        ]
    )


def bibliography(provenance: Mapping[str, Any]) -> str:
    """The references of a result as BibTeX."""
    version = str(provenance.get("medfuse", "?"))
    return "\n".join(as_bibtex(key, REFERENCES[key], version) for key in cited(provenance))


def cited(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Keys of the references that the paragraph mentions, in its order."""
    found: list[str] = []
    for sentence in sentences(provenance):
        places = {sentence.find(f"{{{key}}}"): key for key in REFERENCES}
        found += [places[place] for place in sorted(places) if place >= 0]
    yield from dict.fromkeys(found)


def sentences(provenance: Mapping[str, Any]) -> Iterator[str]:
    """The paragraph; references stand in braces."""
    steps = {step["name"]: step for step in provenance["steps"]}
    inputs = {role: provenance["inputs"][role] for role in ROLES}
    settings = provenance["settings"]
    version = provenance["medfuse"]
    names = " and ".join(f"{_article(inputs[r])} ({r} image)" for r in reversed(ROLES))
    yield f"{names[0].upper()}{names[1:]} were fused with medfuse {version} {{medfuse}}."
    yield " ".join(_grid(role, inputs[role]) for role in ROLES)
    yield from _units(inputs["functional"])
    yield from _registration(steps.get("register"), settings)
    yield from _display(steps)
    yield from _fusion(steps.get("fuse"), provenance.get("guide") or {})
    yield from _checks(provenance)
    yield from _software(provenance.get("software") or {})


def not_recorded(provenance: Mapping[str, Any]) -> Iterator[str]:
    """What a methods section needs and this record does not hold."""
    yield "scanners, sequences, tracer, reconstruction and number of participants"
    functional = provenance["inputs"]["functional"]
    if not functional.get("suv") and "SUV" in str(functional.get("unit")):
        yield "injected dose, body weight and uptake time (the file already held SUV)"
    for role in ROLES:
        facts = provenance["inputs"][role]
        if facts.get("unit") == "a.u.":
            yield f"the unit of the {role} image (the file states none)"
        if facts.get("modality") in (None, "unknown"):
            yield f"the modality of the {role} image"
    found: Mapping[str, Any] = next(
        (s["result"] for s in provenance["steps"] if s["name"] == "register"), {}
    )
    if "method" not in found:
        yield "how the images were aligned"
    elif not (found.get("expected_error") or {}).get("places"):
        yield "the accuracy of the registration (it was not measured for this result)"
    if not any(s["name"] == "fuse" and s["parameters"].get("method") for s in provenance["steps"]):
        yield "how the images were fused"
    yield "whether a person has checked the registration and the fused image by eye"


def _article(facts: Mapping[str, Any]) -> str:
    modality = facts.get("modality") or "unknown"
    if modality == "unknown":
        return "an image of unrecorded modality"
    return f"{'an' if modality == 'MRI' else 'a'} {modality} image"


def _grid(role: str, facts: Mapping[str, Any]) -> str:
    shape = " x ".join(str(n) for n in facts["shape"])
    spacing = " x ".join(f"{n:.4g}" for n in facts["spacing_mm"])
    kind = {"dicom": "DICOM", "nifti": "NIfTI"}.get(facts["kind"], facts["kind"])
    return f"The {role} image ({kind}) had {shape} voxels of {spacing} mm."


def _units(facts: Mapping[str, Any]) -> Iterator[str]:
    unit, suv = facts.get("unit"), facts.get("suv")
    if unit and unit != "a.u.":
        how = "calculated from the DICOM header {qiba}" if suv else "taken as stored"
        yield f"Functional values are in {unit}, {how}."


def _registration(step: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> Iterator[str]:
    found = step["result"] if step else {}
    if step is None or "method" not in found:
        return
    method, moved = found["method"], (found.get("shift_mm"), found.get("rotation_deg"))
    if method == "identity":
        yield "The positions in the image headers were used; no registration was performed."
    elif method in ("rigid", "affine"):
        start = " from an initial transform" if step["parameters"].get("initial") else ""
        yield (
            f"The functional image was aligned to the anatomical image by {method} maximization of "
            f"mutual information {{mattes}}{start} with SimpleITK {{simpleitk}} (preset "
            f"{settings.get('preset', 'default')}, random seed {found.get('seed', 0)})."
        )
    else:
        yield f'The position of the functional image was taken from elsewhere ("{method}").'
    if method != "identity" and None not in moved:
        yield f"It moved by {moved[0]:.1f} mm and {moved[1]:.1f} degrees."
    places = (found.get("expected_error") or {}).get("places") or []
    if places:
        bounds = " and ".join(f"{p['within_mm']:.1f} mm at {p['name']}" for p in places)
        yield (
            f"The expected registration error, estimated from the images alone, was within "
            f"{bounds} (90 % of cases)."
        )
    if "verdict" in found:
        yield f"medfuse rated the registration as {found['verdict']}."
    yield (
        "The functional image was resampled once onto the anatomical grid, with linear "
        "interpolation."
    )


def _display(steps: Mapping[str, Any]) -> Iterator[str]:
    windows = (steps.get("window") or {}).get("parameters") or {}
    shown = [
        f"{w['low']:.4g} to {w['high']:.4g} {w['unit']} ({role})"
        for role in reversed(ROLES)
        if (w := windows.get(role))
    ]
    if shown:
        yield f"Display windows were {' and '.join(shown)}."
    colormap = (steps.get("colour") or {}).get("parameters", {}).get("colormap")
    if colormap:
        yield f"The functional image was shown in the color map {colormap}."


def _fusion(step: Mapping[str, Any] | None, guide: Mapping[str, Any]) -> Iterator[str]:
    how = step["parameters"] if step else {}
    if not how.get("method"):
        return
    card = guide.get("card") or {}
    network = card.get("architecture")
    reference = _NETWORKS.get(str(network), "")
    name = f"the method {how['method']}"
    if network:
        name += f" (a network with {card.get('parameters', '?')} parameters{reference}"
        name += f", weights SHA-256 {str(guide.get('weights_sha256'))[:12]})"
    if guide.get("kind") == "synthesis":
        yield f"The luminance was synthesized by {name}; such pixels have no source in the images."
    elif how.get("levels"):
        yield (
            f"Luminance was fused in a Laplacian pyramid {{burt}} with {how['levels']} levels "
            f"({how.get('kernel')} filter, {how.get('mode')} mode), with weights of {name}, in the "
            "manner of Hybrid Fusion {hybrid}; chroma was left as it was."
        )
    else:
        yield f"Luminance was fused voxel by voxel with weights of {name}."
    emphasis, gamut = how.get("bias", 0), how.get("gamut")
    extra = [
        *([f"the emphasis was {emphasis:+g}"] if emphasis else []),
        *([f"colors outside RGB were treated by the rule {gamut}"] if gamut else []),
        *(["luminance was limited to the range of both sources"] if how.get("bounded") else []),
    ]
    if extra:
        text = " and ".join(extra)
        yield f"{text[0].upper()}{text[1:]}."


def _checks(provenance: Mapping[str, Any]) -> Iterator[str]:
    audit = provenance.get("audit") or {}
    counts = audit.get("counts") or {}
    if counts:
        told = ", ".join(f"{counts[v]} {v}" for v in ("pass", "look", "fail") if v in counts)
        yield f"Automatic checks of the fused image ended as {audit['verdict']} ({told})."
    failing = ", ".join(sorted(audit.get("not_passed") or {}))
    if failing:
        yield f"The checks that did not pass were: {failing}."


def _software(versions: Mapping[str, Any]) -> Iterator[str]:
    names = {"python": "Python", "torch": "PyTorch"}
    used = [f"{names.get(n, n)} {v}" for n, v in versions.items() if n not in ("medfuse", "monai")]
    if used:
        yield f"Software: {', '.join(used)}."


#: Papers behind the networks, by architecture.
_NETWORKS = {
    "gifnet": " {gifnet}",
    "unet": " {unet}",
    "bands": " {unet}",
    "descent": " {andrychowicz}",
    "unfolding": " {unfolding}",
    "unfolding-features": " {unfolding}",
}


def _with_numbers(sentence: str, numbers: Mapping[str, str]) -> str:
    for key, number in numbers.items():
        sentence = sentence.replace(f"{{{key}}}", number)
    return sentence
