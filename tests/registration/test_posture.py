"""Patient positions of two series, against each other and against what the images say."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.imaging.reader import describe, load
from medfuse.registration.inputs import prepare
from medfuse.registration.posture import about_posture, about_table, posture_of
from medfuse.registration.table import table_side
from tests._helpers.make import AXIAL, SeriesPlan, write_series

TURN = "half a turn about the front-back axis"


def meta(code: object) -> dict:
    return {"source": {"kind": "dicom", "patient_position": code}}


@pytest.mark.parametrize(
    ("fixed", "moving", "turned", "angle", "verdict", "words"),
    [
        ("HFS", "HFS", "", 0.0, "good", ""),
        ("HFS", "FFS", "", 180.0, "good", ""),
        ("HFP", "HFS", "", 180.0, "look", "prone (HFP)"),
        ("FFDL", "HFS", "", 180.0, "look", "on the left side (FFDL)"),
        ("HFDR", "HFP", "", 90.0, "look", "on the right side (HFDR)"),
        ("HFDL", "HFDR", "", 180.0, "look", "soft parts"),
        ("HFS", "FFS", TURN, 180.0, "look", "feet first, supine (FFS)"),
        ("HFS", "HFS", TURN, 0.0, "look", "probably entered wrongly"),
    ],
)
def test_two_positions(fixed, moving, turned, angle, verdict, words):
    (sign,), remarks = about_posture(meta(fixed), meta(moving), turned)
    assert (sign.name, sign.value, sign.verdict) == ("patient position", angle, verdict)
    assert words in sign.reason
    assert bool(sign.reason) == (verdict == "look")
    assert bool(remarks) == (verdict == "good" and fixed != moving)


@pytest.mark.parametrize("code", [None, "", "HF", "HFX", "hfs", "XFS", "HHS", 7])
def test_what_is_no_position_says_nothing(code):
    assert posture_of(meta(code)) is None
    assert about_posture(meta("HFS"), meta(code), TURN) == ([], [])
    assert posture_of({"source": None}) is None


def test_two_positions_in_one_frame_of_reference_contradict():
    for moving, words in (("FFS", "nobody lies in two ways"), ("HFS", "")):
        facts = [meta("HFS"), meta(moving)]
        for one in facts:
            one["source"]["frame_of_reference"] = "abc"
        (sign,), _ = about_posture(*facts, "")
        assert sign.verdict == ("look" if words else "good")
        assert words in sign.reason
    facts[1]["source"]["frame_of_reference"] = None
    facts[1]["source"]["patient_position"] = "FFS"
    assert about_posture(*facts, "")[0][0].verdict == "good"


def ct(folder: Path, code: str, orientation: tuple[float, ...], *, table: bool = True) -> object:
    """A trunk with arms on a table that lies where row 50 of 60 is."""
    x, y, z = np.meshgrid(np.arange(80), np.arange(60), np.arange(40), indexing="ij")
    values = np.full(x.shape, -1000, np.int16)
    values[((x - 40) / 24) ** 2 + ((y - 28) / 15) ** 2 < 1] = 30
    values[(np.hypot(x - 70, y - 20 - z // 10) < 3) & (z > 8)] = 20  # an arm, not along the axis
    if table:
        values[8:72, 50, :], values[8:72, 51, :] = -550, -900
    code_of = lambda dataset, k: setattr(dataset, "PatientPosition", code)  # noqa: E731
    plan = SeriesPlan(
        values=values, modality="CT", orientation=orientation, spacing=(5.0, 5.0, 5.0), edit=code_of
    )
    write_series(folder, plan)
    return load(folder)


ON_THE_FACE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
ON_THE_LEFT = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("code", "orientation", "side", "angle", "words"),
    [
        ("HFS", AXIAL, "P", 0.0, ""),
        ("HFP", ON_THE_FACE, "A", 0.0, ""),
        ("FFDL", ON_THE_LEFT, "L", 0.0, ""),
        ("HFP", AXIAL, "P", 180.0, "prone (HFP), but by its coordinates the table lies behind"),
        ("HFS", ON_THE_FACE, "A", 180.0, "in front of the patient and not behind the patient"),
        ("HFDL", AXIAL, "P", 90.0, "behind the patient and not to the left of the patient"),
    ],
)
def test_the_table_of_a_ct_lies_below_the_patient(tmp_path, code, orientation, side, angle, words):
    volume = ct(tmp_path, code, orientation)
    ready = prepare(volume, base_mm=2.0)
    assert table_side(ready) == side
    (sign,) = about_table("anatomical", volume.meta, ready)
    assert (sign.value, sign.verdict) == (angle, "look" if angle else "good")
    assert words in sign.reason


def test_without_a_table_nothing_is_said(tmp_path):
    volume = ct(tmp_path, "HFP", AXIAL, table=False)
    assert about_table("anatomical", volume.meta, prepare(volume, base_mm=2.0)) == []


@pytest.mark.parametrize("name", ["STS_002", "STS_004", "STS_047", "STS_006", "STS_042"])
def test_tables_of_patients_lie_behind_them_or_are_not_seen(shared_data, name):
    path = shared_data / "volumes" / "sts-patients" / name / "ct.nii.gz"
    volume = load(path, modality="CT", values_in="HU")
    seen = "P" if name in ("STS_002", "STS_004", "STS_047") else None
    assert table_side(prepare(volume, base_mm=2.0)) == seen


def test_a_sidecar_of_dcm2niix_says_how_the_patient_lay(tmp_path):
    path = tmp_path / "t1.nii.gz"
    values = np.random.default_rng(2).random((8, 9, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    for stated, known in (("HFP", "HFP"), (" ffs ", "FFS"), (7, None), ("HFX", None)):
        (tmp_path / "t1.json").write_text(json.dumps({"Modality": "MR", "PatientPosition": stated}))
        assert posture_of(load(path).meta) == known


def test_a_series_that_says_two_positions_says_none_and_remarks_it(tmp_path):
    edit = lambda dataset, k: setattr(dataset, "PatientPosition", ("HFS", "HFP")[k > 2])  # noqa: E731
    write_series(tmp_path, SeriesPlan(edit=edit))
    volume = load(tmp_path)
    assert posture_of(volume.meta) is None
    (note,) = [n for n in volume.meta["notes"] if "patient positions" in n]
    assert "(HFP, HFS): they are not used" in note
    assert note in str(describe(tmp_path))
