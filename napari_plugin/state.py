"""What is chosen in a panel, what was aligned and fused, and what is said of it.

The layers of an output say where they come from; their names, like all texts, follow from the one
`Result` and from what is chosen now.
"""

from __future__ import annotations

import math
from typing import Any

from psygnal import Signal

from medfuse.fusion.choice import default_colormap
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings, names_in, settings_from
from napari_plugin import outputs
from napari_plugin.choice import LayerChoice
from napari_plugin.moving import moved_by_hand
from napari_plugin.must_fit import RegionChoice
from napari_plugin.records import COARSE, EARLY, Aligned, Fusion
from napari_plugin.remembered import keep_state, kept_state
from napari_plugin.result import Now, Result, earlier_pair, without_statements
from napari_plugin.results import Opened, adopt, opened_by

Vector = tuple[float, float, float]
STILL: Vector = (0.0, 0.0, 0.0)
FIRST = {EARLY: " (first slice)", COARSE: " (first slice, coarse alignment)"}
#: Settings that decide where a registration ends.
WAYS = tuple(name for name in names_in(("Registration",)) if name != "accept_suspect")
#: What a panel that is opened again takes over from the one before.
KEPT = (
    "settings",
    "must_fit",
    "result",
    "_aligned",
    "_moved",
    "nudged",
    "_opened",
    "_views",
    "_painted",
)


class PanelState(LayerChoice):
    """State of one panel.

    Parameters
    ----------
    viewer : napari.components.ViewerModel

    Attributes
    ----------
    registration_changed, fusion_changed : Signal
        Something that the panel shows is new.
    result_changed : Signal
        The result that is shown became, or is no longer, that of what is chosen.
    """

    registration_changed = Signal()
    fusion_changed = Signal()
    result_changed = Signal()
    settings_changed = Signal()  # by something else than a widget

    def __init__(self, viewer: Any) -> None:
        self.settings = CaseSettings()
        self.result: Result | None = None
        self._aligned: Aligned | None = None
        self._moved: Registration | None = None  # by hand, after it was found
        self.nudged: tuple[Vector, Vector] = (STILL, STILL)
        self._is_aligned = False  # whether there was a registration, when it was looked at last
        self._is_same_pair = False  # as `is_fused_pair`, when it was looked at last
        self._opened: Opened | None = None  # the result that was opened last
        self.must_fit = RegionChoice(viewer)
        super().__init__(viewer)
        for signal in (self.layers_changed, self._layer_changed, self.registration_changed):
            signal.connect(self.judge)
        self.outputs_changed.connect(self._mark)
        self.layers_changed.connect(self._adopt)
        self._remember_again()

    @property
    def fusion(self) -> Fusion | None:
        """The last fusion; `result` says whether it is that of what is chosen."""
        return self.result.fusion if self.result is not None else None

    def close(self) -> None:
        """Let go of the viewer; a panel that is opened there again goes on where this one was."""
        if self.result is not None or self._aligned is not None:
            chosen = (self.anatomical, self.functional)
            keep_state(self.viewer, {name: getattr(self, name) for name in KEPT}, chosen)
        super().close()

    def _remember_again(self) -> None:
        """Go on where the last panel of this viewer was."""
        values, (anatomical, functional) = kept_state(self.viewer)
        for name, value in values.items():
            setattr(self, name, value)
        if values:
            self.anatomical, self.functional = anatomical, functional
            for layer in self.viewer.layers:
                if outputs.role_of(layer) is not None:
                    outputs.note_move(layer)
        self.judge()
        self._adopt()

    def _adopt(self) -> None:
        """Make an opened result that of the panel, where it has none of its own."""
        if self.result is not None and not self.result.fusion.opened:
            return
        for layer in self.viewer.layers:
            opened = opened_by(layer)
            if opened is not None and outputs.role_of(layer) is None:
                adopt(self.viewer, layer, opened)
                self._opened = opened
                self.settings = without_statements(opened.fusion.settings)
                self.result = Result(opened.fusion)
                self.judge()
                self.settings_changed.emit()
                self.result_changed.emit()
                self.fusion_changed.emit()

    @property
    def is_fused_pair(self) -> bool:
        """Whether the last fusion is of the layers that are chosen, as they are."""
        return self.fusion is not None and self.fusion.pair.key == self.pair_key()

    def judge(self) -> Result | None:
        """Compare the result with what is chosen now; names of all outputs follow."""
        was = self.result
        if was is not None:
            key = self.pair_key()
            self._is_same_pair = key == was.fusion.pair.key
            now = Now(key, self.registration, self.settings, self.must_fit.key(self.settings))
            self.result = Result.of(was.fusion, now)
        self._mark()
        if was is not None and self.result is not None and was.why != self.result.why:
            self.result_changed.emit()
        if (is_aligned := self.registration is not None) != self._is_aligned:
            self._is_aligned = is_aligned
            self.registration_changed.emit()  # e.g. because the region was painted further
        return self.result

    def _mark(self) -> None:
        outputs.mark(self.viewer, self._said_of)

    def _said_of(self, token: str) -> str:
        """What the name of a layer says of where it comes from; "" for what is chosen now."""
        if token in FIRST:
            return FIRST[token]
        if self.result is not None and token == self.result.fusion.token:
            return self.result.suffix
        aligned = self._aligned
        if aligned is None or token != aligned.token:
            return " (of an earlier run)"
        if aligned.pair.key != self.pair_key():
            return f" ({earlier_pair(aligned.pair)})"
        changed = self._moved is not None or not self._is_aligned_so(aligned)
        return " (made before the alignment changed)" if changed else ""

    @property
    def registration(self) -> Registration | None:
        """The registration of the chosen pair, moved by hand or as found; None before."""
        if self._aligned is None or not self._is_aligned_so(self._aligned):
            return None
        return self._moved or self._aligned.registration

    def _is_aligned_so(self, aligned: Aligned) -> bool:
        """Whether an alignment is of the chosen layers, and of the region that must fit."""
        if aligned.pair.key != self.pair_key():
            return False
        return aligned.asked == self.must_fit.key(self.settings)

    def choose_region(self, layer: Any | None) -> None:
        """Take a labels layer as what the registration must get right; None for no layer."""
        was = self.registration
        self.must_fit.layer = layer
        self.settings = self.settings.model_copy(update={"region": None})
        if self.must_fit.key(self.settings) != (self._aligned and self._aligned.asked):
            self._begin_again(was)
        else:
            self.judge()

    def _begin_again(self, was: Registration | None) -> None:
        """Make a registration void that was asked for in another way."""
        if was is not None or self._opened is not None:
            self.forget_registration()
        self.judge()

    def colormap(self) -> str:
        """The chosen colour map, or the one that the modality gets."""
        return self.settings.colormap or default_colormap(self.word(self.functional))

    def registration_text(self) -> tuple[str, bool]:
        """What the panel says about the registration, and whether it is suspect."""
        found = self.registration
        if found is None:
            return "Not registered yet.", False
        text = (
            f"{found.verdict.upper()}: moved {found.shift_mm:.1f} mm, turned "
            f"{found.rotation_deg:.1f} degrees ({found.method})."
        )
        if not math.isnan(found.overlap):
            text += f" Overlap {100 * found.overlap:.0f} %."
        if found.places:
            text += f" {found.error_words().capitalize()} (90 % of cases)."
        doubted = found.verdict != "good"
        if doubted:
            reasons = "; ".join(found.reasons)
            text += f" {reasons[:1].upper()}{reasons[1:].rstrip('.')}."
        return text, found.verdict == "suspect"

    def nudge(self, shift: Vector, turn: Vector) -> bool:
        """Move the functional image by hand, counted from the registration that was found.

        Parameters
        ----------
        shift : (3,) float
            To the patient's left, posterior, inferior; mm.
        turn : (3,) float
            About the left-right, front-back and head-feet axis through the middle of the
            anatomical image; degrees, right-handed in RAS.

        Returns
        -------
        bool
            Whether there was a registration to move.
        """
        if self.registration is None or self._aligned is None:
            return False
        found = self._aligned.registration
        centre = self._aligned.pair.anatomical.grid.centre
        self.nudged = (shift, turn)
        self._moved = (
            None if self.nudged == (STILL, STILL) else moved_by_hand(found, shift, turn, centre)
        )
        self.registration_changed.emit()
        return True

    def summary(self) -> str:
        """One line on the last fusion."""
        result = self.judge()
        return result.status if result is not None else "Ready."

    def forget_registration(self) -> None:
        """Drop the registration, e.g. because another way of registering was chosen."""
        self._aligned = self._moved = self._opened = None
        self.nudged = (STILL, STILL)
        self.registration_changed.emit()

    def choose(self, **changes: Any) -> None:
        """Change settings; a new way of registering makes the old registration void.

        Raises
        ------
        UsageError
            ``E_SETTINGS``, which names the setting; nothing was changed.
        """
        before, was = self.settings, self.registration
        self.settings = settings_from({**dict(before), **changes})
        if self.settings.region is not None and "region" in changes:
            self.must_fit.layer = None  # a file instead
        if any(getattr(self.settings, n) != getattr(before, n) for n in WAYS):
            self._begin_again(was)
        else:
            self.judge()
