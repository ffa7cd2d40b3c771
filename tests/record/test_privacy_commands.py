"""No command writes what names a person: every command, on inputs of which every text is marked.

A new command of the app goes into `COMMANDS`, or with its reason into `WITHOUT_INPUT`.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image, PngImagePlugin
from typer.main import get_command

import medfuse
from medfuse.cli.app import app
from tests._helpers.make import MARKER
from tests._helpers.marked import (
    DATES,
    HOST,
    NAME,
    UIDS,
    USER,
    ball,
    traces,
    write_marked,
    write_marked_nifti,
)
from tests._helpers.marked import medfuse as run_medfuse
from workflows.fuse_pair import workflow

INFERENCE = Path(__file__).resolve().parents[2] / "workflows/bundle/configs/inference.json"
SECRETS = (MARKER, USER, HOST, *DATES, *UIDS)
MR, PET = f"{NAME}_1/mr", f"{NAME}_1/{NAME} pet"
LATER = f"{NAME}_2/{NAME} pet"  # another scan of the same person
MASK = f"{NAME}_mask.nii.gz"
T1, SUV = f"{NAME}_t1.nii.gz", f"{NAME}_pet.nii.gz"
A, B = f"{NAME}_a/{NAME}_0.png", f"{NAME}_b/{NAME}_0.png"
QUICK = ("--method", "mean", "--registration", "identity")
CASE, KEY = "../../out/fuse/case", "../../out/keygen/lab.key"
#: What is run, in this order, each with an answer in out/NAME.
COMMANDS: dict[str, tuple[str, ...]] = {
    "fuse": ("fuse", MR, PET, "-o", "case", *QUICK, "--png"),
    "bids": ("batch", "--study", "raw", "-o", "out", "--layout", "bids", *QUICK,
             "--accept-suspect", "--workers", "1"),
    "dicom": ("fuse", MR, LATER, "-o", "case", *QUICK, "--dicom", "slices"),
    "dry-run": ("fuse", MR, PET, "-o", "case", *QUICK, "--dry-run"),
    "register": ("register", MR, PET, "-o", "t.tfm", "--resampled", "r.nii.gz", *QUICK[2:]),
    "register-json": ("register", T1, SUV, "-o", "transform.json", *QUICK[2:]),
    "info": ("info", f"{NAME}_1"),
    "measure": ("measure", CASE, "--regions", MASK, "--isocontour", "41%", "--inputs", ".",
                "--drawn-on", "anatomical", "-o", "table.tsv"),
    "measure-dicom": ("measure", CASE, "--regions", MASK, "--isocontour", "41%", "--inputs", ".",
                      "--drawn-on", "anatomical", "-o", "table.tsv", "--dicom", "objects"),
    "followup": ("followup", CASE, "../../out/dicom/case", "-o", "change", "--inputs", ".",
                 "--regions", MASK, "--drawn-on", "anatomical", "--accept-suspect"),
    "audit": ("audit", "--anatomical", MR, "--functional", PET,
              "--fused", f"{CASE}/fused_rgb.nii.gz", "-o", "x"),
    "train-study": ("train", "--study", "pairs.csv", "-o", "w.safetensors", "--steps", "1"),
    "train-pictures": ("train", "--a", f"{NAME}_a", "--b", f"{NAME}_b", "-o", "w.safetensors",
                       "--steps", "1"),
    "evaluate": ("evaluate", "--a", f"{NAME}_a", "--b", f"{NAME}_b", "-m", "max", "--save", "x"),
    "fuse-images": ("fuse-images", A, B, "-o", "fused.png", "-m", "max"),
    "enhance": ("enhance", B, "-o", "e.png"),
    "enhance-scan": ("enhance", MR, "-o", "e.nii.gz"),
    "unfuse": ("unfuse", f"{CASE}/fused_rgb.nii.gz", "-o", "x"),
    "keygen": ("keygen", "lab.key"),
    "sign": ("sign", CASE, "--key", KEY),
    "verify": ("verify", CASE, "--public-key", f"{KEY}.pub"),
}  # fmt: skip
#: Commands that read nothing of a person's, and why that is so.
WITHOUT_INPUT = {
    "cite": "prints how to cite medfuse",
    "colormaps": "lists what is built in",
    "demo": "fuses the images that come with medfuse",
    "doctor": "looks at the installation, and only prints",
    "help": "prints a help text",
    "methods": "lists what is built in",
    "sample": "copies the images that come with medfuse",
}
#: Written on purpose: `--dicom` names its source images by UID.
ALLOWED = {"dicom": ("case/dicom/", UIDS), "measure-dicom": ("objects/", UIDS)}
#: A ball is its own mirror image.
ENDINGS = {"audit": 9}


def write_pictures(study: Path) -> None:
    """Three pairs of pictures, with marked text chunks and Exif."""
    words, exif = PngImagePlugin.PngInfo(), Image.Exif()
    for key in ("Author", "Title", "Description", "Comment"):
        words.add_text(key, MARKER)
    exif[0x010E] = exif[0x013B] = MARKER
    generator = np.random.default_rng(0)
    for side in "ab":
        (study / f"{NAME}_{side}").mkdir()
        for k in range(3):
            picture = Image.fromarray(generator.integers(0, 256, (64, 64), np.uint8))
            picture.save(study / f"{NAME}_{side}/{NAME}_{k}.png", pnginfo=words, exif=exif)


def write_data_set(raw: Path) -> None:
    """One subject of BIDS, whose labels are pseudonyms by convention, all else marked."""
    for name, scale in (("anat/sub-01_T1w", 900), ("pet/sub-01_pet", 9)):
        path = raw / "sub-01" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        write_marked_nifti(path, ball(scale))
    about = {"Name": MARKER, "BIDSVersion": "1.10.0", "Authors": [MARKER], "Funding": [MARKER]}
    (raw / "dataset_description.json").write_text(json.dumps(about))


def write_study(study: Path) -> None:
    """All inputs of all commands."""
    write_marked(study / MR, "MR")
    write_marked(study / PET, "PT")
    write_marked(study / LATER, "PT", again=True)
    write_marked_nifti(study / T1, ball(900))
    write_marked_nifti(study / SUV, ball(9))
    image = medfuse.load(study / MR)
    values = np.asarray(image)[0]
    write_marked_nifti(study / MASK, values > values.max() / 2, np.asarray(image.affine))
    write_pictures(study)
    write_data_set(study / "raw")
    for name in (T1, SUV):  # as large as training asks for
        image = nib.load(study / name)
        large = np.kron(np.asarray(image.dataobj)[..., :6], np.ones((3, 3, 1)))
        write_marked_nifti(study / f"{NAME}_large_{name.removeprefix(NAME + '_')}", large)
    row = f"{NAME}_large_t1.nii.gz,{NAME}_large_pet.nii.gz,MRI,identity,True"
    head = "case,anatomical,functional,anatomical_modality,registration,accept_suspect"
    rows = [f"{NAME}_{k},{row}" for k in (1, 2)]
    (study / "pairs.csv").write_text("\n".join([head, *rows]) + "\n")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Folder with an output folder for each command, and what each printed."""
    root = tmp_path_factory.mktemp(MARKER)
    study, out = root / MARKER / f"{NAME}^Jane", root / "out"
    write_study(study)
    printed = {}
    for name, words in COMMANDS.items():
        (out / name).mkdir(parents=True)
        answer = ("--json-file", out / name / "answer.json")
        code, said = run_medfuse(*_placed(words, out / name), *answer, cwd=study)
        assert code == ENDINGS.get(name, 0), (name, said)
        printed[name] = said.replace(str(root), "")
    pair = {"case": "monai", "anatomical": str(study / MR), "functional": str(study / PET)}
    workflow(out / "monai", registration="identity", method="mean")(pair)
    bundle = ConfigParser()
    bundle.read_config(str(INFERENCE))
    for key, value in (
        ("data", [pair]),
        ("output_dir", str(out / "bundle")),
        ("registration", "identity"),
        ("method", "mean"),
    ):
        bundle[key] = value
    bundle.get_parsed_content("run")
    return out, printed


def test_every_command_is_tried_or_reads_nothing() -> None:
    registered = set(get_command(app).commands)
    tried = {words[0] for words in COMMANDS.values()}
    assert registered - tried - WITHOUT_INPUT.keys() == set()
    assert tried & WITHOUT_INPUT.keys() == set()


def _placed(words: tuple[str, ...], out: Path) -> list[str]:
    """Arguments with the outputs in a folder."""
    outputs = {i + 1 for i, word in enumerate(words) if word in ("-o", "--save", "--resampled")}
    outputs |= {1} if words[0] == "keygen" else set()
    outputs |= {words.index("--dicom") + 1} if {"measure", "--dicom"} <= {*words} else set()
    return [str(out / word) if i in outputs else word for i, word in enumerate(words)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COMMANDS, "monai", "bundle"])
def test_no_file_of_a_command_names_a_person_or_a_place(done, name: str) -> None:
    out, _ = done
    name = "fuse" if name == "sign" else name  # a signature lies in what is signed
    assert any((out / name).rglob("*.*"))
    folder, words = ALLOWED.get(name, ("", ()))
    assert traces(out / name, *(s for s in SECRETS if s not in words), str(out.parent)) == []
    found = traces(out / name, *words) if words else []
    assert all(f.removeprefix("name of ").startswith(folder) for f in found)
    if name != "info":  # what its user points at is named to its user
        assert traces(out / name, NAME) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_what_stands_in_a_header(done, name: str) -> None:
    printed = done[1][name].lower()
    assert [word for word in SECRETS if word.lower() in printed] == []


@pytest.mark.slow
def test_names_are_written_where_that_is_asked_for(done, tmp_path: Path) -> None:
    study = next((done[0].parent / MARKER).iterdir())
    kept = {"fuse-images": {"f.png": "f.json"}, "evaluate": {"x": "max"}}
    for name in kept:
        (tmp_path / name).mkdir()
        answer = tmp_path / name / "answer.json"
        arguments = _placed(COMMANDS[name], tmp_path / name)
        code, words = run_medfuse(*arguments, "--keep-names", "--json-file", answer, cwd=study)
        assert code == 0, words
        assert NAME in answer.read_text()
        assert traces(tmp_path / name, *SECRETS) == []
    assert (tmp_path / f"evaluate/x/max/{NAME}_0.png").is_file()
