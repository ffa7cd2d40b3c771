"""Training on a study: what the guide is shown, and that its weights can be used."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import medfuse
from medfuse.cli.app import app
from medfuse.errors import InputError
from medfuse.methods.registry import get_method
from medfuse.study import Case
from medfuse.training.from_study import slices, write_slices, write_study_slices
from medfuse.training.train import run_training

HEAD = "case,anatomical,functional,anatomical_modality,registration"


def test_the_guide_is_shown_what_it_will_see_when_fusing(sample_data, tmp_path):
    folder = sample_data / "study" / "sts001-aligned"
    settings = {"registration": "identity", "anatomical_modality": "CT"}
    case = Case("sts", folder / "ct.nii.gz", folder / "pet-suv-dicom", "", settings)
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
    count = write_slices(case, tmp_path)
    names = [{p.name for p in (tmp_path / part).iterdir()} for part in ("a", "b")]
    assert names[0] == names[1]
    assert len(names[0]) == count > 30
    ct = medfuse.load(folder / "ct.nii.gz", modality="CT")
    seen = medfuse.fuse(
        functional=ct, anatomical=ct, method="mean", accept_pair="same-image"
    ).anatomical
    shown = np.asarray(Image.open(tmp_path / "b" / "sts020.png"))
    assert np.array_equal(shown, slices(seen, ct)[20])


def test_a_study_without_a_usable_case_is_refused_and_says_why(tmp_path):
    manifest = tmp_path / "cases.csv"
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / name).write_bytes(b"no volume")
    manifest.write_text(f"{HEAD}\nbroken,a.nii.gz,b.nii.gz,MRI,identity")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(InputError, match=r"broken: left out.*E_NO_IMAGES") as error:
        write_study_slices(manifest, scratch)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.slow
def test_one_command_makes_a_guide_of_a_study(sample_data, tmp_path):
    folder = sample_data / "study" / "sts001-aligned"
    pairs = ("ct.nii.gz", "CT"), ("mr-t1.nii.gz", "MRI")
    rows = [f"{k},{folder / x},{folder / 'pet-suv-dicom'},{k},identity" for x, k in pairs]
    manifest = tmp_path / "cases.csv"
    manifest.write_text("\n".join([HEAD, *rows]))
    out = tmp_path / "mine.safetensors"
    done = CliRunner().invoke(
        app, ["train", "--study", str(manifest), "-o", str(out), "--steps", "1", "--keep-names"]
    )
    assert done.exit_code == 0, done.output
    guide = get_method(out)
    a, b = (np.random.default_rng(k).random((1, 64, 64), np.float32) for k in (0, 1))
    weights = medfuse.fuse(functional=a, anatomical=b, method=guide).weights
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1
    assert guide.info.card["recipe"]["name"] == "in-domain"
    assert {name[:-3] for name in guide.info.card["data"]["validation_names"]} in ({"CT"}, {"MRI"})


def test_pictures_that_are_too_small_for_the_loss_are_refused(tmp_path):
    for side in "ab":
        (tmp_path / side).mkdir()
        for k in range(3):
            picture = np.random.default_rng(k).integers(0, 256, (60, 40), np.uint8)
            Image.fromarray(picture).save(tmp_path / side / f"{k}.png")
    with pytest.raises(InputError, match=r"3 of 3 pictures .* less than 41 .* one 40.*E_TOO_SMALL"):
        run_training(a=tmp_path / "a", b=tmp_path / "b", out=tmp_path / "w.safetensors", steps=1)
