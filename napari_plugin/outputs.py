"""What a fusion shows: its layers, made in a thread, put into the viewer in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from napari.utils.colormaps import Colormap
from numpy.typing import NDArray

from medfuse.fusion import FusionResult
from medfuse.fusion.sources import plain
from medfuse.imaging.windows import default_window
from medfuse.results.export import to_bytes
from napari_plugin.colors import WEIGHTS, napari_colormap
from napari_plugin.layers import TAG, shown
from napari_plugin.placing import TRANSFORM, linear_map
from napari_plugin.source import Source

GREY_LEVEL = 1 / 255
MOVED = " (moved away from its place)"
PICTURE, WEIGHTS_MAP, SHARE = "picture", "weights", "share"
OUT_OF_RANGE, CLIPPED = "out-of-range", "clipped-colour"
ON_GRID, LUMINANCE = "functional-on-grid", "luminance"
PAINTED = "painted"  # only of networks that make the luminance themselves
CONTRADICTION = "contradiction"  # only where the audit has flagged one
CHECKER, EDGES, OVERLAY = "checkerboard", "edges", "overlay"
SOLID_UPTAKE, SOLID_ANATOMY = "functional-in-3d", "anatomical-in-3d"  # only of large volumes
NOT_ALWAYS = (PAINTED, CONTRADICTION, SOLID_UPTAKE, SOLID_ANATOMY)
EXPECTED_ERROR, REGIONS = "expected-error", "regions"
# Masks are images: a Labels layer takes napari 0.16 s to add, and invites to paint into it.
MASK_COLORS = Colormap(
    [[0, 0, 0, 0], [1.0, 0.25, 0.85, 1], [0.2, 0.9, 1.0, 1]],
    controls=[0, 0.25, 0.75, 1],
    interpolation="zero",
    name="medfuse masks",
)
MASK = {"contrast_limits": (0, 2), "colormap": MASK_COLORS}


@dataclass(frozen=True)
class Output:
    """One layer to show.

    Attributes
    ----------
    role : str
        By this it is found again, whatever the user calls it.
    data : array (slices, rows, columns[, 3])
    style : dict
        Look when the layer is new; the user's later choices are kept.
    fixed : dict
        Look that belongs to the values and is set at every run.
    """

    role: str
    name: str
    data: NDArray[Any]
    style: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def is_visible(self) -> bool:
        """Whether a new layer is to be seen."""
        return bool({**self.style, **self.fixed}.get("visible", True))


def fusion_outputs(
    result: FusionResult, source: Source, on_grid: MetaTensor, *, words: tuple[str, str]
) -> tuple[Output, ...]:
    """Make the layers of a result.

    Parameters
    ----------
    result : FusionResult
    source : Source
        The anatomical layer, whose grid and transform all layers get.
    on_grid : (C, X, Y, Z) MetaTensor
        Functional image on that grid.
    words : (str, str)
        Modality of the functional and the anatomical image, for the names.
    """
    functional, anatomical = words

    def view(volume: Any) -> NDArray[Any]:
        return shown(volume, source.order, flat=source.flat)

    unit_range = {"contrast_limits": (0.0, 1.0)}
    ratio = {"colormap": WEIGHTS, "visible": False}
    hidden = {"visible": False, "opacity": 0.8, "interpolation2d": "nearest"}
    outputs = [
        _on_grid(result, on_grid, view, f"Fusion: {functional} on {anatomical} grid"),
        Output(LUMINANCE, "Fusion: luminance (for 3-D)", view(result.luminance),
               {"visible": False, "colormap": "gray"}, unit_range),
        Output(WEIGHTS_MAP, f"Fusion: weights (1 = {anatomical})", view(result.weights),
               ratio, unit_range),
        Output(SHARE, f"Fusion: share of {anatomical}", view(result.share), ratio, unit_range),
        picture(np.ascontiguousarray(view(to_bytes(result.rgb))), words),
        Output(OUT_OF_RANGE, "Fusion: out of range", view(out_of_range(result)), hidden, MASK),
        Output(CLIPPED, "Fusion: clipped color", view(clipped(result)), hidden, MASK),
    ]  # fmt: skip
    if result.painted is not None:
        outputs.append(Output(PAINTED, "Fusion: painted by the network", view(result.painted),
                              ratio, {"contrast_limits": (-0.5, 0.5)}))  # fmt: skip
    return tuple(outputs)


def picture(data: NDArray[np.uint8], words: tuple[str, str]) -> Output:
    """The fused picture: (slices, rows, columns, 3) uint8."""
    return Output(PICTURE, f"Fusion: {' + '.join(words)}", data, {"rgb": True})


def _on_grid(result: FusionResult, on_grid: MetaTensor, view: Any, name: str) -> Output:
    if result.colormap is None:
        data = np.ascontiguousarray(view(on_grid))
        return Output(ON_GRID, name, data, {"visible": False, "rgb": True})
    window = result.window
    limits = (window.low, window.high) if window else (0.0, 1.0)
    return Output(
        ON_GRID,
        name,
        view(on_grid),
        {"visible": False, "opacity": 0.5},
        {"contrast_limits": limits, "colormap": napari_colormap(result.colormap)},
    )


def aligned_output(aligned: Any, colormap: str) -> Output:
    """The functional image on the anatomical grid, to look at before anything is fused."""
    source, on_grid = aligned.pair.anatomical, aligned.on_grid
    functional, anatomical = aligned.pair.words
    name = f"Fusion: {functional} on {anatomical} grid"
    data = shown(on_grid, source.order, flat=source.flat)
    if len(on_grid) == 3:
        return Output(ON_GRID, name, np.ascontiguousarray(data), {"rgb": True})
    window = default_window(on_grid)
    fixed = {
        "contrast_limits": (window.low, window.high),
        "colormap": napari_colormap(colormap),
        "visible": True,
    }
    return Output(ON_GRID, name, data, {"opacity": 0.5}, fixed)


def out_of_range(result: FusionResult) -> torch.Tensor:
    """(1, X, Y, Z) uint8: 1 brighter, 2 darker by a grey level than both sources nearby."""
    if result.overshoot is None:
        raise ValueError("the result was made without audit")
    excess = plain(result.overshoot)
    return (excess > GREY_LEVEL).to(torch.uint8) + 2 * (excess < -GREY_LEVEL).to(torch.uint8)


def clipped(result: FusionResult) -> torch.Tensor:
    """(1, ...) uint8: 1 where luminance had to move, by a grey level, to make an RGB colour."""
    return (plain(result.gamut_change) > GREY_LEVEL).to(torch.uint8)


def show(
    viewer: Any, outputs: tuple[Output, ...], source: Source, *, of: str = ""
) -> Iterator[Output]:
    """Put outputs into the viewer, one at each step: update its layer, or add and then show it.

    Stepwise, so that a window stays alive between two layers. ``of``: token of the fusion or
    alignment that the outputs come from.
    """
    chosen, is_new = viewer.layers.selection.active, False
    for output in outputs:
        layer = find(viewer, output.role)
        if layer is not None and not _fits(layer, output):
            viewer.layers.remove(layer)
            layer = None
        if layer is None:
            layer = _add(viewer, output, source, of)
            is_new = is_new or output.role == PICTURE
            yield output
            layer.visible = output.is_visible
        else:
            _update(layer, output, source, of)
        yield output
    if is_new or chosen in viewer.layers:
        viewer.layers.selection.active = find(viewer, PICTURE) if is_new else chosen


def mark(viewer: Any, say: Callable[[str], str]) -> None:
    """Add to the names of all outputs what they are results of.

    ``say`` gives the words for the token of a fusion or alignment; "" for what is chosen now.
    """
    for layer in viewer.layers:
        if role_of(layer) is None:
            continue
        entry = layer.metadata[TAG]
        name = layer.name.removesuffix(entry["suffix"])
        suffix = say(entry["of"])
        if entry["unregistered"]:
            suffix = f" (where its file has it){suffix}"
        if entry["moved"]:
            suffix += MOVED
        if suffix != entry["suffix"]:
            layer.metadata[TAG] = {**entry, "suffix": suffix}
        if name + suffix != layer.name:
            layer.name = name + suffix


def note_move(layer: Any) -> None:
    """Write on an output whether it still lies where it was shown."""
    entry = layer.metadata[TAG]
    at = entry["shown_at"]
    moved = at is not None and not np.allclose(linear_map(layer), at)
    if moved != entry["moved"]:
        layer.metadata[TAG] = {**entry, "moved": moved}


def claim(layer: Any, role: str, source: Source, of: str) -> None:
    """Make a layer that is there already an output, e.g. one of an opened result folder."""
    entry = metadata(role, source, of)[TAG] | {"title": layer.name, "shown_at": linear_map(layer)}
    layer.metadata[TAG] = {**layer.metadata[TAG], **entry}


def find(viewer: Any, role: str) -> Any | None:
    """The layer with this role, whatever its name; None where it is not there."""
    return next((layer for layer in viewer.layers if role_of(layer) == role), None)


def role_of(layer: Any) -> str | None:
    """Role of a layer that medfuse made as an output, else None."""
    entry = layer.metadata.get(TAG)
    return entry.get("role") if isinstance(entry, dict) else None


def metadata(role: str, source: Source, of: str = "") -> dict[str, Any]:
    """Metadata of an output layer: its role, grid and true affine, and what it comes from.

    ``title`` and ``suffix`` are of its name: what it was called, and what `mark` added.
    """
    return {
        TAG: {
            "role": role,
            "of": of,
            "title": "",
            "suffix": "",
            "unregistered": False,
            "shown_at": None,
            "moved": False,
            "affine": source.affine.tolist(),
            "shape": list(source.grid.shape),
            "order": asdict(source.order),
        }
    }


def _fits(layer: Any, output: Output) -> bool:
    is_rgb = bool(output.style.get("rgb"))
    return layer.rgb == is_rgb and layer.ndim == output.data.ndim - is_rgb


def _add(viewer: Any, output: Output, source: Source, of: str) -> Any:
    options = {**source.transform, **output.style, **output.fixed, "name": output.name}
    options |= {"metadata": metadata(output.role, source, of), "visible": False}
    layer = viewer.add_image(output.data, **options)
    layer.metadata[TAG]["title"] = layer.name  # another layer may have had that name
    layer.metadata[TAG]["shown_at"] = linear_map(layer)
    return layer


def _update(layer: Any, output: Output, source: Source, of: str) -> None:
    layer.data = output.data
    for name in TRANSFORM:
        if not _same(getattr(layer, name), source.transform[name]):
            setattr(layer, name, source.transform[name])
    for name, value in output.fixed.items():
        setattr(layer, name, value)
    before = layer.metadata[TAG]
    layer.metadata = {**layer.metadata, **metadata(output.role, source, of)}
    name = layer.name.removesuffix(before["suffix"])
    if name == before["title"]:  # else the user gave it another
        name = output.name
    if name != layer.name:
        layer.name = name
    layer.metadata[TAG]["title"] = output.name if name == output.name else before["title"]
    layer.metadata[TAG]["shown_at"] = linear_map(layer)


def _same(old: Any, new: Any) -> bool:
    try:
        return bool(np.array_equal(np.asarray(old), np.asarray(new)))
    except (TypeError, ValueError):
        return False
