"""`medfuse audit`: fused images of any tool, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import medfuse
from medfuse.cli.app import run
from medfuse.errors import MedfuseError
from medfuse.imaging.windows import apply_window, default_window
from medfuse.report.panels import EDGE_COLOUR
from medfuse.results.export import write_nifti
from medfuse.verification.foreign import Options, audit_picture
from medfuse.verification.foreign_maps import GAP

STATED: dict[str, Any] = {
    "functional_modality": "PET",
    "functional_unit": "SUVbw",
    "colormap": "glow",
    "window": (0, 6),
}


@pytest.fixture(scope="module")
def case(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A PET on a CT (12 slices of the sample study), and what several tools make of them."""
    folder = tmp_path_factory.mktemp("foreign")
    study = sample_data / "study" / "sts001-aligned"
    ct, pet = medfuse.load(study / "ct.nii.gz"), medfuse.load(study / "pet-suv-dicom")
    pet = medfuse.register(fixed=ct, moving=pet, method="identity").resample(pet)
    part = slice(14, 26)
    affine = ct.affine.numpy().copy()
    affine[:3, 3] += 14 * affine[:3, 2]
    images = {"ct": np.asarray(ct)[..., part], "pet": np.asarray(pet)[..., part]}
    paths = {
        name: write_nifti(folder / f"{name}.nii.gz", x[0], affine) for name, x in images.items()
    }
    anat, func = (
        medfuse.load(paths["ct"], modality="CT"),
        medfuse.load(paths["pet"], modality="PET", values_in="SUVbw"),
    )
    made = medfuse.fuse(functional=func, anatomical=anat, window=(0, 6), mode="slices")
    rgb = np.asarray(made.rgb)
    grey = np.asarray(apply_window(anat, default_window(anat)))
    uptake = np.clip(images["pet"] / 6, 0, 1)
    warm = np.concatenate([uptake, 0.5 * uptake, np.zeros_like(uptake)])
    overlay = 0.5 * grey + 0.5 * warm
    peak = np.unravel_index(images["pet"][0].argmax(), uptake.shape[1:])
    erased = rgb.copy()
    erased[:, peak[0] - 20 : peak[0] + 20, peak[1] - 20 : peak[1] + 20] = 0.3
    pictures = {
        "own": rgb,
        "overlay": overlay,
        "mirrored": overlay[:, ::-1],
        "shifted": np.roll(overlay, 3, axis=1),
        "erased": erased,
        "noisy": rgb + np.random.default_rng(0).normal(0, 0.08, rgb.shape),
        "weights": np.asarray(made.weights)[0],
    }
    for name, volume in pictures.items():
        paths[name] = write_nifti(folder / f"{name}.nii.gz", volume, affine)
    turned = nib.as_closest_canonical(nib.load(paths["own"]))
    nib.save(turned, folder / "turned.nii.gz")
    moved = affine.copy()
    moved[0, 3] += 20
    paths["elsewhere"] = write_nifti(folder / "elsewhere.nii.gz", rgb, moved)
    return {**paths, "turned": folder / "turned.nii.gz"}


def verdicts(case: dict[str, Path], name: str, options: Options | None = None) -> dict[str, str]:
    found = audit_picture(case["ct"], case["pet"], case[name], options)
    return {check.id: check.verdict for check in found.audit.checks}


def test_our_own_picture_passes_and_its_weights_make_it_again(case):
    options = Options.of(**STATED, weights=case["weights"])
    found = verdicts(case, "own", options)
    assert set(found.values()) == {"pass"}
    assert {"linearity", "read_back", "hot_spots", "invented", "position"} <= set(found)


def test_a_picture_with_something_added_is_not_made_again_by_its_weights(case):
    options = Options.of(**STATED, weights=case["weights"])
    assert verdicts(case, "noisy", options)["linearity"] == "fail"


def test_axes_may_be_stored_in_another_order(case):
    assert set(verdicts(case, "turned", Options.of(**STATED)).values()) == {"pass"}


def test_a_plain_overlay_of_another_tool_is_no_false_alarm(case):
    found = audit_picture(case["ct"], case["pet"], case["overlay"], Options.of(window=(0, 6)))
    assert found.audit.verdict == "pass"
    assert any("estimate" in note for note in found.notes)
    assert any("color map is not known" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "check"),
    [("mirrored", "laterality"), ("shifted", "position"), ("erased", "hot_spots")],
)
def test_what_was_done_to_a_picture_is_named(case, name, check):
    assert verdicts(case, name, Options.of(**STATED))[check] == "fail"


def test_noise_of_its_own_is_invented_structure(case):
    assert verdicts(case, "noisy", Options.of(**STATED))["invented"] != "pass"


def test_the_command_prints_a_table_writes_a_folder_and_says_it_by_exit_code(
    case, tmp_path, capsys
):
    files = ["--anatomical", case["ct"], "--functional", case["pet"], "--fused", case["mirrored"]]
    arguments = ["audit", *map(str, files), "--window", "0", "6"]
    assert (
        run([*arguments, "-o", str(tmp_path / "out"), "--json-file", str(tmp_path / "a.json")]) == 8
    )
    printed = capsys.readouterr()
    assert "Left-right orientation" in printed.out
    assert "MIRRORED" in printed.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"audit.json", "invented.png", "manifest.json"}
    record = json.loads((tmp_path / "a.json").read_text())
    assert record == json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["inputs"]["fused"] == "fused"
    assert "mirrored.nii" not in json.dumps(record)
    assert run([*arguments[:-3], "--colormap", "ember", "--json"]) == 8
    assert json.loads(capsys.readouterr().out)["verdict"] == "fail"


def test_a_contradiction_is_drawn_at_its_place(shared_data, tmp_path, capsys):
    atlas = shared_data / "harvard" / "CT-MRI" / "test"
    ct, mri = (atlas / kind / "41011.png" for kind in ("CT", "MRI"))
    if not ct.is_file():
        pytest.skip("the Harvard atlas (../shared/data/harvard) is not here")
    for name, method in (("flagged", "swift-msrs"), ("content", "local-energy")):
        fused = tmp_path / f"{name}.png"
        assert run(["fuse-images", str(ct), str(mri), "-o", str(fused), "--method", method]) == 0
        files = ["--anatomical", mri, "--functional", ct, "--fused", fused]
        run(["audit", *map(str, files), "-o", str(tmp_path / name)])
    assert not (tmp_path / "content" / "contradiction.png").exists()
    checks = json.loads((tmp_path / "flagged" / "audit.json").read_text())["checks"]
    check = next(check for check in checks if check["id"] == "contradiction")
    _, row, column = check["details"]["slice_row_column"]
    drawn = np.asarray(Image.open(tmp_path / "flagged" / "contradiction.png").convert("RGB"))
    rows, columns = np.nonzero((drawn == EDGE_COLOUR).all(axis=-1))
    size = 256
    assert rows.min() > size, "above are the images as they are"
    assert set(columns // (size + GAP)) == {0, 1, 2}
    inside = columns < size
    assert rows[inside].min() - size - GAP < row < rows[inside].max() - size - GAP
    assert columns[inside].min() < column < columns[inside].max()


def test_names_of_inputs_are_written_only_where_they_are_asked_for(case, tmp_path):
    files = ["--anatomical", case["ct"], "--functional", case["pet"], "--fused", case["own"]]
    arguments = ["audit", *map(str, files), "--keep-names", "-o", str(tmp_path / "out")]
    assert run(arguments) in (0, 9)
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["inputs"]["fused"] == "own.nii.gz"


def test_an_error_of_the_command_names_flags(case, sample_data, capsys):
    scan = sample_data / "study" / "sts001-aligned" / "pet-suv-dicom"
    files = ["--anatomical", case["ct"], "--functional", scan, "--fused", case["own"]]
    assert run(["audit", *map(str, files), "--json"]) == 8
    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert error["code"] == "E_GRID_MISMATCH"
    assert "--transform transform.json" in error["remedy"]
    assert "--transform transform.json" in " ".join(printed.err.split())


def test_pictures_are_audited_like_volumes(tmp_path, capsys):
    rng = np.random.default_rng(1)
    a, b = (
        np.asarray(Image.fromarray(rng.integers(0, 255, (24, 20), np.uint8)).resize((160, 192)))
        for _ in range(2)
    )
    colour = np.stack([a, a // 2, 0 * a], -1)
    fused = (0.5 * colour + 0.5 * b[..., None]).round().astype(np.uint8)
    for name, image in (("a", colour), ("b", b), ("fused", fused), ("small", fused[:100])):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    paths = {name: str(tmp_path / f"{name}.png") for name in ("a", "b", "fused", "small")}
    sources = ["audit", "--anatomical", paths["b"], "--functional", paths["a"], "--fused"]
    assert run([*sources, paths["fused"], "-o", str(tmp_path / "out")]) == 9  # colours are halved
    assert "Functional color unchanged" in capsys.readouterr().err
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".json", ".png"}
    assert run([*sources, paths["small"]]) == 8
    assert "it has 160 x 100 pixels, the anatomical image 160 x 192" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"fused": "elsewhere"}, "E_GRID_MISMATCH", "20.0 mm off"),
        ({"functional": "elsewhere_pet"}, "E_GRID_MISMATCH", "transform=transform.json"),
        ({"fused": "cut"}, "E_TRUNCATED", "stream ends"),
        ({"fused": "picture.png"}, "E_KIND", "the sources are scans"),
        ({"fused": "missing"}, "E_UNREADABLE", "no such file"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    case, tmp_path, sample_data, change, code, words
):
    (tmp_path / "cut.nii.gz").write_bytes(case["own"].read_bytes()[:2000])
    Image.new("RGB", (20, 20)).save(tmp_path / "picture.png")
    paths = {
        **case,
        "elsewhere_pet": sample_data / "study" / "sts001-aligned" / "pet-suv-dicom",
        "cut": tmp_path / "cut.nii.gz",
        "picture.png": tmp_path / "picture.png",
        "missing": tmp_path / "missing.nii.gz",
    }
    named = {"anatomical": "ct", "functional": "pet", "fused": "own"} | change
    with pytest.raises(MedfuseError) as caught:
        audit_picture(*(paths[named[role]] for role in ("anatomical", "functional", "fused")))
    assert caught.value.code == code
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_transform_brings_the_functional_scan_over_and_may_not_mirror(
    case, sample_data, tmp_path
):
    scan = sample_data / "study" / "sts001-aligned" / "pet-suv-dicom"
    np.savetxt(tmp_path / "eye.txt", np.eye(4))
    options = Options.of(colormap="glow", window=(0, 6), transform=tmp_path / "eye.txt")
    found = audit_picture(case["ct"], scan, case["own"], options)
    assert found.audit.verdict == "pass"
    np.savetxt(tmp_path / "flip.txt", np.diag([1.0, -1, 1, 1]))
    flipped = Options.of(transform=tmp_path / "flip.txt")
    assert audit_picture(case["ct"], scan, case["own"], flipped).audit["transform"].verdict == (
        "fail"
    )
