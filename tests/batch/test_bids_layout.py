"""Results as a BIDS derivative data set, from a real pair cut small."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medfuse.batch.bids_layout import CASES, Derivative, run_bids_batch
from medfuse.cli.app import run
from medfuse.errors import OutputError, UsageError
from medfuse.results.folder import file_sha256, is_complete
from medfuse.settings import CaseSettings
from medfuse.study import discover
from medfuse.verification.verify import verify_study

SETTINGS = CaseSettings(method="mean", registration="identity", mode="slices", rgb="4d")
SESSION = "sub-01/ses-a/{}/sub-01_ses-a_trc-FDG_{}"
FUSED = SESSION.format("pet", "space-T1w_desc-fused_pet.nii.gz")
#: BIDS 1.10, derivatives, "Preprocessed or cleaned data", for PET.
BIDS_NAME = re.compile(
    r"sub-[a-zA-Z0-9]+/(ses-[a-zA-Z0-9]+/)?pet/sub-[a-zA-Z0-9]+(_ses-[a-zA-Z0-9]+)?"
    r"(_task-[a-zA-Z0-9]+)?(_trc-[a-zA-Z0-9]+)?(_rec-[a-zA-Z0-9]+)?(_run-[0-9]+)?"
    r"(_space-[a-zA-Z0-9]+)?(_desc-[a-zA-Z0-9]+)?_pet\.(nii\.gz|json)"
)


def make_data_set(root: Path, source: Path) -> Path:
    """Two subjects, one with a session; facts of the tracer are inherited from the top."""
    images = {"anat/{}_T1w": "t1.nii.gz", "pet/{}_trc-FDG_pet": "simulated-pet.nii.gz"}
    for place, subject in (("sub-01/ses-a", "sub-01_ses-a"), ("sub-02", "sub-02")):
        for name, image in images.items():
            path = root / place / f"{name.format(subject)}.nii.gz"
            path.parent.mkdir(parents=True)
            volume: Any = nib.load(source / image)
            at = tuple(n // 2 - 12 for n in volume.shape[:3])
            part = tuple(slice(a, a + n) for a, n in zip(at, (24, 26, 14), strict=True))
            nib.save(volume.slicer[part], path)
            sidecar = source / image.replace(".nii.gz", ".json")
            if sidecar.exists():
                shutil.copy(sidecar, path.with_name(path.name.replace(".nii.gz", ".json")))
    (root / "trc-FDG_pet.json").write_text('{"Manufacturer": "Nobody", "InstitutionName": "Own"}')
    (root / "dataset_description.json").write_text('{"Name": "two", "BIDSVersion": "1.10.0"}')
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sample_data: Path) -> Path:
    """A raw data set with its derivative."""
    root = tmp_path_factory.mktemp("bids") / "raw"
    raw = make_data_set(root, sample_data / "study/simulated-brain")
    summary = run_bids_batch(discover(raw), raw / "derivatives/medfuse", SETTINGS, workers=2)
    assert (summary.exit_code, summary.count("done")) == (0, 2)
    return raw / "derivatives/medfuse"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(made.parents[1], tmp_path / "raw")
    return tmp_path / "raw/derivatives/medfuse"


def derivative_of(out: Path) -> Derivative:
    return Derivative.begin(out, out.parents[1])


def content(out: Path) -> dict[str, str]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): file_sha256(path) for path in files}


def test_the_bids_validator_finds_no_error(made: Path) -> None:
    pytest.importorskip("bids_validator_deno", reason="pip install bids-validator-deno")
    program = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run(
        [program, "--format", "json", made],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DENO_NO_UPDATE_CHECK": "1"},
    )
    report = json.loads(found.stdout)
    errors = [issue for issue in report["issues"]["issues"] if issue["severity"] == "error"]
    assert errors == []
    assert sorted(report["summary"]["subjects"]) == ["01", "02"]


def test_images_have_names_that_bids_allows_and_the_rest_is_ignored(made: Path) -> None:
    names = [name for name in content(made) if name.startswith("sub-")]
    ignored = (made / ".bidsignore").read_text().split()
    named = [name for name in names if not set(Path(name).parts) & set(ignored)]
    assert len(named) == 2 * 2 * 2  # subjects, images, with a sidecar each
    assert [name for name in named if not BIDS_NAME.fullmatch(name)] == []
    assert SESSION.format("fusion", "space-T1w_weights.nii.gz") in names
    assert SESSION.format("fusion", "from-pet_to-T1w_mode-image_xfm.tfm") in names


def test_every_image_is_the_file_of_its_case(made: Path) -> None:
    case = made / CASES / "sub-01_ses-a"
    pairs = {
        "pet/space-T1w_desc-fused_pet": "fused_rgb",
        "pet/space-T1w_desc-registered_pet": "functional_on_anatomical",
        "fusion/space-T1w_luminance": "luminance",
        "fusion/space-T1w_share": "anatomical_share",
    }
    for place, own in pairs.items():
        path = made / SESSION.format(*place.split("/"))
        shown = path.with_name(f"{path.name}.nii.gz")
        assert file_sha256(shown) == file_sha256(case / f"{own}.nii.gz"), own


def test_the_sidecar_says_where_the_colors_lie(made: Path) -> None:
    path = made / SESSION.format("pet", "space-T1w_desc-fused_pet.json")
    assert "4th axis: red, green, blue" in json.loads(path.read_text())["Description"]


def test_sidecars_say_what_of_and_where_to_without_the_institution(made: Path) -> None:
    path = made / SESSION.format("pet", "space-T1w_desc-registered_pet.json")
    sidecar = json.loads(path.read_text())
    sources = [
        "bids:raw:sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "bids:raw:sub-01/ses-a/pet/sub-01_ses-a_trc-FDG_pet.nii.gz",
    ]
    assert sidecar["Sources"] == sources
    assert sidecar["SpatialReference"] == sources[0]
    assert sidecar["GeneratedBy"][0]["Name"] == "medfuse"
    assert sidecar["Units"] == "g/mL"
    assert sidecar["SkullStripped"] is False
    assert sidecar["Manufacturer"] == "Nobody"  # inherited
    assert "InstitutionName" not in sidecar
    for path in made.glob("sub-*/**/*.json"):
        assert {"GeneratedBy", "Sources", "SpatialReference"} <= json.loads(path.read_text()).keys()


def test_the_links_of_the_data_set_lead_to_the_sources(made: Path) -> None:
    description = json.loads((made / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    raw = made / description["DatasetLinks"]["raw"]
    sidecar = json.loads((made / FUSED.replace(".nii.gz", ".json")).read_text())
    assert all((raw / uri.removeprefix("bids:raw:")).is_file() for uri in sidecar["Sources"])


def test_a_way_that_would_name_folders_elsewhere_is_not_written(made: Path, tmp_path: Path) -> None:
    raw = made.parents[1]
    for keep_names, is_there in ((False, False), (True, True)):
        Derivative.begin(tmp_path / "far", raw, keep_names=keep_names)
        description = json.loads((tmp_path / "far/dataset_description.json").read_text())
        assert ("DatasetLinks" in description) is is_there


def test_results_verify_and_a_second_run_skips_them(out: Path) -> None:
    found = verify_study(out / CASES, inputs=out.parents[1])
    assert all(finding.ok for findings in found.values() for finding in findings)
    (out / FUSED).unlink()  # a run that was killed before it came to this file
    before = content(out)
    summary = run_bids_batch(discover(out.parents[1]), out, SETTINGS, workers=1)
    assert (summary.exit_code, summary.count("skipped")) == (0, 2)
    after = {name: sha for name, sha in content(out).items() if name not in before}
    assert list(after) == [FUSED]


@pytest.mark.parametrize("name", [FUSED, FUSED.replace(".nii.gz", ".json")])
def test_a_file_of_somebody_else_stays_and_is_named(out: Path, name: str) -> None:
    (out / name).unlink()
    (out / name).write_text("mine")
    summary = run_bids_batch(discover(out.parents[1]), out, SETTINGS, workers=1)
    assert summary.exit_code == 4
    assert [Path(name).name in note and "E_WRITE" in note for note in summary.notes] == [True]
    assert (out / name).read_text() == "mine"
    assert is_complete(out / CASES / "sub-01_ses-a")


def test_a_new_result_replaces_the_old_one_and_what_it_has_no_longer(out: Path) -> None:
    case, place = out / CASES / "sub-01_ses-a", derivative_of(out).place
    for name in ("luminance.nii.gz", "fused_rgb.nii.gz"):
        os.replace(case / name, case / f"{name}.old")
    shutil.copy(case / "weight_map.nii.gz", case / "fused_rgb.nii.gz")
    place("sub-01_ses-a")
    assert file_sha256(out / FUSED) == file_sha256(case / "weight_map.nii.gz")
    gone = SESSION.format("fusion", "space-T1w_luminance")
    assert not list(out.glob(f"{gone}*"))
    os.replace(case / "luminance.nii.gz.old", case / "luminance.nii.gz")
    place("sub-01_ses-a")
    kept = out / f"{gone}.nii.gz"
    kept.unlink()
    kept.write_text("mine")
    (case / "luminance.nii.gz").unlink()
    place("sub-01_ses-a")
    assert kept.read_text() == "mine"


def test_a_disk_without_links_gets_copies(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    expected = file_sha256(out / FUSED)
    (out / FUSED).unlink()
    derivative_of(out).place("sub-01_ses-a")
    assert file_sha256(out / FUSED) == expected
    assert (out / FUSED).stat().st_nlink == 1


def test_folders_with_something_else_are_refused_untouched(made: Path, tmp_path: Path) -> None:
    raw = made.parents[1]
    (tmp_path / "foreign").mkdir()
    description = tmp_path / "foreign/dataset_description.json"
    description.write_text('{"Name": "own", "BIDSVersion": "1.8.0"}')
    with pytest.raises(OutputError, match="medfuse did not make"):
        Derivative.begin(description.parent, raw)
    assert json.loads(description.read_text())["Name"] == "own"
    with pytest.raises(OutputError, match="not in BIDS layout"):
        Derivative.begin(made / CASES, raw)


def test_images_outside_of_bids_are_refused_before_anything_is_written(
    made: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain/s1"
    plain.mkdir(parents=True)
    for path, name in (("anat/sub-02_T1w", "t1"), ("pet/sub-02_trc-FDG_pet", "pet")):
        shutil.copy(made.parents[1] / f"sub-02/{path}.nii.gz", plain / f"{name}.nii.gz")
    study = discover(tmp_path / "plain")
    assert len(study.cases) == 1
    with pytest.raises(UsageError, match="BIDS data set"):
        run_bids_batch(study, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()


def test_one_pair_is_fused_into_a_data_set_by_hand(made: Path, tmp_path: Path) -> None:
    raw, out = made.parents[1], tmp_path / "out"
    images = [raw / SESSION.format("pet", "pet.nii.gz")]
    images.insert(0, raw / "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz")
    options = ("--layout", "bids", "--method", "mean", "--registration", "identity")
    assert run(["fuse", *map(str, images), "-o", str(out), *options, "--mode", "slices"]) == 0
    assert (out / CASES / "sub-01_ses-a_trc-FDG/report.html").is_file()
    fused = np.asarray(nib.load(out / FUSED).dataobj)  # type: ignore[attr-defined]
    assert fused.shape == (24, 26, 14)


def test_a_derivative_beside_the_raw_data_set_is_no_input(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made.parents[1], tmp_path / "raw", ignore=shutil.ignore_patterns("derivatives"))
    shutil.copytree(made, tmp_path / "medfuse")
    study = discover(tmp_path)
    assert {case.functional.relative_to(tmp_path).parts[0] for case in study.cases} == {"raw"}
    assert all(skipped.path.name == "medfuse" for skipped in study.skipped)
