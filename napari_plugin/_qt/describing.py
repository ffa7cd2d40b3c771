"""What the user says of a layer that needs work: which frame, and what was injected."""

from __future__ import annotations

from typing import Any

from medfuse.errors import MedfuseError
from napari_plugin._qt.injection import ask_injection
from napari_plugin.dose import to_suv
from napari_plugin.frames import take_frame
from napari_plugin.jobs import Job, failure


class Describing:
    """Frames and SUV of the layers of a panel.

    Parameters
    ----------
    panel : FusePanel
    """

    def __init__(self, panel: Any) -> None:
        self.panel = panel

    def take_frame(self, layer: Any, frame: int | str) -> None:
        """Add a frame of a layer as a layer, and choose it instead."""
        model = self.panel.model
        role = "anatomical" if layer is model.anatomical else "functional"

        def add(made: Any) -> None:
            data, options, _ = made
            new = self.panel.viewer.add_image(data, **options)
            layer.visible = False
            setattr(model, role, new)
            self.panel.fuse_tab.refresh()

        self.panel.runner.enqueue(Job("Frame", lambda progress: take_frame(layer, frame)), add)

    def to_suv(self, layer: Any) -> None:
        """Ask for the injection and bring the layer to SUVbw."""
        if layer is None:
            return
        injection = ask_injection(layer.name, self.panel)
        if injection is None:
            return
        try:
            to_suv(layer, injection)
        except MedfuseError as error:
            self.panel.tell(failure(error))
            return
        self.panel.model.layers_changed.emit()
