"""How both images are aligned: the second box of the Fuse tab."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QPushButton

from napari_plugin._qt.adjust import AdjustBox
from napari_plugin._qt.fields import small
from napari_plugin._qt.region_field import RegionField
from napari_plugin._qt.setting_widgets import choice, group_form, label, show_text, show_tick, tick
from napari_plugin.model import FusionModel

NOT_ACCEPTED = "no"
ACCEPTED = {
    "roles": "The modalities are meant as they are chosen.",
    "same-image": "One image is meant to be both.",
}
#: Errors that the user can answer by a statement about the pair.
_ABOUT_PAIR = ("E_ROLES", "E_SAME_IMAGE", "E_MIXED_PATIENT")


class AlignBox(QGroupBox):
    """Registration, what it says, statements about the pair, and moving by hand.

    Signals
    -------
    register_clicked ()
        Align now.
    """

    register_clicked = Signal()

    def __init__(self, model: FusionModel) -> None:
        super().__init__("2  Alignment")
        self.model = model
        self._refused: set[str] = set()  # for what the pair was refused
        self.registration = choice("registration")
        self.register = QPushButton("&Register")
        self.register.setToolTip("Align now. Fuse does it by itself where it was not done.")
        self.text = small()
        self.text.setAccessibleName("Registration result")
        self.accept, self.mismatch = tick("accept_suspect"), tick("allow_patient_mismatch")
        self.accept_pair = choice("accept_pair", {NOT_ACCEPTED: "", **ACCEPTED})
        self.accept_label = label("accept_pair", self.accept_pair)
        self.region = RegionField(self.model)
        self.adjust = AdjustBox(self.model)
        self._lay_out()
        self.accept.setVisible(False)
        self.mismatch.setVisible(False)
        self.forget_statements()
        self._connect()

    def _lay_out(self) -> None:
        form = group_form(self)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.registration, 1)
        row.addWidget(self.register)
        form.addRow(label("registration", self.registration), row)
        form.addRow(label("region", self.region.combo), self.region)
        form.addRow(self.text)
        form.addRow(self.accept)
        form.addRow(self.mismatch)
        form.addRow(self.accept_label, self.accept_pair)
        form.addRow(self.adjust)

    def _connect(self) -> None:
        choose = self.model.choose
        self.registration.currentTextChanged.connect(lambda text: choose(registration=text))
        self.register.clicked.connect(self.register_clicked)
        self.accept.toggled.connect(lambda on: choose(accept_suspect=on))
        self.mismatch.toggled.connect(lambda on: choose(allow_patient_mismatch=on))
        self.accept_pair.currentTextChanged.connect(
            lambda text: choose(accept_pair=None if text == NOT_ACCEPTED else text)
        )
        self.model.registration_changed.connect(self.show_registration)

    def show_registration(self) -> None:
        """Say how the chosen pair is aligned."""
        text, suspect = self.model.registration_text()
        self.text.setText(text)
        self.text.setStyleSheet("color: #e0574f;" if suspect else "")
        self.accept.setVisible(suspect)
        if not suspect:
            self.accept.setChecked(False)
        self.adjust.refresh()

    def follow(self) -> None:
        """Show settings that were changed by something else than these widgets."""
        chosen = self.model.settings
        show_text(self.registration, chosen.registration)
        self.region.follow()
        show_text(self.accept_pair, chosen.accept_pair or NOT_ACCEPTED)
        show_tick(self.accept, chosen.accept_suspect)
        show_tick(self.mismatch, chosen.allow_patient_mismatch)

    def ask_about(self, code: str) -> None:
        """Offer to state that a pair is meant, once it was refused."""
        self._refused |= {code} & set(_ABOUT_PAIR)
        self.show_statements()

    def show_statements(self) -> None:
        """What can be stated of the pair, where there is something to state."""
        differ = self.model.patients_differ()
        self.mismatch.setVisible(differ or "E_MIXED_PATIENT" in self._refused)
        for widget in (self.accept_label, self.accept_pair):
            widget.setVisible(differ or bool(self._refused))

    def forget_statements(self) -> None:
        """What was stated of one pair is not stated of another."""
        self.accept_pair.setCurrentText(NOT_ACCEPTED)
        self.mismatch.setChecked(False)
        self.model.choose(choose=None)
        self.adjust.positions.refresh()
        self._refused = set()
        self.show_statements()
