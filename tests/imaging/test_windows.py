"""Display windows: pinned clinical defaults, robust percentiles elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from medfuse.errors import MedfuseError
from medfuse.imaging.reader import load
from medfuse.imaging.windows import Window, apply_window, default_window


def _volume(values: np.ndarray, modality: str, unit: str) -> MetaTensor:
    tensor = torch.from_numpy(values.astype(np.float32))[None]
    return MetaTensor(tensor, affine=torch.eye(4), meta={"modality": modality, "unit": unit})


def _body(shape: tuple[int, int, int] = (40, 50, 60)) -> np.ndarray:
    rng = np.random.default_rng(3)
    values = rng.uniform(0, 2, shape)
    values[10:30, 10:40, 10:50] = rng.normal(100, 15, (20, 30, 40))
    return values


def test_pinned_clinical_windows() -> None:
    pet = default_window(_volume(_body() / 50, "PET", "SUVbw"))
    ct = default_window(_volume(_body(), "CT", "HU"))
    assert (pet.low, pet.high, pet.unit) == (0.0, 6.0, "SUVbw")
    assert (ct.low, ct.high, ct.unit) == (-160.0, 240.0, "HU")
    assert "soft tissue" in ct.rule


def test_a_brain_opens_the_suv_window_and_a_hot_bladder_does_not() -> None:
    brain = default_window(_volume(_body() / 12, "PET", "SUVbw"))
    assert brain.high in (10.0, 12.0)
    assert "0 to 6 would saturate" in brain.rule
    values = _body() / 50
    values[12:16, 12:18, 12:20] = 66
    assert default_window(_volume(values, "PET", "SUVbw")).high == 6.0


@pytest.mark.parametrize(
    ("path", "low", "high"),
    [
        ("juspace-nuclear-maps/fdopa-pet.nii.gz", (0, 0), (45, 91)),
        ("mni-templates/spm-spect.nii.gz", (0, 0), (1500, 1929)),
        ("mni-templates/cit168-t1-brain.nii.gz", (5, 30), (200, 230)),
        ("brain-pd-mr-dicom/mr-pd", (10, 100), (700, 1000)),
        ("lu177-spect-dicom/spect", (0, 0), (6, 12)),
        ("sts001-aligned-pet-ct-mr/ct.nii.gz", (-160, -160), (240, 240)),
    ],
)
def test_real_scans_get_a_window_that_shows_them(
    shared_data: Path, path: str, low: tuple[float, float], high: tuple[float, float]
) -> None:
    window = default_window(load(shared_data / "volumes" / path))
    assert low[0] <= window.low <= low[1]
    assert high[0] <= window.high <= high[1]


@pytest.mark.parametrize("unit", ["Bq/ml", "counts", "a.u."])
def test_a_hot_bladder_does_not_set_the_scale(unit: str) -> None:
    values = _body()
    plain = default_window(_volume(values, "PET", unit))
    values[12:16, 12:18, 12:20] = 6000  # 0.8 % of the body, sixty times as hot
    hot = default_window(_volume(values, "PET", unit))
    assert plain.low == hot.low == 0
    assert hot.high <= 8.5 * np.median(values[values > 50])  # the body as in SUV 0 to 8
    assert hot.high < 0.2 * 6000


@pytest.mark.parametrize("modality", ["PET", "SPECT"])
@pytest.mark.parametrize(("ratio", "radius_mm"), [(8.0, 8.0), (2.3, 7.0)])
def test_a_small_hot_lesion_keeps_its_contrast(
    modality: str, ratio: float, radius_mm: float
) -> None:
    places = np.mgrid[:60, :60, :60] * 2.0
    body = ((places - 60) ** 2).sum(0) < 50**2
    lesion = ((places - np.array([60.0, 40, 60])[:, None, None, None]) ** 2).sum(0) < radius_mm**2
    values = np.where(lesion, ratio, body.astype(np.float32)).astype(np.float32)
    volume = _volume(values, modality, "Bq/ml")
    volume.affine = np.diag([2.0, 2.0, 2.0, 1.0])
    window = default_window(volume)
    assert window.high >= 0.9 * ratio
    assert "hottest cubic centimetre" in window.rule


def test_a_real_bladder_of_66_suv_does_not_set_the_scale_in_bq(shared_data: Path) -> None:
    folder = shared_data / "volumes/sts001-pet-mr-dicom/pet-fdg"
    window = default_window(load(folder, values_in="Bq/ml"))
    assert 2 < window.high * 2.42902977e-4 < 8


def test_metal_and_background_do_not_set_the_scale_of_mr() -> None:
    values = _body()
    plain = default_window(_volume(values, "MRI", "a.u."))
    values[20, 20, 10:20] = 1e6
    metal = default_window(_volume(values, "MRI", "a.u."))
    assert metal.high == pytest.approx(plain.high, rel=0.05)
    assert plain.low > 2
    assert 120 < plain.high < 160


def test_an_image_without_contrast_is_refused() -> None:
    for modality in ("PET", "MRI"):
        with pytest.raises(MedfuseError) as caught:
            default_window(_volume(np.zeros((4, 5, 6)), modality, "a.u."))
        assert caught.value.code == "E_CONSTANT"
        assert "window=LOW HIGH" in str(caught.value)


def test_a_huge_volume_is_sampled_evenly_and_always_alike() -> None:
    values = np.tile(_body(), (3, 3, 3))
    first = default_window(_volume(values, "MRI", "a.u."))
    assert first == default_window(_volume(values, "MRI", "a.u."))
    assert first.high == pytest.approx(
        default_window(_volume(_body(), "MRI", "a.u.")).high, rel=0.02
    )


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    low=st.floats(-100, 99),
    width=st.floats(0.5, 1e4),
)
def test_windowed_values_lie_in_0_to_1_and_follow_the_line(
    values: list[float], low: float, width: float
) -> None:
    window = Window(low, low + width, "a.u.", "given")
    array = np.array(values, dtype=np.float32)
    result = apply_window(array, window)
    naive = [min(1.0, max(0.0, (v - low) / width)) for v in values]
    np.testing.assert_allclose(result, naive, atol=2e-3)
    np.testing.assert_allclose(apply_window(torch.from_numpy(array), window), result, atol=1e-6)
