"""Files that hold many planes: enhanced multi-frame images and SPECT."""

from __future__ import annotations

from pathlib import Path

import pytest

from medfuse.imaging.dicom.series import read_dicom
from tests._helpers import make
from tests._helpers.series import value_at


def test_real_enhanced_ct_loads_with_frame_positions(shared_data: Path) -> None:
    path = shared_data / "volumes/awkward-dicom/enhanced-multiframe/eCT_Supplemental.dcm"
    volume = read_dicom(path)
    assert volume.values.shape == (512, 512, 2)
    assert (volume.meta["modality"], volume.meta["unit"]) == ("CT", "a.u.")
    # A map of cerebral blood flow, RescaleType US: never Hounsfield units.
    assert volume.meta["spacing"][2] == pytest.approx(10.0)


def test_enhanced_multi_frame_gives_the_volume_of_the_classic_series(tmp_path: Path) -> None:
    plan = make.SeriesPlan(orientation=make.oblique(), modality="CT")
    path = tmp_path / "enhanced.dcm"
    make.write_enhanced(path, plan, order=[3, 0, 5, 1, 4, 2])
    volume = read_dicom(path)
    for i, j, k in [(0, 0, 0), (10, 7, 5), (2, 6, 3)]:
        expected = plan.values[i, j, k] * 2 - 1000
        assert value_at(volume, plan.position(i, j, k)) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_nm_spect_is_stacked_by_the_sign_of_its_slice_spacing(tmp_path: Path, sign: int) -> None:
    plan = make.SeriesPlan(orientation=make.oblique())
    make.write_nm(tmp_path / "spect.dcm", plan, step_sign=sign)
    volume = read_dicom(tmp_path)
    assert (volume.meta["modality"], volume.meta["unit"]) == ("SPECT", "counts")
    for i, j, k in [(0, 0, 0), (10, 7, 5), (2, 6, 3)]:
        assert value_at(volume, plan.position(i, j, k)) == plan.values[i, j, k]
