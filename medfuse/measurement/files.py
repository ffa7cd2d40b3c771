"""Files with regions, whatever they are, for a pair of images: read, placed, and named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medfuse.errors import InputError, SeriesError, option
from medfuse.imaging.grid import Grid
from medfuse.imaging.nifti.facts import subject_of_name
from medfuse.imaging.nifti.sidecar import stem_of
from medfuse.imaging.pairing import two_persons
from medfuse.imaging.volume import display_name, read_failure
from medfuse.measurement.dicom_regions import dicom_regions, origin_of, read_dicom_regions
from medfuse.measurement.nifti_regions import read_labels, regions_of
from medfuse.measurement.region import Region, Space
from medfuse.measurement.space import not_told, space_of
from medfuse.settings import split_region


@dataclass(frozen=True)
class Named:
    """A file with regions as the user gives it: ``FILE`` or ``NAME=FILE``."""

    path: Path
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.name}={self.path}" if self.name else str(self.path)

    @classmethod
    def parse(cls, text: str) -> Named:
        """Read ``NAME=FILE``; an existing path may hold the sign itself."""
        name, path = split_region(text)
        return cls(Path(path).expanduser(), name)


@dataclass(frozen=True, eq=False)
class Images:
    """The pair of images to which regions belong.

    Attributes
    ----------
    functional : Grid
        As acquired.
    anatomical : Grid or None
    sources : dict
        ``meta["source"]`` of each image, as `medfuse.load` makes it; empty where it is not known.
    """

    functional: Grid
    anatomical: Grid | None
    sources: dict[Space, dict[str, Any]]

    @classmethod
    def of(cls, functional: Any, anatomical: Any | None) -> Images:
        """Of two loaded MetaTensors (1, X, Y, Z)."""
        volumes = {"functional": functional, "anatomical": anatomical}
        return cls(
            Grid.from_volume(functional),
            None if anatomical is None else Grid.from_volume(anatomical),
            {s: (v.meta.get("source") or {}) if v is not None else {} for s, v in volumes.items()},  # type: ignore[misc]
        )

    def with_uid(self, name: str, uids: tuple[str, ...]) -> list[Space]:
        """Images whose UID of that name is one of `uids`."""
        return [s for s, source in self.sources.items() if _uid(source, name) in uids]


def read_regions(
    file: Named | Path,
    images: Images,
    *,
    drawn_on: Space | None = None,
    names: str | None = None,
    keep_names: bool = False,
    number: int = 1,
    allow_patient_mismatch: bool = False,
) -> list[Region]:
    """Read all regions of a file: NIfTI mask or label map, DICOM SEG or RTSTRUCT.

    Parameters
    ----------
    file : Named or Path
    images : Images
    drawn_on : {"anatomical", "functional"}, optional
        Image on which they were drawn, where the file does not tell.
    names : str, optional
        Table with the names of the labels of a NIfTI file, or "freesurfer".
    keep_names : bool
        Call a mask after its file; else "region" and `number`: file names may name patients.
    allow_patient_mismatch : bool

    Raises
    ------
    MedfuseError
        ``E_REGION``, ``E_REGION_SPACE``, ``E_REGION_GEOMETRY``, ``E_MIXED_PATIENT``, ``E_LABELS``,
        and what reading NIfTI and DICOM raises.
    """
    file = Named(file) if isinstance(file, Path) else file
    where = display_name(file.path)
    if is_dicom(file.path):
        dataset = read_dicom_regions(file.path)
        drawn = origin_of(dataset)
        if not allow_patient_mismatch:
            _require_one_person(images, {"patient": drawn.patient}, where)
        told = drawn_on or _space_by_uid(images, drawn.frames, drawn.series, where)
        found = dicom_regions(dataset, told, where)
        return [_called(region, file.name, alone=len(found) == 1) for region in found]
    if not allow_patient_mismatch:
        _require_one_person(images, {"subject": subject_of_name(file.path.name)}, where)
    labels = read_labels(file.path, names)
    told = space_of(
        labels.grid,
        functional=images.functional,
        anatomical=images.anatomical,
        where=where,
        stated=drawn_on,
    )
    name = file.name or (stem_of(file.path) if keep_names else None)
    found = regions_of(labels, told, name=file.name, where=where)
    if len(found) == 1 and file.name is None and not labels.names:
        return [_called(found[0], name or _label_of(file.path) or f"region {number}", alone=True)]
    return found


def _space_by_uid(
    images: Images, frames: tuple[str, ...], series: tuple[str, ...], where: str
) -> Space:
    """By frame of reference; where both images have the same one, by the series it was drawn on."""
    found = images.with_uid("frame_of_reference", frames)
    if len(found) == 1:
        return found[0]
    if len(found) == 2:
        own = images.with_uid("series", series)
        return own[0] if len(own) == 1 else "anatomical"
    if not any(_uid(source, "frame_of_reference") for source in images.sources.values()):
        raise not_told(where, "neither image has a frame of reference to compare with")
    raise not_told(where, "it was drawn in a frame of reference that is that of neither image")


def _require_one_person(images: Images, source: dict[str, Any], where: str) -> None:
    for own in images.sources.values():
        doubt = two_persons({"source": own}, {"source": source})
        if doubt is not None:
            raise SeriesError(
                "E_MIXED_PATIENT",
                what="Cannot use these regions",
                where=where,
                cause=f"of image and regions, {doubt.cause}",
                remedy="Give the regions of the same person, or go on with "
                f"{option('allow_patient_mismatch', 'True')}",
            )


def _called(region: Region, name: str | None, *, alone: bool) -> Region:
    if name is None:
        return region
    return replace(region, name=name if alone else f"{name} {region.name}")


def _label_of(path: Path) -> str | None:
    """The label that a BIDS name gives a mask: ``sub-01_label-GTV_mask.nii.gz``."""
    entities = dict(part.split("-", 1) for part in stem_of(path).split("_") if "-" in part)
    return entities.get("label") if path.name.startswith("sub-") else None


def _uid(source: dict[str, Any], name: str) -> str | None:
    uid = (source.get("uids") or {}).get(name)
    return str(uid) if uid else None


def is_dicom(path: Path) -> bool:
    """Whether a file with regions is a DICOM object.

    Raises
    ------
    InputError
        ``E_REGION`` for a folder, ``E_UNREADABLE``.
    """
    try:
        if path.is_dir():
            raise InputError(
                "E_REGION",
                what="Cannot read the regions",
                where=display_name(path),
                cause="it is a folder",
                remedy="Give the file of the segmentation or structure set",
            )
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise read_failure(error, display_name(path)) from None
