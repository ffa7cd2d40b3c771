"""The first tab: images, alignment, look, fusion."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_plugin._qt.align_box import AlignBox
from napari_plugin._qt.images_box import ImagesBox
from napari_plugin._qt.look_box import LookBox, MethodBox
from napari_plugin._qt.more_settings import MoreSettings
from napari_plugin.model import FusionModel


class FuseTab(QWidget):
    """Five boxes of fields for a :class:`FusionModel`.

    The panel shows ``emphasis`` beside its button, where no scrolling hides it.

    Signals
    -------
    open_clicked, register_clicked ()
        The panel does it.
    windows_stale ()
        Other layers were chosen: default windows have to be found.
    look_changed ()
        Something that a preview can show.
    frame_chosen (object, object), suv_clicked (object)
        Of a layer; the panel does it.
    """

    open_clicked = Signal()
    register_clicked = Signal()
    windows_stale = Signal()
    look_changed = Signal()
    frame_chosen = Signal(object, object)
    suv_clicked = Signal(object)

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self.images, self.align = ImagesBox(model), AlignBox(model)
        self.look, self.how = LookBox(model), MethodBox(model)
        self.more = MoreSettings(model)
        box = QVBoxLayout(self)
        box.setContentsMargins(4, 4, 4, 4)
        box.setSpacing(3)  # at 900 pixels of height all of it is seen without scrolling
        for group in (self.images, self.align, self.look, self.how, self.more):
            box.addWidget(group)
        box.addStretch(1)
        self._name_fields()
        self._connect()
        self.follow()

    def _name_fields(self) -> None:
        """The fields that others ask for."""
        images, align, look, how = self.images, self.align, self.look, self.how
        self.anatomical, self.functional = images.anatomical, images.functional
        self.open, self.swap, self.save = images.open, images.swap, images.save
        self.registration, self.register = align.registration, align.register
        self.registration_text = align.text
        self.accept, self.mismatch, self.accept_pair = (
            align.accept,
            align.mismatch,
            align.accept_pair,
        )
        self.adjust, self.positions = align.adjust, align.adjust.positions
        self.window_field, self.anatomical_window = look.window_field, look.anatomical_window
        self.colormap, self.method, self.mode = look.colormap, how.method, how.mode
        self.bias, self.emphasis = how.bias, how.emphasis

    def _connect(self) -> None:
        self.open.clicked.connect(self.open_clicked)
        self.images.chosen.connect(self._on_pair)
        for field in (self.anatomical, self.functional):
            field.frame_chosen.connect(self.frame_chosen)
            field.suv_clicked.connect(self.suv_clicked)
        self.align.register_clicked.connect(self.register_clicked)
        for box in (self.look, self.how):
            box.changed.connect(self.look_changed)
        self.more.look_changed.connect(self.look_changed)
        self.model.layers_changed.connect(self.refresh)
        self.model.settings_changed.connect(self.follow)

    def refresh(self) -> None:
        """Show layers and what is missing."""
        self.images.refresh()
        self.align.region.follow()
        self.register.setEnabled(self.images.is_ready)
        self.align.show_statements()
        self.how.name_ends()
        self.look.explain()
        self.windows_stale.emit()

    def follow(self) -> None:
        """Show settings that were changed by something else than these widgets."""
        for box in (self.align, self.look, self.how, self.more):
            box.follow()
        self.refresh()
        self.align.show_registration()

    def ask_about(self, code: str) -> None:
        """Offer to state that a pair is meant, once it was refused."""
        self.align.ask_about(code)

    def _on_pair(self) -> None:
        """Another pair is chosen."""
        self.align.forget_statements()
        self.look.reset_windows()
        self.refresh()
        self.align.show_registration()
