"""Layouts of challenges and of DataLad, and what else lies in the folders of real studies."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from medfuse.errors import InputError
from medfuse.imaging.reader import describe
from medfuse.study import Study, discover, explain
from tests._helpers.tiny_nifti import nifti

CONTENT = Path(".git/annex/objects/Xx/Yy/MD5E-s9--0123.nii.gz/MD5E-s9--0123.nii.gz")


def pairs(study: Study) -> dict[str, tuple[str, str]]:
    return {
        c.name: tuple(p.relative_to(study.root).as_posix() for p in (c.anatomical, c.functional))
        for c in study.cases
    }


def why(study: Study) -> str:
    return "\n".join(" ".join(row) for row in explain(study))


# Challenges --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anatomical", "functional"),
    [
        ("{}__CT", "{}__PT"),
        ("{}_ct", "{}_pt"),
        ("CT_{}", "PET_{}"),
        ("{}-T1w", "{}-FDG"),
        ("{}.mr", "{}.spect"),
        ("{}_MR_v2", "{}_CT_v2"),
        ("CT/{}", "PET/{}"),
        ("ct/{}_ct", "pt/{}_pt"),
        ("{}_0000", "{}_0001"),
    ],
)
def test_a_flat_folder_of_several_persons_is_paired_by_names(
    tmp_path: Path, anatomical: str, functional: str
) -> None:
    persons = ("CHUM-001", "CHUM-002", "HGJ_010")
    names = {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0}}
    (tmp_path / "dataset.json").write_text(json.dumps(names))
    for person in persons:
        for name in (anatomical, functional):
            nifti(tmp_path / f"imagesTr/{name.format(person)}.nii.gz")
        nifti(tmp_path / f"labelsTr/{person}.nii.gz")
    nifti(tmp_path / f"imagesTr/{anatomical.format('CHUM-003')}.nii.gz")
    study = discover(tmp_path)
    found = pairs(study)
    assert len(found) == len(persons)
    for (name, images), person in zip(found.items(), persons, strict=True):
        assert name.startswith(f"imagesTr_{person}")
        assert images == tuple(
            f"imagesTr/{n.format(person)}.nii.gz" for n in (anatomical, functional)
        )
    assert any(s.subject and "CHUM-003" in str(s.path) for s in study.skipped)


def test_channels_without_a_dataset_json_are_refused_with_the_way_out(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        nifti(tmp_path / f"imagesTr/{name}.nii.gz")
    study = discover(tmp_path)
    assert not study.cases
    assert "no dataset.json says what channel 0001 is: name the pair in a cases.csv" in why(study)


@pytest.mark.parametrize("key", ["channel_names", "modality"])
@pytest.mark.parametrize("place", ["", "imagesTr"])
def test_nnunet_tells_the_modality_to_the_reader(tmp_path: Path, key: str, place: str) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        nifti(tmp_path / f"imagesTr/{name}.nii.gz")
    (tmp_path / place / "dataset.json").write_text(json.dumps({key: {"0": "SUV PET", "1": "T1"}}))
    cases = discover(tmp_path).cases
    assert [c.functional.name for c in cases] == ["a_0000.nii.gz", "b_0000.nii.gz"]
    assert cases[0].overrides == {"functional_modality": "PET", "anatomical_modality": "MRI"}


def test_autopet_takes_the_suv_and_the_ct_of_the_scanner(tmp_path: Path) -> None:
    for person in ("PETCT_01/2001-01-01-study", "PETCT_02/2002-02-02-study"):
        for name in ("CT", "CTres", "PET", "SUV", "SEG"):
            nifti(tmp_path / person / f"{name}.nii.gz")
    assert [
        (a.split("/")[-1], f.split("/")[-1]) for a, f in pairs(discover(tmp_path)).values()
    ] == [("CT.nii.gz", "SUV.nii.gz")] * 2


def test_several_images_of_one_person_are_still_refused(tmp_path: Path) -> None:
    for name in ("anna_t1_run1", "anna_t1_run2", "anna_pet_run1"):
        nifti(tmp_path / f"s/{name}.nii.gz")
    study = discover(tmp_path)
    assert not study.cases
    (skipped,) = study.skipped
    assert skipped.subject
    assert "anna" in skipped.reason
    assert "anna" not in skipped.written
    assert "2 equally good anatomical images" in skipped.written


def test_other_formats_of_volumes_are_named(tmp_path: Path) -> None:
    nifti(tmp_path / "s1/t1.nii")
    for name in ("pet.mha", "pet2.MHA", "seg.nrrd"):
        (tmp_path / "s1" / name).write_bytes(b"x" * 200)
    text = why(discover(tmp_path))
    assert "2 .mha file(s): convert them to NIfTI" in text
    assert "1 .nrrd file(s)" in text


# DataLad, git-annex, Git LFS ---------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "study"])
@pytest.mark.parametrize("bids", [True, False])
def test_links_of_datalad_are_followed_out_of_the_study(
    tmp_path: Path, below: str, bids: bool
) -> None:
    nifti(tmp_path / CONTENT)
    names = ("anat/sub-01_T1w", "pet/sub-01_pet") if bids else ("t1", "pet")
    for name in names:
        link = tmp_path / below / f"sub-01/{name}.nii.gz"
        link.parent.mkdir(parents=True, exist_ok=True)
        content = tmp_path / CONTENT.with_name(link.name)
        nifti(content)
        link.symlink_to(os.path.relpath(content, link.parent))
    assert list(pairs(discover(tmp_path / below))) == ["sub-01"]
    content.unlink()
    study = discover(tmp_path / below)
    assert not study.cases
    assert "datalad get" in why(study)
    with pytest.raises(InputError, match=r"datalad get.*E_NO_CONTENT"):
        describe(link)


def test_a_link_to_the_annex_of_another_data_set_leaves_the_study(tmp_path: Path) -> None:
    nifti(tmp_path / "other" / CONTENT)
    nifti(tmp_path / "study/s1/t1.nii.gz")
    (tmp_path / "study/s1/pet.nii.gz").symlink_to(tmp_path / "other" / CONTENT)
    assert "the link leaves the study folder" in why(discover(tmp_path / "study"))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("/annex/objects/MD5E-s12345--0123456789abcdef.nii.gz\n", "datalad get"),
        ("../../.git/annex/objects/Xx/Yy/MD5E-s1--01.dcm/MD5E-s1--01.dcm", "datalad get"),
        ("..\\.git\\annex\\objects\\Xx\\Yy\\MD5E-s1--01\\MD5E-s1--01", "datalad get"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["pet.nii.gz", "pet.nii", "pet.dcm", "IM0001", "series/IM0001"])
def test_pointers_are_named_with_the_way_to_their_content(
    tmp_path: Path, text: str, remedy: str, name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    (path.parent / "README.md").write_text(text)
    with pytest.raises(InputError, match=rf"pointer.*{remedy}.*E_NO_CONTENT"):
        describe(path.parent if "/" in name else path)


# Odd things in the tree --------------------------------------------------------------------------


def oddities(folder: Path) -> None:
    """All that may lie in a folder and is no image."""
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "pet_fifo.nii.gz")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as it, Inside(folder):
        it.bind("s.nii")
    (folder / "self").symlink_to("self")
    (folder / "self.nii").symlink_to("self.nii")
    (folder / "up").symlink_to("..")
    (folder / "null.nii").symlink_to("/dev/null")
    (folder / "gone.nii").symlink_to("nowhere.nii")
    for name in ("dataset_description", "manifest", "dataset", "cases", "odd_pet"):
        (folder / f"{name}.json").write_bytes(b"[" * 100_000)
    (folder / "participants.tsv").write_bytes(b"participant_id\tweight\n\xff\xfe\0\n")
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    nifti(folder / "odd_pet.nii.gz")
    Path(os.fsdecode(os.fsencode(folder) + b"/M\xfcller")).mkdir()
    nifti(Path(os.fsdecode(os.fsencode(folder) + b"/M\xfcller/t1_\xe9.nii")))
    (folder / "huge_t1.nii.gz").write_bytes(b"")


class Inside:
    def __init__(self, folder: Path) -> None:
        self.folder, self.before = folder, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self.folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


@pytest.mark.parametrize("bids", [True, False])
def test_nothing_that_lies_in_a_study_ends_it(tmp_path: Path, bids: bool) -> None:
    oddities(tmp_path / "odd")
    oddities(tmp_path / "sub-00/anat")
    oddities(tmp_path / "sub-00/pet")
    names = ("anat/sub-01_T1w", "pet/sub-01_pet") if bids else ("t1", "pet")
    for name in names:
        nifti(tmp_path / f"sub-01/{name}.nii.gz")
    (tmp_path / "sub-02").symlink_to("sub-02")
    study = discover(tmp_path)
    assert "sub-01" in pairs(study)
    assert all(skipped.reason for skipped in study.skipped)
    json.dumps([*explain(study)]).encode()


def test_a_folder_that_fails_is_one_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that nobody foresaw: here of the part that reads DICOM headers."""
    for person in ("s1", "s2", "s3"):
        nifti(tmp_path / person / "t1.nii")
        nifti(tmp_path / person / "pet.nii")
    (tmp_path / "s2/IM0001").write_bytes(b"x" * 200)

    def fail(path: Path, name: str) -> None:
        raise StopIteration(name)

    monkeypatch.setattr("medfuse.study.scan.read_header", fail)
    study = discover(tmp_path)
    assert list(pairs(study)) == ["s1", "s3"]
    assert [s.path.name for s in study.skipped if s.subject] == ["s2"]
    assert "cannot be looked at (stopiteration)" in study.skipped[-1].reason


def test_a_name_of_bids_outside_its_folders_is_no_failure(tmp_path: Path) -> None:
    for name in ("sub-01_T1w", "sub-01_pet"):
        nifti(tmp_path / f"one/{name}.nii.gz", Units="Bq/mL")
    assert list(pairs(discover(tmp_path))) == ["one"]


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pet.nii.gz"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="a pipe, a socket or a device"):
        describe(path)
