"""What a fusion takes where the user left the choice: colour map, gamut policy, method, and why."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medfuse.fusion.sources import Gamut
from medfuse.imaging.located import is_located
from medfuse.imaging.windows import Window
from medfuse.kernel.colormaps import COLORMAPS, READABLE
from medfuse.kernel.two_way_maps import MAPS

AUTO = "auto"  # also the name under which the registry has what is taken for unknown kinds
OVERLAY_MAP = "hot"  # of the customary overlay
BONE_WINDOW = (-160.0, 240.0)  # HU; the stops of the map lie at tissues in this window alone
#: Where brightness must tell both: pictures in customary colors, and scalars in a map.
OF_PICTURES = {"PET": "descent-pet", "SPECT": "descent-spect"}
OF_VOLUMES = {"PET": "volume-pet", "SPECT": "descent-spect"}
#: All that `choose_method` may answer with; what decides a result depends on their weights.
CANDIDATES = (
    "anatomical-luma",
    "local-energy",
    "swift",
    "descent-pet",
    "descent-spect",
    "volume-ct",
    "volume-pet",
)


@dataclass(frozen=True)
class Choice:
    """Attributes: ``name`` of the method, ``why`` in one sentence."""

    name: str
    why: str


def modality_of(image: Tensor) -> str:
    """Modality of a loaded image; "unknown" for arrays."""
    return str(image.meta.get("modality", "unknown")) if is_located(image) else "unknown"


def choose_colormap(
    func: Tensor, anat: Tensor, name: str | None, window: Window | None
) -> str | None:
    """The colour map that was asked for or fits; None for RGB.

    Raises
    ------
    ValueError
        If the map is unknown, or one is named for an image that is RGB already.
    """
    if name is not None and name not in COLORMAPS:
        raise ValueError(f"unknown color map {name!r}; choose one of {', '.join(COLORMAPS)}")
    if func.shape[0] == 3:
        if name is not None:
            raise ValueError("the functional image is RGB already; leave colormap out")
        return None
    if name is not None:
        return name
    in_hu = window is not None and (window.low, window.high) == BONE_WINDOW
    return default_colormap(modality_of(func), over_mri=in_hu and modality_of(anat) == "MRI")


def default_colormap(modality: str, *, over_mri: bool = False) -> str:
    """The map of a modality; a CT over an MRI, in its customary window, gets faint colours."""
    if modality != "CT":
        return "glow"
    return "bone" if over_mri else "gray"


def choose_gamut(gamut: Gamut | None, colormap: str | None) -> Gamut:
    """The policy that was asked for, or that of the map; RGB cannot be laid over.

    Raises
    ------
    ValueError
        If ``band`` is asked of a map that is no two-way map.
    """
    if gamut == "band" and colormap not in MAPS:
        raise ValueError(
            f"gamut 'band' needs a scalar functional image and one of the color maps "
            f"{', '.join(MAPS)}"
        )
    if gamut == "overlay" and colormap is None:
        raise ValueError("an overlay needs a scalar functional image, this one is RGB already")
    if gamut is not None:
        return gamut
    if colormap in MAPS:
        return "band"
    return "fit" if colormap in READABLE else "desaturate"


def choose_method(modality: str, colormap: str | None, gamut: Gamut) -> Choice:
    """The method for a functional image of a modality, shown with a map under a policy."""
    if gamut == "overlay":
        return Choice("anatomical-luma", "the colors are laid over the anatomical image")
    if gamut == "band" and modality != "CT":
        return Choice(
            "anatomical-luma",
            f"the color map {colormap} shows the functional image by color and brightness, so the "
            "luminance is left to the anatomical image and both can be read back",
        )
    if colormap == "bone":
        return Choice(
            "volume-ct",
            "CT on MRI: bone comes from the CT, brightness of soft tissue from the MRI, detail "
            "from both, as learned from such pairs",
        )
    if modality == "CT":
        return Choice(
            "local-energy", "CT and MRI: each band is taken from the source with more detail there"
        )
    trained = OF_PICTURES if colormap is None else OF_VOLUMES
    if modality in trained:
        return Choice(
            trained[modality],
            f"{modality}: each band is weighed so that both sources are kept, as learned from such "
            "pairs",
        )
    return Choice("swift", "the modality is not known; trained on street scenes, used zero-shot")
