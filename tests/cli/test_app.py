"""The commands as a person types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer.main
from PIL import Image

from medfuse.cli.app import app, run


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
    [
        "fuse",
        "batch",
        "register",
        "measure",
        "train",
        "evaluate",
        "methods",
        "info",
        "fuse-images",
        "enhance",
    ],
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


def test_dry_run_of_a_pair_refuses_what_the_run_would_refuse(tmp_path, capsys):
    brain = Path(__file__).resolve().parents[2] / "sample_data" / "study" / "simulated-brain"
    mri, pet = (str(brain / name) for name in ("t1.nii.gz", "simulated-pet.nii.gz"))
    end = ["-o", str(tmp_path / "o"), "--dry-run"]
    assert run(["fuse", mri, pet, *end]) == 0
    assert "nothing was done" in capsys.readouterr().err
    assert run(["fuse", pet, mri, *end]) == 2
    said = capsys.readouterr()
    assert "[E_ROLES]" in said.err
    assert "functional" in said.out  # what the images are is shown all the same
    assert run(["fuse", pet, mri, *end, "--accept-pair", "roles", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == "o"
    assert run(["fuse", mri, mri, *end, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "E_SAME_IMAGE"
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_without_dask_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "medfuse.batch.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    study = Path(__file__).resolve().parents[2] / "sample_data" / "study"
    where = ["--study", str(study), "-o", str(tmp_path / "out")]
    assert run(["batch", *where, "--cluster", "local"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "Dask or cryptography is not installed. Install it with: pip install 'medfuse[cluster]'"
        in said
    )
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


def commands() -> list[str]:
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", commands())
def test_every_command_has_h_and_json_and_a_wrong_option_is_json_too(command, capsys):
    assert run([command, "-h"]) == 0
    shown = capsys.readouterr().out
    assert {"--json", "--json-file", "--quiet", "--verbose", "--threads"} <= set(
        re.findall(r"--[a-z-]+", shown)
    )
    assert run([command, "--no-such-option", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "E_USAGE"


def test_help_is_a_command_and_h_an_option(capsys):
    assert run(["help", "fuse"]) == 0
    shown = capsys.readouterr().out
    assert "--landmarks" in shown
    assert run(["fuse", "-h"]) == 0
    assert capsys.readouterr().out == shown
    assert run(["help"]) == run(["-h"]) == 0
    assert "--install-completion" in capsys.readouterr().out
    assert run(["help", "no-such-command"]) == 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An MRI, two PETs and a CT of 24 voxels a side, aligned."""
    folder = tmp_path_factory.mktemp("small")
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij"))
    head = np.linalg.norm(grid, axis=0) < 0.8
    found = {}
    for number, name in enumerate(("mri", "pet", "other", "ct")):
        spot = np.linalg.norm(grid - 0.1 * (number + 1), axis=0) < 0.3
        image = nib.Nifti1Image(
            (100.0 * head + 300 * spot).astype(np.float32), np.diag([4, 4, 4, 1])
        )
        found[name] = str(folder / f"{name}.nii.gz")
        nib.save(image, found[name])
    return found


QUICKLY = ("--registration", "identity", "--accept-suspect", "--method", "mean")
PET = ("--functional-modality", "PET", "--functional-unit", "SUVbw")


def test_quiet_prints_errors_only_and_verbose_every_step(small, tmp_path, capsys):
    pair = ["fuse", small["mri"], small["pet"], "-o", str(tmp_path / "o"), *QUICKLY, *PET]
    assert run([*pair, "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run([*pair, "-v"]) == 0
    said = capsys.readouterr().err
    for step in ("reading the images", "combining both images", "writing the volumes", "finished"):
        assert re.search(rf"medfuse fuse: +\d+\.\d s +.*{step}", said), step
    assert run(["fuse", small["mri"], "missing.nii.gz", "-o", str(tmp_path / "p"), "-q"]) == 8
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_json_goes_to_stdout_or_to_a_file(small, tmp_path, capsys):
    pair = ["fuse", small["mri"], small["pet"], *QUICKLY, *PET]
    answer = tmp_path / "answer.json"
    assert run([*pair, "-o", str(tmp_path / "o"), "--json-file", str(answer)]) == 0
    assert "Audit" in capsys.readouterr().out  # a person sees the table all the same
    assert json.loads(answer.read_text())["status"] == "done"
    assert run(["methods", "--json", "--json-file", str(answer)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(answer.read_text())


def test_an_error_is_json_too_with_the_same_exit_code(tmp_path, capsys):
    missing = ["fuse", "no.nii.gz", "pet.nii.gz", "-o", str(tmp_path / "o")]
    assert run(missing) == run([*missing, "--json"]) == 8
    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert set(error) == {"code", "message", "remedy"}
    assert error["code"] == "E_UNREADABLE"
    assert "no.nii.gz" in error["message"]
    assert printed.err.count("error: ") == 2


def test_images_may_be_named_instead_of_placed(small, tmp_path, capsys):
    named = ["fuse", "--pet", small["pet"], "--mri", small["mri"], "--functional-unit", "SUVbw"]
    assert run([*named, "-o", str(tmp_path / "o"), *QUICKLY, "-q"]) == 0
    inputs = json.loads((tmp_path / "o/provenance.json").read_text())["inputs"]
    assert [inputs[role]["modality"] for role in ("anatomical", "functional")] == ["MRI", "PET"]
    on_ct = ["fuse", "--spect", small["pet"], "--ct", small["ct"], "--functional-unit", "counts"]
    assert run([*on_ct, "-o", str(tmp_path / "p"), *QUICKLY, "-q"]) == 0
    inputs = json.loads((tmp_path / "p/provenance.json").read_text())["inputs"]
    assert [inputs[role]["modality"] for role in ("anatomical", "functional")] == ["CT", "SPECT"]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ((), "the command line has no path"),
        (("mri",), "the command line has one path"),
        (("--mri", "mri"), "the command line has --mri"),
        (("--pet", "pet"), "the command line has --pet"),
        (("--pet", "pet", "--spect", "other"), "--pet and --spect"),
        (("--mri", "mri", "--pet", "pet", "--ct", "ct"), "--mri and --pet and --ct"),
        (("mri", "--pet", "pet"), "has one path and --pet"),
        (("mri", "pet", "--pet", "other"), "has two paths and --pet"),
        (
            ("--mri", "mri", "--pet", "pet", "--functional-modality", "CT"),
            "--functional-modality CT",
        ),
    ],
)
def test_images_that_are_named_wrongly_are_refused(images, words, small, tmp_path, capsys):
    given = [small.get(word, word) for word in images]
    assert run(["fuse", *given, "-o", str(tmp_path / "o")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "[E_USAGE]" in said
    assert list(tmp_path.iterdir()) == []


def test_a_batch_takes_its_study_by_place_or_by_name_but_once(sample_data, tmp_path, capsys):
    study, out = str(sample_data / "study"), str(tmp_path / "out")
    assert run(["batch", study, "-o", out, "--dry-run", "--json"]) == 0
    by_place = json.loads(capsys.readouterr().out)
    assert run(["batch", "--study", study, "--output", out, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == by_place
    assert run(["batch", "-o", out]) == 2
    assert "no study was given" in capsys.readouterr().err
    assert run(["batch", study, "--study", study, "-o", out]) == 2
    assert "it was given twice" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.dcm", "x.png"])
def test_a_result_that_looks_like_a_file_is_refused_with_the_reason(name, small, tmp_path, capsys):
    assert run(["fuse", small["mri"], small["pet"], "-o", str(tmp_path / name)]) == 2
    assert "a result is a folder" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_other_images_is_replaced_by_force_alone(small, tmp_path, capsys):
    options = ["-o", str(tmp_path / "o"), *QUICKLY, *PET, "-q"]
    assert run(["fuse", small["mri"], small["pet"], *options]) == 0
    before = json.loads((tmp_path / "o/manifest.json").read_text())
    assert run(["fuse", small["mri"], small["other"], *options]) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "with --force. [E_OTHER_RESULT]" in said
    assert json.loads((tmp_path / "o/manifest.json").read_text()) == before
    assert run(["fuse", small["mri"], small["pet"], *options, "--bias", "0.2"]) == 0
    assert run(["fuse", small["mri"], small["other"], *options, "--force"]) == 0
    assert json.loads((tmp_path / "o/manifest.json").read_text()) != before


def test_a_transform_is_written_as_itk_or_as_json(small, tmp_path, capsys):
    pair = ["register", small["mri"], small["pet"], "--registration", "identity"]
    for name in ("t.tfm", "t.json"):
        assert run([*pair, "-o", str(tmp_path / name), "-q"]) in (0, 8)
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["schema"] == "medfuse-registration/1"
    assert run([*pair, "-o", str(tmp_path / "t.nii.gz")]) == 2
    assert "ends in .tfm" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_threads_are_told_to_the_libraries_of_the_case():
    """In a process of its own: the libraries look once."""
    code = (
        "import sys; from medfuse.cli.app import run; run(['colormaps', '--threads', '1', '-q']); "
        "import torch; sys.exit(torch.get_num_threads())"
    )
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    assert subprocess.run([sys.executable, "-c", code], env=free).returncode == 1


def test_training_is_told_beside_the_rules_and_keeps_a_better_earlier_guide(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(8):
            rough = generator.integers(60, 255, (12, 12), dtype=np.uint8)
            picture = Image.fromarray(rough).resize((96, 96), Image.Resampling.BICUBIC)
            picture.save(tmp_path / name / f"{k}.png")
    out = tmp_path / "x.safetensors"
    folders = ["--a", str(tmp_path / "a"), "--b", str(tmp_path / "b"), "--validation", "0.3"]
    assert run(["train", *folders, "-o", str(out), "--steps", "60"]) == 0
    told = capsys.readouterr()
    assert "local-energy" in told.out
    assert "Qabf: " in told.err
    kept = out.read_bytes()
    assert run(["train", *folders, "-o", str(out), "--steps", "1", "--seed", "5"]) == 0
    told = capsys.readouterr().err
    if "x-new.safetensors" in told:
        assert "it was kept" in told
        assert out.read_bytes() == kept
    else:
        assert out.read_bytes() != kept
