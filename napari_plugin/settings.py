"""Settings of a case as the panel offers them: where their widgets are, what errors call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from medfuse.errors import MedfuseError
from medfuse.settings import CaseSettings, Group, label_of, names_in, option_of

#: Settings that have a widget where they are used, under the label of the setting.
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
        "region",
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
#: Asked in another tab: name and label of the widget.
IN_REGIONS = {"regions": "File...", "drawn_on": "Drawn on"}
#: Shown beside the picture, not instead of it: a button below the tabs.
BUTTONS = {"style": "Overlay"}
MORE_TITLE = "More settings"
GROUPS: tuple[Group, ...] = ("Reading", "Registration", "Fusion", "Output")
#: Settings that the form *More settings* offers, in the order of their declaration.
_ELSEWHERE = (WIDGETS, ASKED, IN_REGIONS, BUTTONS)
MORE = tuple(name for name in names_in(GROUPS) if not any(name in place for place in _ELSEWHERE))
#: Decided when an image is opened; a layer remembers with which of them it was read.
READING = tuple(name for name in MORE if option_of(name).group == "Reading")
#: How images are read where nobody says anything else.
USUAL = {name: CaseSettings.model_fields[name].default for name in READING}
# What a function calls the setting of one image, where it does not know the role of the image.
_OF_EITHER_IMAGE = {
    "modality": ("anatomical_modality", "functional_modality"),
}
# Where the help of a setting names a command, the panel has what it is for in its own words.
_TIPS = {
    "method": "Fusion method. auto: by modality and color map.",
    "colormap": "Color map of a scalar PET, SPECT or CT. auto: by modality.",
    "initial": "Where the search begins: an ITK or ANTs transform (.tfm, .txt, .h5, .mat), the "
    "transform.json of a result, or a text file with a 4x4 matrix.",
    "initial_kind": "What the text file of the initial transform holds; fsl: a matrix of FLIRT "
    "that maps the functional to the anatomical image.",
    "region": "What must fit above all, such as a tumor or the brain: a labels layer, or a file.",
}


def choices_of(name: str) -> tuple[str, ...]:
    """What may be chosen for a setting, in the order of its declaration; empty for any text."""
    return option_of(name).choices or _words_of(CaseSettings.model_fields[name].annotation)


def _words_of(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(get_args(annotation))
    return tuple(word for part in get_args(annotation) for word in _words_of(part))


def tip_of(name: str) -> str:
    """What the widget of a setting says when the mouse rests on it."""
    return _TIPS.get(name) or option_of(name).help


def unusual_reading(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of reading that are not as usual."""
    return {name: chosen[name] for name in READING if chosen.get(name, USUAL[name]) != USUAL[name]}


def words(name: str, value: str) -> str:
    """The words of the panel: a widget and its state.

    They stand where a noun can stand: ``"Registration" set to rigid``, ``"Accept suspect"
    ticked``, ``"Kernel" under "More settings" set to paper``.
    """
    if name in _OF_EITHER_IMAGE:
        return " or ".join(words(other, value) for other in _OF_EITHER_IMAGE[name])
    if name in ASKED:
        return _set_to(f'"{ASKED[name]}" under "Open..."', name, value)
    if name in IN_REGIONS:
        return _set_to(f'"{IN_REGIONS[name]}" in the Regions tab', name, value)
    if name in BUTTONS:
        return f'"{BUTTONS[name]}" below the tabs'
    if name in MORE:
        return _set_to(f'"{label_of(name)}" under "{MORE_TITLE}"', name, value)
    if name == "region" and value.endswith("=FILE"):
        return f'"Structure" beside "{label_of(name)}"'
    if name in WIDGETS:
        return _set_to(f'"{label_of(name)}"', name, value)
    return f'"{name.replace("_", " ")}", which this panel does not have'


def _set_to(widget: str, name: str, value: str) -> str:
    if value in ("True", "False"):
        return f"{widget} {'ticked' if value == 'True' else 'not ticked'}"
    is_known = name in CaseSettings.model_fields and value in choices_of(name)
    if value.isupper() and not is_known:  # stands for what the user has to know
        return widget if name in ASKED or value == "FILE" else f"values of your own in {widget}"
    return f"{widget} set to {value}" if value else widget


def reworded(error: MedfuseError) -> MedfuseError:
    """The same error in the words of the panel, for where napari prints it."""
    return error.reworded(words)
