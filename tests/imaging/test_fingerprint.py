"""A unit is that of the values: changes after reading are noticed, changes of place are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    AdjustContrast,
    Affine,
    CastToType,
    CenterSpatialCrop,
    CropForeground,
    Flip,
    GaussianSmooth,
    HistogramNormalize,
    MedianSmooth,
    NormalizeIntensity,
    Orientation,
    Resize,
    Rotate,
    Rotate90,
    ScaleIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    Spacing,
    SpatialPad,
    ThresholdIntensity,
    Zoom,
)

import medfuse
from medfuse.imaging.fingerprint import CHANGED, FINGERPRINT, Fingerprint, as_read

MOVED = {
    "nothing": lambda x: x,
    "clone": lambda x: x.clone(),
    "float64": CastToType(torch.float64),
    "coarser": Spacing((6, 6, 6)),
    "finer, nearest": Spacing((2, 2, 3), mode="nearest"),
    "cubic": Spacing((3, 3, 3), mode=3),
    "axes": Orientation("LPI"),
    "flip": Flip(1),
    "turn": Rotate90(1, (0, 2)),
    "foreground": CropForeground(),
    "crop": CenterSpatialCrop((24, 24, 16)),
    "pad": SpatialPad((90, 90, 90)),
    "zoom": Zoom(1.3, keep_size=False),
    "rotate": Rotate((0.3, 0.2, 0.1), keep_size=True),
    "resize": Resize((32, 32, 24)),
    "affine": Affine(rotate_params=(0.1, 0.2, 0.3), translate_params=(3, 4, 2), image_only=True),
}
SMOOTHED = {"gaussian": GaussianSmooth(1.5), "median": MedianSmooth(1)}
SCALED = {
    "range": ScaleIntensityRange(0, 10, 0, 1, clip=True),
    "to 0..1": ScaleIntensity(),
    "z-score": NormalizeIntensity(),
    "histogram": HistogramNormalize(),
    "percentiles": ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=True),
    "contrast": AdjustContrast(1.5),
    "8 bits": ScaleIntensity(0, 255, dtype=np.uint8),
    "times 1.02": lambda x: x * 1.02,
    "offset": lambda x: x + 0.1 * float(x.max()),
    "root": lambda x: (x - x.min()).sqrt(),
    "to one unit from another": lambda x: x / 1000,
}


def cut(share: float):
    return lambda x: x.clamp(max=float(np.quantile(np.asarray(x), share)))


ALTERED = {"clip": cut(0.999), "edit": lambda x: _edited(x)}


def _edited(x: MetaTensor) -> MetaTensor:
    x = x.clone()
    x[0, 20:24, 20:24, 20:24] *= 3
    return x


@pytest.fixture(scope="module", params=["PET", "CT"])
def scan(request, sample_data) -> MetaTensor:
    folder = sample_data / "study" / "sts001-aligned"
    return medfuse.load(folder / ("pet-suv-dicom" if request.param == "PET" else "ct.nii.gz"))


def change(scan: MetaTensor, moved: MetaTensor) -> str:
    taken = Fingerprint.from_text(scan.meta[FINGERPRINT])
    return taken.change(np.asarray(moved.as_tensor())[0], np.asarray(moved.affine, dtype=float))


@pytest.mark.parametrize("step", MOVED)
def test_what_moves_values_is_no_change(scan, step):
    moved = MOVED[step](scan.clone())
    assert change(scan, moved) == ""
    assert as_read(moved) is moved
    assert moved.meta["unit"] == scan.meta["unit"]


@pytest.mark.parametrize("step", SMOOTHED)
def test_smoothing_keeps_the_unit_and_is_told(scan, step):
    seen = as_read(SMOOTHED[step](scan.clone()))
    assert (seen.meta["unit"], seen.meta[CHANGED]) == (scan.meta["unit"], "altered")


@pytest.mark.parametrize("step", SCALED)
@pytest.mark.parametrize("then", [None, Spacing((5, 5, 5)), Flip(0)], ids=["", "spacing", "flip"])
def test_what_scales_values_costs_the_unit(scan, step, then):
    if then is not None and step == "times 1.02":
        pytest.skip("less than interpolation may change")
    changed = SCALED[step](scan.clone())
    seen = as_read(then(changed) if then else changed)
    assert (seen.meta["unit"], seen.meta[CHANGED]) == ("a.u.", "scaled")
    assert f"no longer in {scan.meta['unit']}" in seen.meta["notes"][-1]
    assert FINGERPRINT not in seen.meta
    assert torch.equal(seen.as_tensor(), (then(changed) if then else changed).as_tensor())


@pytest.mark.parametrize("step", ALTERED)
def test_what_changes_some_values_is_told(scan, step):
    seen = as_read(ALTERED[step](scan.clone()))
    assert seen.meta[CHANGED] == "altered"
    assert "changed after reading" in seen.meta["notes"][-1]


def test_what_is_cut_off_before_interpolation_is_told(scan):
    assert change(scan, Spacing((3, 3, 3))(cut(0.99)(scan.clone()))) in ("altered", "scaled")
    low = ThresholdIntensity(float(scan.max()) / 4, above=False)(scan.clone())
    assert change(scan, low) in ("altered", "scaled")


def test_numpy_arithmetic_in_place_is_noticed(scan):
    copy = scan.clone()
    copy.numpy()[...] *= 0.1
    assert as_read(copy).meta[CHANGED] == "scaled"


def test_an_integer_ct_is_the_same_ct(sample_data):
    ct = medfuse.load(sample_data / "study" / "sts001-aligned" / "ct.nii.gz")
    assert as_read(ct.to(torch.int16)).meta["unit"] == "HU"


def test_a_unit_that_was_stated_after_reading_is_believed(scan):
    mine = scan * 0.5
    mine.meta["unit"] = "counts"
    seen = as_read(mine)
    assert seen.meta["unit"] == "counts"
    assert CHANGED not in seen.meta


def test_scaling_an_mri_loses_nothing(sample_data):
    mri = medfuse.load(sample_data / "study" / "sts001-aligned" / "mr-t1.nii.gz")
    seen = as_read(NormalizeIntensity()(mri))
    assert CHANGED not in seen.meta
    assert seen.meta["unit"] == "a.u."


def test_a_small_volume_is_judged_too():
    values = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    taken = Fingerprint.of(values, np.eye(4), "SUVbw")
    again = Fingerprint.from_text(taken.to_text())
    assert again.change(values, np.eye(4)) == ""
    assert again.change(values / 10, np.eye(4)) == "scaled"


def test_images_without_a_fingerprint_come_back_as_they_are():
    for image in (
        np.zeros((1, 4, 4, 4)),
        torch.zeros(1, 4, 4, 4),
        MetaTensor(torch.zeros(3, 4, 4)),
    ):
        assert as_read(image) is image
