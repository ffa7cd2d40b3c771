"""medfuse as a BIDS App."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from medfuse.cli import bids_app


@pytest.fixture
def data_set(tmp_path: Path, sample_data: Path) -> Path:
    """Two subjects on one pair of images."""
    source = sample_data / "study/simulated-brain"
    root = tmp_path / "bids"
    for subject in ("01", "02"):
        for folder, name, image in (
            ("anat", "T1w", "t1.nii.gz"),
            ("pet", "pet", "simulated-pet.nii.gz"),
        ):
            place = root / f"sub-{subject}" / folder
            place.mkdir(parents=True)
            shutil.copy(source / image, place / f"sub-{subject}_{name}.nii.gz")
            sidecar = source / image.replace(".nii.gz", ".json")
            if sidecar.exists():
                shutil.copy(sidecar, place / f"sub-{subject}_{name}.json")
    (root / "dataset_description.json").write_text('{"Name": "two", "BIDSVersion": "1.9.0"}')
    return root


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["medfuse-bids", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        bids_app.run()
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_one_participant_is_fused_and_the_group_level_rewrites_the_report(
    data_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = data_set / "derivatives/medfuse"
    options = ("--registration", "rigid", "--preset", "fast", "--method", "mean")
    code = run(monkeypatch, data_set, out, "participant", "--participant_label", "02", *options)
    assert code == 0
    rows = list(csv.DictReader((out / "cases/summary.csv").open()))
    assert [(row["case"], row["status"]) for row in rows] == [("sub-02", "done")]
    assert (out / "sub-02/pet/sub-02_space-T1w_desc-fused_pet.nii.gz").is_file()
    assert (out / "dataset_description.json").is_file()
    (out / "cases/study.html").unlink()
    assert run(monkeypatch, data_set, out, "group") == 0
    assert "sub-02" in (out / "cases/study.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{bids}", "{out}", "participant", "--participant-label", "07"), "no case of 2"),
        (("{out}", "{bids}", "participant"), "no such folder"),
        (("{bids}/sub-01/anat", "{out}", "participant"), "is no BIDS data set"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    data_set: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"bids": data_set, "out": data_set.parent / "out"}
    code = run(monkeypatch, *(text.format(**places) for text in arguments))
    error = capsys.readouterr().err
    assert code != 0
    assert words in error
    assert error.count("\n") == 1
    assert not (data_set.parent / "out").exists()


def test_labels_are_spread_as_bids_apps_write_them() -> None:
    given = ["in", "out", "participant", "--participant_label", "01", "02", "--method", "mean"]
    assert bids_app._one_each(given) == [
        *("in", "out", "participant", "--participant_label", "01"),
        *("--participant_label", "02", "--method", "mean"),
    ]
