"""What the headers of a PET must agree on."""

from __future__ import annotations

from pathlib import Path

import pytest

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.series import read_dicom
from tests._helpers import make
from tests._helpers.series import assert_says, set_tags


def test_units_that_differ_between_slices_are_refused(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality="PT"))
    set_tags(2, Units="GML")(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert_says(caught.value, "E_UNIT_MIXED", ["units", "PET series 4"])
