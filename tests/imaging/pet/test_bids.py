"""SUV of BIDS PET: the arithmetic of the sidecar, and refusals in its own words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfuse.case.pipeline import CaseSettings, case_key
from medfuse.errors import SuvUnavailable
from medfuse.imaging.pet.bids import suv_of_sidecar
from medfuse.imaging.pet.body_weight import Weight, find_weight
from medfuse.imaging.reader import describe, read_volume
from tests._helpers import make

SIDECAR: dict[str, Any] = {
    "Modality": "PET", "Units": "Bq/mL", "TracerRadionuclide": "F18", "InjectedRadioactivity": 370,
    "InjectedRadioactivityUnits": "MBq", "InjectionStart": -3600, "ScanStart": 0,
    "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 0,
    "AttenuationCorrection": "CT-based",
}  # fmt: skip
FACTOR = 80 * 1000 / (370e6 * 2 ** (-3600 / 6586.2))


def write_subject(root: Path, weight: str = "80", **changes: object) -> Path:
    (root / "sub-01" / "pet").mkdir(parents=True, exist_ok=True)
    participants = f"participant_id\tage\tweight\nsub-02\t4\t9\nsub-01\t50\t{weight}\n"
    (root / "participants.tsv").write_text(participants)
    path = root / "sub-01" / "pet" / "sub-01_pet.nii.gz"
    make.write_nifti(path)
    path.with_name("sub-01_pet.json").write_text(json.dumps(SIDECAR | changes))
    return path


def test_activity_becomes_suv_by_sidecar_and_weight(tmp_path: Path) -> None:
    path = write_subject(tmp_path)
    volume = read_volume(path, unit="suv")
    assert volume.meta["unit"] == "SUVbw"
    np.testing.assert_allclose(volume.values, make.phantom() * FACTOR, rtol=1e-4)
    steps = " ".join(describe(path)[0]["suv_steps"])
    assert "weight [kg] = 80" in steps
    assert "reference rule = ImageDecayCorrectionTime" in steps


def test_kilobecquerel_are_converted_before(tmp_path: Path) -> None:
    volume = read_volume(write_subject(tmp_path, Units="kBq/mL"))
    np.testing.assert_allclose(volume.values, make.phantom() * 1e3 * FACTOR, rtol=1e-4)


@pytest.mark.parametrize(
    ("weight", "changes", "words"),
    [
        ("n/a", {}, "weight of participants.tsv is missing"),
        ("80000", {}, "weight of participants.tsv is 80000 kg"),
        ("80", {"InjectedRadioactivity": "n/a"}, "InjectedRadioactivity is missing"),
        ("80", {"InjectedRadioactivityUnits": "drops"}, "InjectedRadioactivity has no unit"),
        ("80", {"TracerRadionuclide": "X99"}, "TracerRadionuclide is missing"),
        ("80", {"ImageDecayCorrected": False}, "ImageDecayCorrected is not true"),
        ("80", {"AttenuationCorrection": "none"}, "AttenuationCorrection is missing or none"),
        ("80", {"InjectionStart": 100}, "InjectionStart .* lies 100 s after the reference time"),
        ("80", {"InjectionStart": "soon"}, "InjectionStart is no number of seconds"),
        ("80", {"ImageDecayCorrectionTime": None}, "ImageDecayCorrectionTime is missing"),
    ],
)
def test_what_is_missing_is_named_and_the_unit_stays(
    tmp_path: Path, weight: str, changes: dict[str, object], words: str
) -> None:
    path = write_subject(tmp_path, weight, **changes)
    volume = read_volume(path)
    assert volume.meta["unit"] == "Bq/ml"
    assert any(re.match(f"SUV not available: {words}", note) for note in volume.meta["notes"])
    with pytest.raises(SuvUnavailable, match=words):
        read_volume(path, unit="suv")


def test_a_corrected_weight_makes_a_case_anew(tmp_path: Path) -> None:
    keys, hashes = set(), set()
    make.write_nifti(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    for weight in ("80", "81"):
        path = write_subject(tmp_path, weight)
        keys.add(case_key(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", path, CaseSettings()))
        hashes.add(read_volume(path).meta["source"]["sha256"])
    assert (len(keys), len(hashes)) == (2, 2)


def test_the_real_sidecar_gives_its_suv(shared_data: Path) -> None:
    """573 MBq of C-11 at time zero, to which the image is decay-corrected; 21 kg (as it says)."""
    folder = shared_data / "volumes/bids-pet-layout/pet001/sub-01/ses-01/pet"
    sidecar = json.loads((folder / "sub-01_ses-01_trc-CIMBI36_pet.json").read_text())
    assert find_weight(folder / "x.nii").kg == 21
    scale = suv_of_sidecar(sidecar, Weight(21))
    assert scale.refusal is None
    assert scale.factor == pytest.approx(21e3 / 573e6)
