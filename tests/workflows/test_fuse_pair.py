"""The script that a researcher copies."""

from __future__ import annotations

from medfuse.results.folder import is_complete


def test_it_fuses_a_case_of_the_sample_study(script, sample_data, tmp_path, capsys):
    folder = sample_data / "study" / "sts001-aligned"
    pair = [str(folder / "ct.nii.gz"), str(folder / "pet-suv-dicom")]
    assert script.main([*pair, "-o", str(tmp_path), "--registration", "identity"]) == 0
    said = capsys.readouterr().out
    assert is_complete(tmp_path / "case", rehash=True)
    assert "Exact two-source decomposition" in said
    assert "audit: pass" in said or "audit: look" in said


def test_a_refused_scan_is_one_line_and_no_folder(script, tmp_path, capsys):
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    arguments = [str(tmp_path / "empty.nii.gz"), str(tmp_path), "-o", str(tmp_path / "out")]
    assert script.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "[E_EMPTY_FILE]" in said
    assert not (tmp_path / "out").exists()


def test_its_default_pair_is_in_the_sample_study(script):
    options = script._parse([])
    assert options.anatomical.exists()
    assert options.functional.exists()
