"""One case, from files to a result folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

import medfuse
from medfuse.case.pipeline import CaseSettings, case_key, is_complete, read_matrix, run_case
from medfuse.errors import InputError, MedfuseError, RegistrationError, UsageError

FAST = CaseSettings(preset="fast")


@pytest.fixture(scope="module")
def brain(sample_data: Path) -> tuple[Path, Path]:
    folder = sample_data / "study" / "simulated-brain"
    return folder / "t1.nii.gz", folder / "simulated-pet.nii.gz"


@pytest.fixture(scope="module")
def fused(brain, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pipeline") / "simulated-brain"
    run_case(*brain, out, FAST, case="simulated-brain", command="medfuse fuse /home/x/t1.nii.gz")
    return out


@pytest.fixture(scope="module")
def sarcoma_pet(sample_data: Path) -> Path:
    return sample_data / "study" / "sts001" / "pet-fdg"


def read(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj)


@pytest.mark.parametrize(
    "wrong", [{"colormap": "jet"}, {"window": (10, 0)}, {"anatomical_window": (5, 5)}]
)
def test_settings_that_no_image_can_use_are_refused_before_reading(brain, tmp_path, wrong):
    told: list[str] = []
    settings = FAST.model_copy(update=wrong)
    with pytest.raises(UsageError, match=next(iter(wrong))) as caught:
        run_case(*brain, tmp_path / "out", settings, case="x", progress=lambda _, t: told.append(t))
    assert caught.value.code == "E_SETTINGS"
    assert told == []


def test_every_output_lies_on_the_anatomical_grid(fused, brain):
    anatomical = nib.load(brain[0])
    names = ("luminance", "weight_map", "anatomical_share", "gamut_change")
    for name in (*names, "functional_on_anatomical"):
        image = nib.load(fused / f"{name}.nii.gz")
        assert image.shape == anatomical.shape
        assert np.allclose(image.affine, anatomical.affine, atol=1e-4)
    rgb = nib.load(fused / "fused_rgb.nii.gz")
    assert rgb.get_data_dtype().names == ("R", "G", "B")
    assert rgb.shape == anatomical.shape


def test_known_misalignment_of_the_simulated_brain_is_found(fused, sample_data):
    truth = json.loads((sample_data / "truth" / "simulated-brain.json").read_text())
    expected = np.array(truth["moving_from_fixed_ras_mm"])
    found = np.array(json.loads((fused / "transform.json").read_text())["matrix"])
    corners = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-80, 60) for z in (-40, 60)])
    error = np.linalg.norm(((found - expected) @ corners.T)[:3], axis=0)
    assert error.max() < 3


def test_stored_luminance_follows_from_stored_sources_and_weights(fused, brain):
    provenance = json.loads((fused / "provenance.json").read_text())
    window = next(s for s in provenance["steps"] if s["name"] == "window")["parameters"]
    mri = medfuse.load(brain[0])
    pet = medfuse.load(brain[1])
    matrix = read_matrix(fused / "transform.json")
    reg = medfuse.register(fixed=mri, moving=pet, method="identity", initial=matrix)
    res = medfuse.fuse(
        functional=reg.resample(pet),
        anatomical=mri,
        weights=read(fused, "weight_map")[None],
        window=(window["functional"]["low"], window["functional"]["high"]),
    )
    assert np.array_equal(np.asarray(res.luminance)[0], read(fused, "luminance"))


def test_two_runs_write_identical_bytes_but_for_times(fused, brain, tmp_path):
    again = tmp_path / "simulated-brain"
    run_case(*brain, again, FAST, case="simulated-brain", command="medfuse fuse /home/x/t1.nii.gz")
    timed = {"provenance.json", "provenance.prov.json", "manifest.json", "report.html"}
    for path in fused.rglob("*"):
        name = path.relative_to(fused)
        if path.is_file() and str(name) not in timed:
            assert path.read_bytes() == (again / name).read_bytes(), name
    first, second = (json.loads((f / "provenance.json").read_text()) for f in (fused, again))
    for record in (first, second):
        for key in ("created", "timing"):
            record.pop(key)
    assert first == second


def test_result_names_no_path_of_the_machine(fused):
    for path in fused.rglob("*"):
        if path.suffix in (".json", ".html", ".tfm"):
            text = path.read_text()
            assert "/home/x" not in text
            assert str(Path(__file__).resolve().parents[2]) not in text


def test_finished_case_is_recognised_until_an_input_or_a_setting_changes(fused, brain, tmp_path):
    key = case_key(*brain, FAST)
    assert is_complete(fused, key)
    assert not is_complete(fused, case_key(*brain, CaseSettings(method="mean")))
    other = tmp_path / "pet.nii.gz"
    other.write_bytes(brain[1].read_bytes() + b"\0")
    assert case_key(brain[0], other, FAST) != key
    renamed = tmp_path / "renamed.nii.gz"
    shutil.copy(brain[1], renamed)
    assert case_key(brain[0], renamed, FAST) != key  # its sidecar, which states the unit, is gone
    shutil.copy(brain[1].with_name("simulated-pet.json"), tmp_path / "renamed.json")
    assert case_key(brain[0], renamed, FAST) == key


def test_pet_without_weight_is_fused_in_becquerel_and_says_so(sarcoma_pet, sample_data, tmp_path):
    pet = tmp_path / "pet"
    pet.mkdir()
    for file in sarcoma_pet.glob("*.dcm"):
        header = pydicom.dcmread(file)
        header.PatientWeight = None
        header.save_as(pet / file.name)
    mri = sample_data / "study" / "sts001" / "mr-t2"
    truth = json.loads((sample_data / "truth" / "sts001-pet-mr.json").read_text())
    start = tmp_path / "start.txt"
    np.savetxt(start, np.array(truth["moving_from_fixed_ras_mm"]))
    settings = CaseSettings(
        registration="identity", initial=str(start), method="mean", accept_suspect=True
    )
    result = run_case(mri, pet, tmp_path / "out", settings, case="no-weight")
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    unit = next(check for check in audit["checks"] if check["id"] == "unit")
    assert unit["unit"] == "Bq/ml"
    assert unit["verdict"] == "look"
    assert "PatientWeight" in unit["text"]
    assert any("PatientWeight" in note for note in result.notes)
    assert "PatientWeight" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(MedfuseError, match="PatientWeight"):
        run_case(
            mri, pet, tmp_path / "suv", settings.model_copy(update={"unit": "suv"}), case="suv"
        )
    assert not (tmp_path / "suv").exists()


def test_suspect_registration_is_refused_and_leaves_nothing(brain, sample_data, tmp_path):
    wrong = tmp_path / "wrong.txt"
    matrix = np.eye(4)
    matrix[:3, 3] = 70, 60, 0
    np.savetxt(wrong, matrix)
    settings = CaseSettings(registration="identity", initial=str(wrong))
    with pytest.raises(RegistrationError, match=r"accept_suspect=True.*E_REGISTRATION"):
        run_case(*brain, tmp_path / "out", settings, case="wrong")
    assert list(tmp_path.iterdir()) == [wrong]


def test_accepted_suspect_registration_fails_the_audit_loudly(brain, tmp_path):
    wrong = tmp_path / "wrong.txt"
    matrix = np.eye(4)
    matrix[:3, 3] = 70, 60, 0
    np.savetxt(wrong, matrix)
    settings = CaseSettings(
        registration="identity", initial=str(wrong), accept_suspect=True, method="mean"
    )
    result = run_case(*brain, tmp_path / "out", settings, case="wrong")
    assert result.verdict == "fail"
    assert "suspect" in (tmp_path / "out" / "report.html").read_text().lower()


def test_two_patients_are_not_fused(sarcoma_pet, sample_data, tmp_path):
    pet = tmp_path / "pet"
    pet.mkdir()
    for file in sarcoma_pet.glob("*.dcm"):
        header = pydicom.dcmread(file)
        header.PatientID = "somebody else"
        header.save_as(pet / file.name)
    mri = sample_data / "study" / "sts001" / "mr-t2"
    with pytest.raises(MedfuseError, match="E_MIXED_PATIENT") as caught:
        run_case(mri, pet, tmp_path / "out", FAST, case="mixed")
    assert "somebody else" not in str(caught.value)


def test_cancelling_leaves_nothing_behind(brain, tmp_path):
    def stop(fraction: float, text: str) -> None:
        if text == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_case(*brain, tmp_path / "out", FAST, case="stopped", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_bad_settings_are_usage_errors_in_one_line(brain, tmp_path):
    for settings in (CaseSettings(colormap="jet2000"), CaseSettings(window=(5, 1))):
        with pytest.raises(UsageError, match="E_SETTINGS") as caught:
            run_case(*brain, tmp_path / "out", settings, case="bad")
        assert "\n" not in str(caught.value)


def test_a_case_that_memory_cannot_hold_is_refused_before_it_is_registered(brain, tmp_path):
    cause = (
        r"need about 1\.\d GB of memory, or 1\.\d GB with the rest on disk \(max_memory\); "
        r"0\.5 GB may be used.*max_memory=GB.*\[E_TOO_LARGE\]"
    )
    with pytest.raises(InputError, match=cause):
        run_case(*brain, tmp_path / "out", FAST, case="x", max_memory_gb=0.5)
    assert not (tmp_path / "out").exists()


SMALL_GB = 1.1  # less than the sample brain needs by estimate, more than with its volumes on disk
CHOICES = {
    "volume": {"registration": "identity", "accept_suspect": True},
    "slices": {"mode": "slices", "method": "max", "bounded": True, "png": True, "preset": "fast"},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_volumes_on_disk_give_the_same_files(brain, tmp_path, choice):
    settings, mapped = CaseSettings(**CHOICES[choice]), []

    def look(fraction: float, text: str) -> None:
        if text == "figures":
            mapped.append(_mapped_from(tmp_path))

    for name, limit in (("memory", None), ("disk", SMALL_GB)):
        run_case(*brain, tmp_path / name, settings, case="x", max_memory_gb=limit, progress=look)
    found, expected = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*")}
        for folder in (tmp_path / "disk", tmp_path / "memory")
    )
    timed = {Path("provenance.json"), Path("provenance.prov.json"), Path("manifest.json")}
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name] and name not in timed] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "memory"]
    if sys.platform == "linux":
        assert mapped[0] == 0
        assert mapped[1] > 10


def _mapped_from(folder: Path) -> int:
    """Files without a name that lie in a folder and are mapped."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return sum(str(folder) in line and "(deleted)" in line for line in lines)


def test_cancelling_with_volumes_on_disk_leaves_nothing_behind(brain, tmp_path):
    def stop(fraction: float, text: str) -> None:
        if text == "audit":
            raise KeyboardInterrupt

    settings = CaseSettings(registration="identity", accept_suspect=True, method="mean")
    with pytest.raises(KeyboardInterrupt):
        run_case(
            *brain, tmp_path / "a" / "out", settings, case="x", max_memory_gb=SMALL_GB,
            progress=stop,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
