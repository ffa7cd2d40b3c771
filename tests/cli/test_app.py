"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medfuse.cli.app import run


def test_help_answers_without_heavy_imports():
    code = (
        "import sys; from medfuse.cli.app import run; run(['--help']); "
        "heavy = {'torch', 'monai', 'napari', 'SimpleITK', 'nibabel', 'numpy'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("fuse", "batch", "register", "train", "evaluate", "methods", "info"):
        assert name in done.stdout


@pytest.mark.parametrize(
    "command",
    ["fuse", "batch", "register", "train", "evaluate", "methods", "info", "fuse-images", "enhance"],
)
def test_every_command_explains_itself(command, capsys):
    assert run([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_unknown_option_is_a_usage_error(capsys):
    assert run(["fuse", "--no-such-option"]) == 2
    assert "no-such-option" in capsys.readouterr().err


def test_ctrl_c_is_answered_in_a_line_and_with_code_130(tmp_path, capsys, monkeypatch):
    def pressed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medfuse.evaluation.evaluate.evaluate", pressed)
    assert run(["evaluate", "--a", str(tmp_path), "--b", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_missing_input_is_one_line_and_exit_8(tmp_path, capsys):
    code = run(
        ["fuse", str(tmp_path / "no.nii.gz"), str(tmp_path / "pet"), "-o", str(tmp_path / "o")]
    )
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 8
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "no.nii.gz" in lines[0]
    assert "[E_UNREADABLE]" in lines[0]
    assert not (tmp_path / "o").exists()


def test_training_without_pairs_says_which_options(capsys, tmp_path):
    assert run(["train", "-o", str(tmp_path / "w.safetensors")]) == 2
    assert "--data DIR" in capsys.readouterr().err


def test_methods_as_json_names_the_default_and_the_baselines(capsys):
    assert run(["methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"swift", "mean", "max", "anatomical-luma", "saliency"} <= set(rows)
    assert rows["swift"]["weights_sha256"]
    assert rows["mean"]["parameters"] == 0


@pytest.fixture(scope="module")
def fused(tmp_path_factory) -> tuple[Path, dict]:
    """One sample case, fused by the command line in a process of its own."""
    study = Path(__file__).resolve().parents[2] / "sample_data" / "study"
    out = tmp_path_factory.mktemp("cli") / "brain"
    from medfuse.study import discover

    case = next(c for c in discover(study).cases if "simulated" in c.name)
    done = subprocess.run(
        [sys.executable, "-m", "medfuse.cli", "fuse", str(case.anatomical), str(case.functional),
         "-o", str(out), "--preset", "fast", "--json", "--png"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_fuse_writes_the_whole_result_folder(fused):
    out, answer = fused
    names = {p.name for p in out.iterdir()}
    assert names >= {
        "fused_rgb.nii.gz", "luminance.nii.gz", "weight_map.nii.gz", "anatomical_share.nii.gz",
        "functional_on_anatomical.nii.gz", "transform.tfm", "transform.json", "audit.json",
        "provenance.json", "report.html", "figures", "manifest.json", "png",
    }  # fmt: skip
    assert answer["status"] == "done"
    assert answer["verdict"] in ("pass", "look")
    linearity = next(c for c in answer["audit"]["checks"] if c["id"] == "linearity")
    assert linearity["value"] < 1e-5


def test_max_memory_refuses_with_both_figures_and_writes_nothing(tmp_path, capsys):
    brain = Path(__file__).resolve().parents[2] / "sample_data" / "study" / "simulated-brain"
    pair = [str(brain / name) for name in ("t1.nii.gz", "simulated-pet.nii.gz")]
    assert run(["fuse", *pair, "-o", str(tmp_path / "o"), "--max-memory", "0.5"]) == 8
    said = " ".join(capsys.readouterr().err.split())
    assert "with the rest on disk (--max-memory); 0.5 GB may be used" in said
    assert "[E_TOO_LARGE]" in said
    assert list(tmp_path.iterdir()) == []


def test_dry_run_writes_nothing_and_tells_what_the_inputs_are(fused, tmp_path, capsys):
    study = Path(__file__).resolve().parents[2] / "sample_data" / "study"
    out = tmp_path / "out"
    assert run(["batch", "--study", str(study), "-o", str(out), "--dry-run"]) == 0
    assert "simulated" in capsys.readouterr().out
    assert not out.exists()


def test_a_cluster_without_dask_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "medfuse.batch.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    study = Path(__file__).resolve().parents[2] / "sample_data" / "study"
    where = ["--study", str(study), "-o", str(tmp_path / "out")]
    assert run(["batch", *where, "--cluster", "local"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Dask is not installed. Install it with: pip install 'medfuse[cluster]'" in said
    assert not (tmp_path / "out").exists()


def test_info_as_json_describes_a_series(capsys):
    study = Path(__file__).resolve().parents[2] / "sample_data" / "study"
    from medfuse.study import discover

    case = next(c for c in discover(study).cases if c.name == "sts001-pet-mr")
    assert run(["info", str(case.functional), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["modality"] == "PET"
    assert found["unit"] == "SUVbw"


def test_registration_starts_from_landmarks_and_tells_their_residual(sample_data, tmp_path, capsys):
    study = sample_data / "study" / "simulated-brain"
    pair = [str(study / "t1.nii.gz"), str(study / "simulated-pet.nii.gz")]
    points = tmp_path / "points.csv"
    points.write_text("0,0,0,4,0,0\n50,0,0,54,0,0\n0,60,9,4,60,9\n")
    given = ["-o", str(tmp_path / "t.tfm"), "--registration", "identity", "--json"]
    run(["register", *pair, *given, "--landmarks", str(points)])
    found = json.loads(capsys.readouterr().out)
    assert [row[3] for row in found["matrix"]] == pytest.approx([4, 0, 0, 1])
    assert "3 landmark pairs, residual 0.0 mm RMS" in found["reasons"][-1]
    assert run(["register", *pair, *given, "--landmarks", "a", "--initial", "b"]) == 2
    assert "both --initial and --landmarks" in capsys.readouterr().err
