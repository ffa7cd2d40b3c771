"""The script that trains a guide on a researcher's own study."""

from __future__ import annotations

import pytest

from medfuse.methods.registry import get_method


@pytest.mark.slow
def test_it_says_what_training_changed(script, sample_data, tmp_path, capsys):
    folder = sample_data / "study" / "sts001-aligned"
    manifest = tmp_path / "cases.csv"
    rows = [
        "case,anatomical,functional,registration",
        f"one,{folder / 'mr-t1.nii.gz'},{folder / 'ct.nii.gz'},identity",
        f"two,{folder / 'ct.nii.gz'},{folder / 'pet-suv-dicom'},identity",
    ]
    manifest.write_text("\n".join(rows))
    out = tmp_path / "ours.safetensors"
    assert script.main([str(manifest), "-o", str(out), "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "one: " in said
    before, after = said.split("VIF_A")[1].splitlines()[0].split("->")
    assert 0 <= float(before) <= 1.5
    assert 0 <= float(after) <= 1.5
    assert str(out) in said.splitlines()[-1]
    assert get_method(out).info.name == "ours"


def test_a_study_that_is_not_there_is_one_line(script, tmp_path, capsys):
    assert script.main([str(tmp_path / "none"), "--steps", "1"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
