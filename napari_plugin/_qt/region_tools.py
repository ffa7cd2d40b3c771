"""Makes, measures, draws and writes the regions of a panel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QFileDialog

from medfuse.errors import MedfuseError, UsageError
from medfuse.measurement.region import Region
from napari_plugin import outputs, views
from napari_plugin._qt.region_field import KINDS
from napari_plugin._qt.regions_tab import RegionsTab
from napari_plugin.jobs import Job, Progress, failure, let_go
from napari_plugin.layers import TAG
from napari_plugin.records import Fusion
from napari_plugin.regions import (
    Measured,
    Shape,
    color_of,
    isocontour_at,
    measured,
    painted_regions,
    regions_in_file,
    renamed,
    sphere_at,
)


class RegionTools:
    """What the buttons of the tab do.

    Parameters
    ----------
    panel : FusePanel
    tab : RegionsTab
    """

    def __init__(self, panel: Any, tab: RegionsTab) -> None:
        self.panel, self.tab, self.model = panel, tab, panel.model
        self.shapes: tuple[Shape, ...] = ()
        self._made = 0  # so that no two regions get one name
        self._pair: Any = None  # to which the regions belong
        tab.wanted.connect(self._on_wanted)
        tab.renamed.connect(self._rename)
        tab.save_clicked.connect(self._save)
        tab.table.cellClicked.connect(lambda row, column: self.go_to(row))
        self.model.fusion_changed.connect(self._on_fusion)

    def _on_wanted(self, what: str, value: Any) -> None:
        fusion = self.model.fusion
        if fusion is None:
            return
        act: dict[str, Callable[[], Any]] = {
            "sphere": lambda: self._add([sphere_at(fusion, self._here(), value, self._number())]),
            "isocontour": lambda: self._add(
                [isocontour_at(fusion, self._here(), value, self._number())]
            ),
            "painted": lambda: self._add(painted_regions(fusion, self._labels())),
            "layer": lambda: self._new_layer(fusion),
            "file": self._from_file,
            "files": lambda: self.read(value),
            "remove": lambda: self._keep(
                [s for n, s in enumerate(self.shapes) if n not in set(value)]
            ),
        }
        try:
            act[what]()
        except MedfuseError as error:
            self.panel.tell(failure(error))

    def _number(self) -> int:
        self._made += 1
        return self._made

    def _here(self) -> Any:
        """Data index of the cross hair."""
        layer = outputs.find(self.model.viewer, outputs.PICTURE) or self.model.anatomical
        point = np.asarray(self.model.viewer.dims.point)[-layer.ndim :]
        return layer.world_to_data(point)

    def _labels(self) -> Any:
        """The labels layer that is selected, else the uppermost one."""
        viewer = self.model.viewer
        layers = [layer for layer in viewer.layers if type_of(layer) == "labels"]
        active = viewer.layers.selection.active
        if active is not None and type_of(active) == "labels":
            return active
        return layers[-1] if layers else self._new_layer(self.model.fusion)

    def _new_layer(self, fusion: Fusion) -> Any:
        source = fusion.pair.anatomical
        data = np.zeros(np.asarray(source.data).shape, np.uint8)
        return self.model.viewer.add_labels(data, name="Paint regions here", **source.transform)

    def _from_file(self) -> None:
        title = "Regions: NIfTI, RTSTRUCT or SEG"
        paths, _ = QFileDialog.getOpenFileNames(self.panel, title, "", KINDS)
        self.read([Path(path) for path in paths])

    def read(self, paths: Sequence[Path]) -> None:
        """Read the regions of files in a thread, and measure them."""
        result, settings = self.model.result, self.model.settings
        if result is None or result.fusion.opened:
            raise UsageError(
                "E_NO_RESULT",
                what="Cannot measure regions",
                where=", ".join(path.name for path in paths),
                cause="both images have to be fused first",
                remedy="Open both images, press Fuse, and open the regions again",
            )
        fusion, numbers = result.fusion, [self._number() for _ in paths]
        drawn_on = self.tab.drawn_on.currentData()

        def work(progress: Progress) -> list[Region]:
            return [
                region
                for path, number in zip(paths, numbers, strict=True)
                for region in regions_in_file(
                    fusion, path, settings=settings, number=number, drawn_on=drawn_on
                )
            ]

        if paths:
            self.panel.runner.enqueue(Job("Reading regions", work), self._add)

    def _add(self, shapes: list[Any]) -> None:
        self._keep([*self.shapes, *shapes])

    def _keep(self, shapes: list[Any]) -> None:
        self.shapes = tuple(shapes)
        self._measure()

    def _rename(self, number: int, name: str) -> None:
        if 0 <= number < len(self.shapes):
            self._keep(list(renamed(self.shapes, number, name)))

    def go_to(self, number: int) -> None:
        """Turn to the middle of a region, where it is drawn."""
        layer = outputs.find(self.model.viewer, outputs.REGIONS)
        if layer is None or not 0 <= number < len(self.shapes):
            return
        places = np.argwhere(np.asarray(layer.data) == color_of(number))
        if len(places):
            middle = places[len(places) // 2]
            views.go_to(self.model.viewer, layer, tuple(float(i) for i in middle))

    def _on_fusion(self) -> None:
        """Regions belong to a pair: they are measured again on it, and forgotten with it."""
        fusion = self.model.fusion
        pair = None if fusion is None else tuple(key and key.layer for key in fusion.pair.key)
        if pair != self._pair:
            self.shapes = ()
            self._tell(None)
            self._hide()
        self._pair = pair
        if self.shapes:
            self._measure()

    def _measure(self) -> None:
        fusion, shapes = self.model.fusion, self.shapes
        if fusion is None:
            return
        if not shapes:
            self._tell(None)
            self._hide()
            return
        job = Job("Measuring regions", lambda progress: measured(fusion, shapes, progress))
        self.panel.runner.enqueue(job, self._show)

    def _show(self, found: Measured) -> Iterator[Any]:
        if found.fusion is not self.model.fusion or found.shapes is not self.shapes:
            return  # out of date by now
        source = found.fusion.pair.anatomical
        yield from outputs.show(self.model.viewer, (found.output,), source, of=found.fusion.token)
        self.model.judge()
        before = [self.tab.found]
        self._tell(found)
        let_go(before)

    def _tell(self, found: Measured | None) -> None:
        self.tab.show_measured(found)
        if found is not None:
            self.panel.record_tab.show_regions(found.fusion, found.table.to_dict())
        elif self.model.fusion is not None:
            self.panel.record_tab.show_regions(self.model.fusion, [])

    def write_beside(self, folder: Path, fusion: Fusion) -> None:
        """Write the table beside a result folder, where it is of the same fusion.

        Raises
        ------
        OutputError
            ``E_WRITE``.
        """
        found = self.tab.found
        if found is not None and found.fusion is fusion and len(found.table):
            found.table.write(folder.with_name(f"{folder.name}-regions.tsv"))

    def _hide(self) -> None:
        layer = outputs.find(self.model.viewer, outputs.REGIONS)
        if layer is not None:
            self.model.viewer.layers.remove(layer)

    def _save(self) -> None:
        kinds = "Tables (*.csv *.tsv)"
        path, _ = QFileDialog.getSaveFileName(self.panel, "Save table", "regions.csv", kinds)
        if path:
            self.save(Path(path))

    def save(self, path: Path) -> None:
        """Write the table; asks where it is not of what is chosen."""
        self.panel.files.with_result(lambda result: self._write(path))

    def _write(self, path: Path) -> None:
        try:
            self.tab.write(path)
        except (OSError, MedfuseError) as error:
            self.panel.tell(failure(error))
            return
        self.panel.status.setText(f"Written: {path.name}.")


def type_of(layer: Any) -> str:
    """Kind of a layer: "image", "labels", ..."""
    entry = layer.metadata.get(TAG)
    return "" if isinstance(entry, dict) and "role" in entry else str(layer._type_string)
