"""What each volume of a result is: description, unit and display window, in its header and a list.

Viewers open a volume in its window (NIfTI ``cal_min``, ``cal_max``) and show ``descrip``; the unit
stands in ``intent_name``. ``volumes.json`` says the same to people and programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from medfuse.imaging.nifti.colors import MARK, ColorLayout

VOLUMES = "volumes.json"
SCHEMA = "medfuse-volumes/1"
_UNIT = (0.0, 1.0)
_CHANGE = (-0.1, 0.1)


@dataclass(frozen=True)
class About:
    """One volume.

    Attributes
    ----------
    description : str
        At most 79 ASCII characters, which a NIfTI header holds.
    unit : str
        "1" for a number without unit, "RGB" for colors.
    window : (low, high), optional
        What viewers show first, in the unit.
    """

    description: str
    unit: str = "1"
    window: tuple[float, float] | None = _UNIT


_ABOUT = {
    "fused_rgb": About("medfuse: fused image, for viewing and not for measuring", MARK, None),
    "luminance": About("medfuse: fused luminance before it is brought into RGB; 1 is white"),
    "weight_map": About("medfuse: weight asked for; 1 anatomical, 0 functional image"),
    "anatomical_share": About("medfuse: contribution of the anatomical image to the luminance"),
    "gamut_change": About("medfuse: luminance of fused_rgb minus luminance", window=_CHANGE),
    "bound_change": About("medfuse: luminance that the bound took away", window=_CHANGE),
    "region": About("medfuse: region that the registration had to fit; 1 is inside"),
    "deformation": About("medfuse: displacement in mm, LPS components (ITK, ANTs)", "mm", None),
    "painted": About("medfuse: luminance that a network synthesized", window=_CHANGE),
}
_BAND = "weights_level"
_FOURTH = "medfuse: fused image (4th axis: R, G, B), for viewing and not for measuring"


@dataclass(frozen=True)
class Facts:
    """What the volumes of a result have from its record.

    Attributes
    ----------
    window : mapping, optional
        ``low`` and ``high`` of the functional image, as the record of the step has them.
    modality, unit : str
        Of the functional image, as the record of the input has them.
    colors : {"rgb24", "4d"}
        How volumes in color are stored.
    """

    window: Mapping[str, Any] | None
    modality: str
    unit: str
    colors: ColorLayout = "rgb24"


def about(name: str, facts: Facts) -> About | None:
    """What a volume is, by its file name without suffix; None for names that are not ours."""
    if name == "functional_on_anatomical":
        window = facts.window
        shown = (float(window["low"]), float(window["high"])) if window else None
        text = f"medfuse: {facts.modality} on the anatomical grid, resampled once"
        return About(text, facts.unit, shown)
    if name == "fused_rgb" and facts.colors == "4d":
        return About(_FOURTH, MARK, None)
    if name.startswith(_BAND):
        level = name.removeprefix(_BAND)
        return About(f"medfuse: weights of band {level} (0 is the finest); 1 anatomical")
    return _ABOUT.get(name)


def describe_header(header: Any, what: About | None) -> Any:
    """Put description, unit and window into a NIfTI header; the same header comes back."""
    if what is not None:
        header["descrip"] = what.description.encode("ascii", "replace")[:79]
        header["intent_name"] = what.unit.encode("ascii", "replace")[:15]
        if what.window is not None:
            header["cal_min"], header["cal_max"] = what.window
    return header


def volume_list(names: Iterable[str], facts: Facts) -> dict[str, Any]:
    """Content of ``volumes.json``: the volumes by file name."""
    found = {name: about(name, facts) for name in sorted(names)}
    return {
        "schema": SCHEMA,
        "volumes": {
            f"{name}.nii.gz": {
                "description": what.description.removeprefix("medfuse: "),
                "unit": what.unit,
                "display_window": list(what.window) if what.window else None,
            }
            for name, what in found.items()
            if what is not None
        },
    }
