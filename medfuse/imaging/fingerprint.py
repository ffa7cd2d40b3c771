"""Do the values of a volume still mean what its unit says? A fingerprint that is taken on reading.

Means over blocks of voxels survive what moves values in space (cropping, turning, interpolation)
and change with whatever changes the values themselves (scaling, clipping, casts, edits). So a
picture cannot keep a unit that its values have lost.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

#: Key in the meta of a volume: the fingerprint as text, which data loaders can batch.
FINGERPRINT = "fingerprint"
#: Key in the meta of a volume: how its values differ from those that were read.
CHANGED = "changed"
Change = Literal["", "altered", "scaled"]

BLOCKS, LEAST = 16, 4  # blocks along an axis at most; voxels along a block at least
SAMPLES = 1_000_000  # voxels of another grid that are looked at
ROUNDING = 1e-5  # of the range: what storing and copying may change
FEWEST = 8  # blocks on which a judgment rests
COVERED = 0.9  # of a block's volume, to be compared
# What interpolation and smoothing leave of the blocks: sum, slope against what was read, and its
# correlation. Measured with Spacing, Zoom, Rotate and GaussianSmooth on all volumes of the tests.
MEAN_OFF, SLOPES, LEAST_CORRELATION = 0.05, (0.75, 1.05), 0.9
EXACT = 1 - 1e-9  # correlation of a linear change without interpolation
PLATEAU = 64  # voxels with the highest value, below the highest that was read: they were cut off


@dataclass(frozen=True)
class Fingerprint:
    """What was read: ``means`` of blocks (I, J, K) on a grid, and the extremes.

    ``shape`` (3,) and ``affine`` (4, 4) are those of the grid; ``unit`` that of the values;
    ``at_high`` counts the voxels with the value ``high``.
    """

    means: NDArray[np.float32]
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    unit: str
    low: float
    high: float
    at_high: int

    @classmethod
    def of(cls, values: NDArray[Any], affine: NDArray[Any], unit: str) -> Self:
        """Take the fingerprint of (X, Y, Z) values."""
        edges = _edges(values.shape)
        counts = [np.diff([*e, n]) for e, n in zip(edges, values.shape, strict=True)]
        means: NDArray[np.float64] = np.empty([len(e) for e in edges])
        high, low, at_high = -np.inf, np.inf, 0
        for i, (first, count) in enumerate(zip(edges[0], counts[0], strict=True)):
            slab = values[first : first + count]
            plane = slab.sum(axis=0, dtype=np.float64)
            means[i] = np.add.reduceat(np.add.reduceat(plane, edges[1], 0), edges[2], 1)
            low, most = min(low, float(slab.min())), float(slab.max())
            if most >= high:
                at_high = int((slab == most).sum()) + (at_high if most == high else 0)
                high = most
        means /= counts[0][:, None, None] * counts[1][None, :, None] * counts[2][None, None, :]
        affine = np.asarray(affine, dtype=np.float64)
        return cls(means.astype(np.float32), values.shape, affine, unit, low, high, at_high)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Inverse of `to_text`."""
        fields = json.loads(text)
        size = [len(edge) for edge in _edges(fields["shape"])]
        means = np.frombuffer(base64.b64decode(fields.pop("means")), dtype="<f4").reshape(size)
        affine = np.asarray(fields.pop("affine"), dtype=np.float64)
        return cls(means, tuple(fields.pop("shape")), affine, **fields)

    def to_text(self) -> str:
        """One line of JSON."""
        means = base64.b64encode(self.means.astype("<f4").tobytes()).decode()
        fields = {**vars(self), "means": means, "affine": self.affine.tolist()}
        return json.dumps(fields)

    def change(self, values: NDArray[Any], affine: NDArray[Any]) -> Change:
        """How (X, Y, Z) values differ from those that were read, wherever they lie now.

        Returns
        -------
        {"", "altered", "scaled"}
            "altered": some values are others, the unit still holds (smoothed, edited, cut off).
            "scaled": the values are in another unit, or in none.
        """
        affine = np.asarray(affine, dtype=np.float64)
        if values.shape == self.shape and np.allclose(affine, self.affine, atol=1e-4):
            now = Fingerprint.of(values, affine, self.unit)
            if self._equals(now):
                return ""
            pair = now.means.ravel(), self.means.ravel()
            scaled = _is_linear(*pair) or not _still_holds(*pair, self.low)
            return "scaled" if scaled else "altered"
        means, read = self._elsewhere(values, affine)
        if len(read) >= FEWEST and not _still_holds(means, read, self.low):
            return "scaled"
        high = float(values.max())
        cut = high < self.high * (1 - ROUNDING) and int((values == high).sum()) >= PLATEAU
        raised = high - self.high > (SLOPES[1] - 1) * (self.high - self.low)
        return "altered" if cut or raised else ""

    def _equals(self, other: Fingerprint) -> bool:
        near = ROUNDING * max(self.high - self.low, abs(self.high))
        return bool(
            np.allclose(self.means, other.means, rtol=0, atol=near, equal_nan=True)
            and abs(self.low - other.low) <= near
            and abs(self.high - other.high) <= near
        )

    def _elsewhere(
        self, values: NDArray[Any], affine: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means of the blocks that lie within another grid, now and as they were read."""
        stride = max(1, round((values.size / SAMPLES) ** (1 / 3)))
        starts = [min(stride // 2, n - 1) for n in values.shape]
        places = tuple(slice(first, None, stride) for first in starts)
        sample = values[places]
        index = np.stack(np.meshgrid(
            *(np.arange(first, n, stride) for first, n in zip(starts, values.shape, strict=True)),
            indexing="ij",
        )).reshape(3, -1)  # fmt: skip
        read_from_now = np.linalg.inv(self.affine) @ affine
        place = read_from_now[:3, :3] @ index + read_from_now[:3, 3:]
        inside = np.ones(place.shape[1], dtype=bool)
        block = np.zeros(place.shape[1], dtype=np.int64)
        edges = _edges(self.shape)
        for axis, (edge, size) in enumerate(zip(edges, self.shape, strict=True)):
            inside &= (place[axis] > -0.5) & (place[axis] < size - 0.5)
            where = np.searchsorted(edge - 0.5, place[axis], side="right") - 1
            block = block * len(edge) + where.clip(0, len(edge) - 1)
        block, found = block[inside], sample.ravel()[inside].astype(np.float64)
        count = np.bincount(block, minlength=self.means.size)
        total = np.bincount(block, found, minlength=self.means.size)
        voxels = [np.diff([*e, n]) for e, n in zip(edges, self.shape, strict=True)]
        sizes = np.einsum("i,j,k->ijk", *voxels).ravel()
        each = abs(np.linalg.det(read_from_now[:3, :3])) * stride**3
        whole = count * each >= COVERED * sizes
        return total[whole] / count[whole], self.means.ravel()[whole].astype(np.float64)


def with_fingerprint(
    meta: dict[str, Any], values: NDArray[Any], affine: NDArray[Any]
) -> dict[str, Any]:
    """The facts of a volume with the fingerprint of its (X, Y, Z) values."""
    taken = Fingerprint.of(values, affine, str(meta["unit"]))
    return {**meta, FINGERPRINT: taken.to_text()}


def as_read(image: Any) -> Any:
    """A volume whose facts are true of its values; the same object where nothing was changed.

    Where values are no longer those that were read, ``meta["changed"]`` and a note say so. A unit
    that they have lost becomes "a.u.", so that windows are chosen by the values alone. A unit that
    was stated after reading (``meta["unit"]``) is believed.

    Parameters
    ----------
    image : MetaTensor (1, X, Y, Z), or anything else, which comes back as it is
    """
    meta: dict[str, Any] = getattr(image, "meta", None) or {}
    if not isinstance(meta.get(FINGERPRINT), str) or image.ndim != 4 or image.shape[0] != 1:
        return image
    values = image.detach().cpu().numpy()[0]
    true = true_facts(meta, values, np.asarray(image.affine, dtype=np.float64))
    return image if true is meta else _with_meta(image, true)


def true_facts(
    meta: dict[str, Any], values: NDArray[Any], affine: NDArray[np.float64]
) -> dict[str, Any]:
    """The facts of (X, Y, Z) values with a fingerprint as `as_read` gives them; the same if true.

    Where they are not, the fingerprint is left out: it is that of other values.
    """
    taken = Fingerprint.from_text(meta[FINGERPRINT])
    unit = taken.unit
    if meta.get("unit") != unit:
        return _restated(meta, f"the unit {meta.get('unit')} was stated after reading")
    change = taken.change(values, affine)
    if not change:
        return meta
    low, high = float(values.min()), float(values.max())
    then, now = f"{taken.low:.4g} to {taken.high:.4g}", f"{low:.4g} to {high:.4g}"
    told = f"the values were changed after reading (read: {then} {unit}, now: {now})"
    if unit == "a.u.":
        return _restated(meta, told)
    if change == "altered":
        return _restated(meta, told, {CHANGED: change})
    return _restated(
        meta, f"{told}: they are no longer in {unit}", {CHANGED: change, "unit": "a.u."}
    )


def _restated(
    meta: dict[str, Any], note: str, other: dict[str, str] | None = None
) -> dict[str, Any]:
    kept = {key: value for key, value in meta.items() if key != FINGERPRINT}
    return {**kept, "notes": [*(kept.get("notes") or ()), note], **(other or {})}


def _with_meta(image: MetaTensor, meta: dict[str, Any]) -> MetaTensor:
    return type(image)(
        image.as_tensor(),
        affine=image.affine,
        meta={key: value for key, value in meta.items() if key != "affine"},
        applied_operations=image.applied_operations,
    )


def _edges(shape: Any) -> list[NDArray[np.int64]]:
    """First voxel of each block along each axis."""
    return [
        np.linspace(0, n, max(1, min(BLOCKS, n // LEAST)) + 1).astype(np.int64)[:-1] for n in shape
    ]


def _is_linear(now: NDArray[Any], read: NDArray[Any]) -> bool:
    """Whether all blocks changed by one factor and offset, exactly."""
    correlation = _correlation(now, read)
    return correlation is not None and abs(correlation) > EXACT


def _still_holds(now: NDArray[Any], read: NDArray[Any], low: float) -> bool:
    """Whether blocks that were moved, interpolated or smoothed can be those that were read."""
    now, read = now.astype(np.float64), read.astype(np.float64)
    mean = float(read.mean()) - low
    if abs(float(now.mean() - read.mean())) > MEAN_OFF * max(mean, float(read.std())):
        return False
    correlation = _correlation(now, read)
    if correlation is None:  # flat: the mean tells all
        return True
    slope = correlation * float(now.std()) / float(read.std())
    return correlation > LEAST_CORRELATION and SLOPES[0] <= slope <= SLOPES[1]


def _correlation(now: NDArray[Any], read: NDArray[Any]) -> float | None:
    now, read = now.astype(np.float64), read.astype(np.float64)
    if len(read) < FEWEST or not (now.std() > 0 and read.std() > 0):
        return None
    return float(np.corrcoef(now, read)[0, 1])
