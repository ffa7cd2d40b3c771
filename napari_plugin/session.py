"""A session as a JSON file: which images are open, what was stated and chosen of them.

It names files relative to itself, holds no voxels and no names of patients, and layer names only
where `keep_names` is set. What is read is checked before anything is opened.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medfuse import __version__
from medfuse.errors import InputError, UsageError
from medfuse.results.folder import write_through
from medfuse.settings import FILES, CaseSettings, label_of, option_of, split_region
from napari_plugin import reader, views
from napari_plugin.layers import TAG, LayerData, facts
from napari_plugin.picking import Item, Pick
from napari_plugin.private import opened_of, path_of
from napari_plugin.settings import READING, unusual_reading
from napari_plugin.values import state

SCHEMA = "medfuse/napari-session/1"
LARGEST = 2**20  # bytes
ROLES = ("anatomical", "functional")
FILE_OF_REGION = 'Save that layer as NIfTI, and choose the file in "Region"'
_Number = Field(allow_inf_nan=False, ge=-1e9, le=1e9)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Image(_Model):
    """One image of a session."""

    file: str = Field(max_length=4096)
    series: str | None = Field(None, max_length=128)
    frame: int | Literal["mean"] | None = None
    modality: Literal["MRI", "PET", "SPECT", "CT"] | None = None
    unit: Literal["SUVbw", "Bq/ml", "HU", "counts", "a.u."] | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    name: str | None = Field(None, max_length=200)
    limits: list[float] | None = Field(None, min_length=2, max_length=2)
    reading: dict[str, Any] = Field(default_factory=dict, max_length=len(READING))


class Look(_Model):
    """Where the view is."""

    plane: Literal["axial", "coronal", "sagittal", "3d"] = "axial"
    point: list[float] = Field(default_factory=list, max_length=3)


class Session(_Model):
    """Content of a session file."""

    schema_: Literal["medfuse/napari-session/1"] = Field(SCHEMA, alias="schema")
    medfuse: str = Field("", max_length=64)
    anatomical: Image | None = None
    functional: Image | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict, max_length=len(FILES))
    result: str | None = Field(None, max_length=4096)
    look: Look = Field(default_factory=Look)


@dataclass(frozen=True)
class Loaded:
    """What a session file brings: layers to add, and what is chosen then."""

    session: Session
    settings: CaseSettings
    images: dict[str, LayerData]
    result: list[LayerData]
    notes: tuple[str, ...]


def save_session(model: Any, path: Path, result: Path | None = None) -> None:
    """Write what is open and chosen.

    Parameters
    ----------
    model : FusionModel
    path : Path
    result : Path, optional
        Result folder of what is chosen.

    Raises
    ------
    UsageError
        ``E_NO_FILE``: a chosen layer did not come from a file, or its voxels were changed, or the
        region of the registration is painted.
    """
    base = path.resolve().parent
    chosen = {role: getattr(model, role) for role in ROLES}
    images = {
        role: None if layer is None else _image(layer, base, model.settings.keep_names)
        for role, layer in chosen.items()
    }
    if (painted := model.must_fit.layer) is not None:
        raise _no_file(painted.name, "the region of the registration was painted", FILE_OF_REGION)
    changed = model.settings.model_dump(mode="json", exclude_defaults=True)
    point = [float(x) for x in model.viewer.dims.point[-3:]]
    session = Session(
        schema=SCHEMA,
        medfuse=__version__,
        **images,
        settings={name: value for name, value in changed.items() if not option_of(name).is_path},
        files={name: _named(model.settings, name, base) for name in FILES if name in changed},
        result=None if result is None else _relative(result, base),
        look=Look(plane=views.plane_of(model.viewer), point=point),
    )
    text = session.model_dump_json(by_alias=True, indent=2, exclude_none=True)
    write_through(path, (text + "\n").encode())


def read_session(path: Path) -> Loaded:
    """Check a session file, and load what it names.

    Raises
    ------
    InputError
        ``E_SESSION``: it is no session file, or names what it must not.
    MedfuseError
        An image or a setting that it names cannot be used.
    """
    session = _parsed(path)
    base = path.resolve().parent
    settings = _settings(session, path)
    images, notes = {}, []
    for role in ROLES:
        image = getattr(session, role)
        if image is None:
            continue
        made = _loaded(image, _inside(image.file, base, path), path)
        found = (made[1]["metadata"][TAG]["meta"].get("source") or {}).get("sha256")
        if image.sha256 and found != image.sha256:
            notes.append(f"the {role} image is not the one that the session was saved with")
        images[role] = made
    result: list[LayerData] = []
    if session.result is not None:
        folder = _inside(session.result, base, path)
        if reader.is_result(folder):
            result = reader.read_results([folder])
        else:
            notes.append("the result folder of the session is not there any more")
    return Loaded(session, settings, images, result, tuple(notes))


def apply_session(model: Any, loaded: Loaded) -> None:
    """Add the layers of a session, choose them, and set everything as it was."""
    viewer, session = model.viewer, loaded.session
    for role, (data, options, _) in loaded.images.items():
        image = getattr(session, role)
        layer = viewer.add_image(data, **options)
        state(layer, modality=image.modality, unit=image.unit)
        if image.name:
            layer.name = image.name
        if image.limits and not layer.rgb and image.limits[0] < image.limits[1]:
            layer.contrast_limits = image.limits
        setattr(model, role, layer)
    for data, options, _ in loaded.result:
        viewer.add_image(data, **options)
    model.settings = loaded.settings  # after those of the result
    model.must_fit.layer = None
    model.judge()
    model.layers_changed.emit()
    model.settings_changed.emit()
    if viewer.dims.ndim == 3:
        views.look(viewer, session.look.plane)
        for axis, value in enumerate(session.look.point):
            viewer.dims.set_point(axis, value)


def _image(layer: Any, base: Path, keep_names: bool) -> Image:
    entry = layer.metadata.get(TAG) or {}
    path = path_of(entry)
    if path is None:
        cause = "the layer was not read from a file by medfuse, or its voxels were changed"
        raise _no_file(layer.name, cause, "Save the layer as NIfTI and open that file")
    stated, source = entry.get("stated") or {}, facts(layer).get("source") or {}
    opened = opened_of(entry)
    return Image(
        file=_relative(Path(path), base),
        series=opened.get("series"),
        frame=opened.get("frame"),
        reading=unusual_reading(opened),
        modality=stated.get("modality"),
        unit=stated.get("unit"),
        sha256=source.get("sha256"),
        name=layer.name if keep_names else None,
        limits=None if layer.rgb else [float(x) for x in layer.contrast_limits],
    )


def _relative(path: Path, base: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), base)).as_posix()
    except ValueError:  # another drive
        cause = "it lies on another drive than the session file"
        raise _no_file(path.name, cause, "Save the session on the drive of the images") from None


def _no_file(where: str, cause: str, remedy: str) -> UsageError:
    return UsageError(
        "E_NO_FILE", what="Cannot save the session", where=where, cause=cause, remedy=remedy
    )


def _named(settings: CaseSettings, name: str, base: Path) -> str:
    """The file of a setting relative to the session, with the name of a structure before it."""
    structure, path = split_region(getattr(settings, name))
    told = _relative(Path(path), base)
    return f"{structure}={told}" if structure else told


def _parsed(path: Path) -> Session:
    try:
        if path.stat().st_size > LARGEST:
            _refuse(path, f"it is larger than {LARGEST} bytes")
        values = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
        return Session.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:60]
        _refuse(path, f"{where or 'it'}: {first['msg'].lower()[:120]}")
    except OSError as error:
        _refuse(path, error.strerror or "it cannot be read")
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not JSON ({type(error).__name__})")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _settings(session: Session, path: Path) -> CaseSettings:
    for name in session.settings:
        if name not in CaseSettings.model_fields:
            _refuse(path, f"settings: there is no setting {name[:40]!r}")
        if option_of(name).is_path:
            _refuse(path, f"settings: {label_of(name)} names a file")
    if not session.files.keys() <= set(FILES):
        _refuse(path, "files: it names a setting that is no file")
    method = str(session.settings.get("method", ""))
    if "/" in method or "\\" in method:
        _refuse(path, "settings: the fusion method is a file, expected a name")
    return _checked(session.settings | _files(session, path), path)


def _files(session: Session, path: Path) -> dict[str, str]:
    found = {}
    for name, text in session.files.items():
        structure, relative = split_region(text)
        whole = str(_inside(relative, path.resolve().parent, path))
        found[name] = f"{structure}={whole}" if structure else whole
    return found


def _checked(values: dict[str, Any], path: Path) -> CaseSettings:
    try:
        return CaseSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        _refuse(path, f"settings: {first['loc'][0]}: {first['msg'].lower()[:120]}")


def _inside(name: str, base: Path, path: Path) -> Path:
    """Path of a file that a session names: relative, and there."""
    drive = PureWindowsPath(name)
    if "\0" in name or PurePosixPath(name).is_absolute() or drive.drive or drive.root:
        _refuse(path, "it names a file by an absolute path, expected one relative to itself")
    return base / name


def _loaded(image: Image, path: Path, session: Path) -> LayerData:
    if not image.reading.keys() <= set(READING):
        _refuse(session, "reading: it holds something else than settings of reading")
    settings = _checked(image.reading, session)
    title = "image" if path.is_dir() else path.name.removesuffix(".gz").removesuffix(".nii")
    item = Item(path, title, title, image.series)
    [layer] = reader.read_picks([Pick(item, image.frame)], settings)
    return layer


def _refuse(path: Path, cause: str) -> NoReturn:
    raise InputError(
        "E_SESSION",
        what="Cannot open the session",
        where=path.name,
        cause=" ".join(cause.split()),
        remedy="Open the images by themselves, and save the session again",
    ) from None
