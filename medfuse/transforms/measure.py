"""Measuring regions as a dictionary transform."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import TransformBackends, ensure_tuple

from medfuse.imaging.grid import Grid
from medfuse.measurement.measure import MTV, measure
from medfuse.measurement.nifti_regions import LabelFile, regions_of
from medfuse.measurement.region import Region, Threshold
from medfuse.measurement.space import space_of
from medfuse.registration.result import Registration
from medfuse.transforms.facts import require_volume


class MeasureRegionsd(MapTransform):
    """Measure regions on a functional volume as :func:`medfuse.measure` does.

    ``RegisterRigidd`` replaces the functional volume by one on the anatomical grid, whose maxima
    are lower: give a copy of it as loaded (``CopyItemsd`` before) to measure that.

    Parameters
    ----------
    keys : str
        The functional volume, (1, X, Y, Z).
    region_keys : str or sequence of str
        Masks or label maps, (1, X, Y, Z), on the lattice of one of the two volumes.
    anatomical_key : str
        For its mean and standard deviation, where it is there.
    transform_key : str
        Registration that ``RegisterRigidd`` left, where it is there.
    share_key : str
        Contribution of the anatomical image that ``FuseLuminanced`` left, where it is there.
    table_key : str
        Receives the rows as JSON text, which a DataLoader can batch: ``json.loads`` gives a list of
        mappings, with the columns of docs/measure.md.
    names : mapping of int to str, optional
        What labels are called.
    reference : str, optional
        Region to whose mean others are divided.
    mtv_threshold : str
        Such as "41%" or "4".

    Raises
    ------
    UsageError, GeometryError, InputError
        As :func:`medfuse.measure`; ``E_REGION`` for a map with thousands of labels.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 - MONAI's convention

    def __init__(
        self,
        keys: KeysCollection = "functional",
        region_keys: KeysCollection = "regions",
        anatomical_key: str = "anatomical",
        transform_key: str = "registration",
        share_key: str = "share",
        table_key: str = "measurements",
        names: Mapping[int, str] | None = None,
        reference: str | None = None,
        mtv_threshold: str | Threshold = MTV,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.region_keys = ensure_tuple(region_keys)
        self.anatomical_key, self.transform_key = anatomical_key, transform_key
        self.share_key, self.table_key = share_key, table_key
        self.names, self.reference = dict(names or {}), reference
        self.mtv_threshold = mtv_threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            functional = require_volume(d[key], str(key))
            anatomical = d.get(self.anatomical_key)
            stored = d.get(self.transform_key)
            registration = None if stored is None else Registration.from_dict(stored)
            table = measure(
                functional,
                self._regions(d, functional, anatomical),
                anatomical=anatomical,
                registration=registration,
                share=d.get(self.share_key) if anatomical is not None else None,
                reference=self.reference,
                mtv_threshold=self.mtv_threshold,
            )
            d[self.table_key] = json.dumps(table.to_dict())
        return d

    def _regions(self, d: Mapping[Hashable, Any], functional: Any, anatomical: Any) -> list[Region]:
        view = functional.meta.get("field_of_view")
        field = Grid.from_volume(functional)
        if view is not None:
            field = Grid(tuple(view["shape"]), np.asarray(view["affine"], dtype=np.float64))
        onto = None if anatomical is None else Grid.from_volume(anatomical)
        found: list[Region] = []
        for key in self.region_keys:
            image = require_volume(d[key], str(key))
            values = np.rint(image.detach().cpu().numpy()[0]).astype(np.int32)
            grid = Grid.from_volume(image)
            space = space_of(grid, functional=field, anatomical=onto, where=str(key))
            labels = LabelFile(values, grid, self.names)
            several = len(self.region_keys) > 1 or not self.names
            found += regions_of(labels, space, name=str(key) if several else None, where=str(key))
        return found


MeasureRegionsD = MeasureRegionsDict = MeasureRegionsd
