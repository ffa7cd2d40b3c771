"""Settings of a case as the panel offers them: which have a widget, and what errors call them."""

from __future__ import annotations

from typing import get_args

from medfuse.errors import MedfuseError
from medfuse.settings import CaseSettings, as_flag, label_of, option_of

#: Settings that have a widget in the panel, under the label of the setting.
WIDGETS = frozenset(
    {
        "method",
        "mode",
        "colormap",
        "bias",
        "window",
        "anatomical_window",
        "registration",
        "choose",
        "accept_suspect",
        "allow_patient_mismatch",
        "accept_pair",
        "anatomical_modality",
        "functional_modality",
        "functional_unit",
    }
)

#: What is asked when an image is opened by *Open...* or a drop on the panel.
ASKED = {
    "frame": "Frame",
    "series": "Series",
    "anatomical_series": "Series",
    "functional_series": "Series",
}
# What a function calls the setting of one image, where it does not know the role of the image.
_OF_EITHER_IMAGE = {
    "modality": ("anatomical_modality", "functional_modality"),
}
# Everything else that the panel lacks is an option of `medfuse fuse`.
_COMMANDS = {
    "timeout": "batch",
    "a": "train",
    "b": "train",
    "transform": "audit",
    "inputs": "verify",
    "provenance": "unfuse",
    "drawn_on": "measure",
    "reference": "measure",
}


def choices_of(name: str) -> tuple[str, ...]:
    """What may be chosen for a setting, in the order of its declaration."""
    return option_of(name).choices or get_args(CaseSettings.model_fields[name].annotation)


def words(name: str, value: str) -> str:
    """The words of the panel: a widget and its state, or the command that has the setting.

    They stand where a noun can stand: ``"Registration" set to rigid``, ``"Accept suspect"
    ticked``, ``medfuse fuse --kernel paper``.
    """
    if name in _OF_EITHER_IMAGE:
        return " or ".join(words(other, value) for other in _OF_EITHER_IMAGE[name])
    if name in ASKED:
        asked = f'"{ASKED[name]}" under "Open..."'
        return asked if value.isupper() or not value else f"{asked} set to {value}"
    if name not in WIDGETS:
        return f"medfuse {_COMMANDS.get(name, 'fuse')} {as_flag(name, value)}"
    label = f'"{label_of(name)}"'
    if value in ("True", "False"):
        return f"{label} {'ticked' if value == 'True' else 'not ticked'}"
    if value.isupper() and value not in choices_of(name):  # stands for what the user has to know
        return f"values of your own in {label}"
    return f"{label} set to {value}" if value else label


def reworded(error: MedfuseError) -> MedfuseError:
    """The same error in the words of the panel, for where napari prints it."""
    return error.reworded(words)
