"""The one way in: load, describe and the MONAI reader give the same; nothing private comes out."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

import medfuse
from medfuse.errors import MedfuseError, SuvUnavailable, UsageError
from medfuse.imaging.dicom.header import quiet_pydicom
from medfuse.imaging.monai_reader import ClinicalReader
from medfuse.imaging.reader import describe, load
from medfuse.record.privacy import sanitize
from tests._helpers import make

META_KEYS = ("modality", "unit", "spacing", "source", "suv", "notes")
REAL = [
    "sts001-pet-mr-dicom/pet-fdg",
    "brain-pd-mr-dicom/mr-pd",
    "sts001-aligned-pet-ct-mr/ct.nii.gz",
]


def _assert_says(error: MedfuseError, code: str, words: list[str]) -> None:
    text = str(error)
    assert error.code == code
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("path", REAL)
def test_loadimaged_gives_the_very_same_volume_as_load(shared_data: Path, path: str) -> None:
    ours = load(shared_data / "volumes" / path)
    loader = LoadImaged(["image"], reader=ClinicalReader, ensure_channel_first=True)
    theirs = loader({"image": shared_data / "volumes" / path})["image"]
    assert isinstance(theirs, MetaTensor)
    assert ours.dtype == theirs.dtype == torch.float32
    assert ours.shape == theirs.shape
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert torch.equal(ours.affine, theirs.affine)
    assert ours.affine.dtype == torch.float64
    for key in META_KEYS:
        assert ours.meta[key] == theirs.meta[key]


def test_real_pet_and_mr_load_within_two_seconds(shared_data: Path) -> None:
    start = time.perf_counter()
    pet = medfuse.load(shared_data / "volumes/sts001-pet-mr-dicom/pet-fdg")
    mri = medfuse.load(shared_data / "volumes/sts001-pet-mr-dicom/mr-t2")
    assert time.perf_counter() - start < 2 * 4  # four times the budget, for loaded machines
    assert (pet.shape, mri.shape) == ((1, 128, 128, 74), (1, 384, 384, 33))


def test_meta_is_what_the_contract_says_and_plain_json(shared_data: Path) -> None:
    pet = load(shared_data / "volumes/sts001-pet-mr-dicom/pet-fdg")
    facts = json.loads(json.dumps({key: pet.meta[key] for key in META_KEYS}))
    assert facts["spacing"] == pytest.approx([4.6875, 4.6875, 3.27027], rel=1e-5)
    source = facts["source"]
    assert (source["kind"], source["name"], source["files"]) == ("dicom", "pet-fdg", 74)
    assert len(source["sha256"]) == 64
    assert all(len(source[k]) == 16 for k in ("frame_of_reference", "series", "patient"))
    mri = load(shared_data / "volumes/sts001-pet-mr-dicom/mr-t2")
    assert mri.meta["source"]["patient"] == source["patient"]
    assert mri.meta["source"]["frame_of_reference"] != source["frame_of_reference"]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        (
            "bids-pet-layout/pet001/sub-01/ses-01/anat/sub-01_ses-01_T1w.nii",
            "E_NOT_NIFTI",
            ["sub-01_ses-01_T1w.nii", "HTML"],
        ),
        (
            "bids-pet-layout/pet005/sub-01/ses-baseline/pet/sub-01_ses-baseline_pet.nii.gz",
            "E_NOT_NIFTI",
            ["sub-01_ses-baseline_pet.nii.gz"],
        ),
        (
            "bids-pet-layout/pet005/sub-01/ses-baseline/anat/sub-01_ses-baseline_T1w.nii.gz",
            "E_CONSTANT",
            ["50331648 voxels", "value 0"],
        ),
        ("bids-pet-layout/pet001/participants.tsv", "E_NOT_AN_IMAGE", ["participants.tsv"]),
        ("mni-templates", "E_NO_IMAGES", ["6 NIfTI"]),
    ],
)
def test_real_foreign_files_are_refused_by_content(
    shared_data: Path, path: str, code: str, words: list[str]
) -> None:
    with pytest.raises(MedfuseError) as caught:
        load(shared_data / "volumes" / path)
    _assert_says(caught.value, code, words)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.dcm", b"x")


def _dicomdir(path: Path) -> None:
    dataset = make.base_dataset("MR", "1.2", 1, "1", 1)
    dataset.SOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    make.save(dataset, path)


FOREIGN: list[tuple[str, Callable[[Path], Any], str, list[str]]] = [
    ("study.zip", _zip, "E_ARCHIVE", ["zip", "Unpack"]),
    ("study.tar.gz", lambda p: p.write_bytes(_tar_gz()), "E_ARCHIVE", ["tar", "Unpack"]),
    ("DICOMDIR", _dicomdir, "E_ARCHIVE", ["DICOMDIR", "folder that holds the images"]),
    ("a.nii.gz", lambda p: p.write_bytes(b""), "E_EMPTY_FILE", ["0 bytes"]),
    ("a.dcm", lambda p: p.write_bytes(b""), "E_EMPTY_FILE", ["0 bytes"]),
    ("a.dcm", lambda p: p.write_bytes(b"x" * 900), "E_NOT_DICOM", ["DICM"]),
    ("a.nii", lambda p: p.write_text("<html>no</html>"), "E_NOT_NIFTI", ["HTML"]),
    ("a.png", lambda p: p.write_bytes(b"\x89PNG\r\n"), "E_NOT_AN_IMAGE", ["PNG"]),
    ("a.mha", lambda p: p.write_text("ObjectType = Image"), "E_NOT_AN_IMAGE", ["MetaImage"]),
    ("a.nii.gz", lambda p: p.write_bytes(b"\x1f\x8b\x08\0\0"), "E_TRUNCATED", ["0 bytes"]),
    ("nowhere", lambda p: None, "E_UNREADABLE", ["no such file"]),
    ("empty", lambda p: p.mkdir(), "E_NO_IMAGES", ["no file at all"]),
    ("nifti", lambda p: make.write_nifti(p / "t1.nii.gz"), "E_NO_IMAGES", ["1 NIfTI", "Give"]),
]


def _tar_gz() -> bytes:
    import gzip
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.dcm"))
    return gzip.compress(buffer.getvalue())


@pytest.mark.parametrize(
    ("name", "write", "code", "words"), FOREIGN, ids=[f"{f[0]}-{f[2]}" for f in FOREIGN]
)
def test_what_is_no_image_is_refused_with_name_cause_and_remedy(
    tmp_path: Path, name: str, write: Callable[[Path], Any], code: str, words: list[str]
) -> None:
    write(tmp_path / name)
    with pytest.raises(MedfuseError) as caught:
        load(tmp_path / name)
    _assert_says(caught.value, code, [name, *words])
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Ünï çødé 雪.nii.gz", "עברית.nii", "a b'c;d.nii", "n" * 200 + ".nii.gz"]
)
def test_odd_file_names_load(tmp_path: Path, name: str) -> None:
    make.write_nifti(tmp_path / name)
    assert load(tmp_path / name).meta["source"]["name"] == name


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ({"modality": "xray"}, "E_MODALITY", "SPECT"),
        ({"values_in": "mg"}, "E_UNIT", "SUVbw"),
    ],
)
def test_options_that_do_not_exist_are_usage_errors(
    tmp_path: Path, options: dict[str, Any], code: str, word: str
) -> None:
    make.write_nifti(tmp_path / "a.nii")
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "a.nii", **options)
    _assert_says(caught.value, code, [word])


def test_stated_modality_and_unit_may_be_written_freely(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "a.nii")
    volume = load(tmp_path / "a.nii", modality="pt", values_in="SUV", unit="suv")
    assert (volume.meta["modality"], volume.meta["unit"]) == ("PET", "SUVbw")


def test_unit_suv_refuses_what_has_no_suv(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "pet.nii")
    with pytest.raises(SuvUnavailable) as caught:
        load(tmp_path / "pet.nii", unit="suv")
    _assert_says(caught.value, "E_SUV", ["pet.nii", "a.u."])


# --- MONAI ------------------------------------------------------------------------------------


def test_monai_does_not_fall_back_to_a_lenient_reader_after_a_refusal(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    (tmp_path / make.file_name(2)).unlink()  # MONAI's own readers would load this
    with pytest.raises(MedfuseError) as caught:
        LoadImaged(["image"], reader=ClinicalReader)({"image": tmp_path})
    assert caught.value.code == "E_MISSING_SLICE"


def test_reader_options_pass_through_loadimaged(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality="PT"))
    loader = LoadImaged(["image"], reader=ClinicalReader, values_in="counts", modality="SPECT")
    image = loader({"image": tmp_path})["image"]
    assert (image.meta["modality"], image.meta["unit"]) == ("SPECT", "counts")


def test_several_paths_are_not_stacked_into_channels(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "a.nii")
    with pytest.raises(UsageError):
        LoadImaged(["image"], reader=ClinicalReader)({"image": [tmp_path / "a.nii"] * 2})


def test_the_transform_survives_pickling(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "t1.nii.gz")
    transform = Compose([LoadImaged(["image"], reader=ClinicalReader(modality="MR"))])
    copy = pickle.loads(pickle.dumps(transform))
    assert copy({"image": tmp_path / "t1.nii.gz"})["image"].meta["modality"] == "MRI"


def test_importing_the_reader_does_not_import_torch() -> None:
    code = "import sys, medfuse.imaging.reader; print({'torch', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- privacy ----------------------------------------------------------------------------------


def _poison(dataset: pydicom.Dataset) -> None:
    """Put the marker also where medfuse reads code values."""
    dataset.Units = make.MARKER
    dataset.DecayCorrection = make.MARKER
    dataset.CorrectedImage = ["ATTN", make.MARKER]
    dataset.ImageType = ["ORIGINAL", make.MARKER]
    dataset.FrameOfReferenceUID = make.MARKER
    make.isotope_of(dataset).RadionuclideCodeSequence[0].CodeMeaning = make.MARKER
    make.isotope_of(dataset).Radiopharmaceutical = make.MARKER


def _outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    texts = []
    for options in ({}, {"unit": "suv"}, {"series": "99"}, {"frame": 9}):
        try:
            volume = load(folder, **options)  # type: ignore[arg-type]
            # UIDs lie in memory until provenance hashes them; every output goes through this.
            texts.append(json.dumps(sanitize({k: volume.meta[k] for k in META_KEYS})))
        except MedfuseError as error:
            texts.append(str(error))
    texts.append(json.dumps(describe(folder)))
    captured = capsys.readouterr()
    return "\n".join([*texts, captured.out, captured.err])


@pytest.mark.parametrize("modality", ["MR", "CT", "PT"])
def test_no_patient_data_come_out_of_a_sound_series(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
    modality: str,
) -> None:
    make.write_series(tmp_path / "scan", make.SeriesPlan(modality=modality))
    _assert_private(_outputs(tmp_path / "scan", capsys) + caplog.text + _warned(recwarn))


def test_no_patient_data_come_out_of_a_poisoned_and_damaged_series(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    folder = tmp_path / "scan"
    with quiet_pydicom():  # the warnings of writing are not those of reading
        make.write_series(folder, make.SeriesPlan(modality="PT", edit=lambda d, _: _poison(d)))
    everything = _outputs(folder, capsys)
    for k, mark in enumerate((b"120000", b"6586.2", b"DICM", b"1.2.826")):
        raw = (folder / make.file_name(k)).read_bytes()
        poison = make.MARKER[: len(mark)].encode()
        (folder / make.file_name(k)).write_bytes(raw.replace(mark, poison))
        everything += _outputs(folder, capsys)
        (folder / make.file_name(k)).write_bytes(raw)
    for k in range(make.SHAPE[2] - 1):
        (folder / make.file_name(k)).write_bytes(b"ZZPHI" * 100)
        everything += _outputs(folder, capsys)
    _assert_private(everything + caplog.text + _warned(recwarn))


def _warned(recwarn: pytest.WarningsRecorder) -> str:
    return "\n".join(str(w.message) for w in recwarn)


def _assert_private(text: str) -> None:
    assert len(text) > 500
    for secret in (make.MARKER, "19460507", "1.2.826.0.1.3680043.8.498.2", "20240305"):
        assert secret not in text


def test_describe_spells_out_the_suv_arithmetic(shared_data: Path) -> None:
    (entry,) = describe(shared_data / "volumes/sts001-pet-mr-dicom/pet-fdg")
    steps = "\n".join(entry["suv_steps"])
    for words in ("weight [kg] = 71", "decay [s] = 2711", "factor = 0.000242902977"):
        assert words in steps
    assert (entry["modality"], entry["unit"], entry["problems"]) == ("PET", "SUVbw", [])


def test_describe_answers_for_nifti_too(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "t1.nii.gz")
    (entry,) = describe(tmp_path / "t1.nii.gz")
    assert (entry["modality"], entry["shape"], entry["problems"]) == ("MRI", [11, 8, 6], [])
    assert np.prod(entry["spacing"]) == pytest.approx(np.prod(make.SPACING), rel=1e-5)


def test_monai_reads_a_color_volume_as_channels(tmp_path: Path) -> None:
    from monai.transforms import LoadImage

    from medfuse.imaging.monai_reader import ClinicalReader
    from medfuse.results.export import write_nifti

    rgb = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 4)).astype(np.float32) / 255
    affine = np.diag([-2.0, 3.0, 1.5, 1.0])
    write_nifti(tmp_path / "fused_rgb.nii.gz", rgb, affine)
    found = LoadImage(reader=ClinicalReader, ensure_channel_first=True)(
        tmp_path / "fused_rgb.nii.gz"
    )
    np.testing.assert_allclose(np.asarray(found), rgb, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found.affine), affine)
