"""The whole chain: the files of `medfuse fuse`, byte for byte."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor

from medfuse import transforms as mt
from medfuse.case.pipeline import CaseSettings, run_case
from medfuse.errors import MedfuseError, UsageError
from medfuse.results.folder import is_complete
from medfuse.settings import DEFAULT_METHOD
from medfuse.verification.verify import verify
from tests._helpers.chain import IMAGES, chain, files, refusal, volume

TOLD_APART = {"manifest.json", "provenance.json", "provenance.prov.json", "report.html"}


def test_the_chain_writes_what_medfuse_fuse_writes_byte_for_byte(fused, pair, tmp_path):
    d, out = fused
    settings = CaseSettings(method="swift", registration="identity", preset="fast")
    run_case(Path(pair["mri"]), Path(pair["pet"]), tmp_path / "c", settings, case="sts001")
    ours, theirs = files(out / "sts001"), files(tmp_path / "c")
    assert ours.keys() == theirs.keys()
    assert sum(name.endswith(".nii.gz") and "/" not in name for name in theirs) == 6
    for name in theirs.keys() - TOLD_APART:
        assert ours[name] == theirs[name], name
    assert d["result_folder"] == str((out / "sts001").resolve())


@pytest.mark.parametrize(
    ("fixed", "moving", "guide", "bands"),
    [
        ("ct.nii.gz", "pet-suv-dicom", "anatomical-luma", 0),
        ("mr-t1.nii.gz", "ct.nii.gz", "volume-ct", 5),
    ],
)
def test_what_is_left_to_medfuse_the_chain_chooses_alike(
    sample_data, tmp_path, fixed, moving, guide, bands
):
    folder = sample_data / "study" / "sts001-aligned"
    case = {"mri": str(folder / fixed), "pet": str(folder / moving), "case": "one"}
    chain(tmp_path / "m", method=DEFAULT_METHOD)(case)
    settings = CaseSettings(registration="identity", preset="fast")
    run_case(folder / fixed, folder / moving, tmp_path / "c", settings, case="one")
    ours, theirs = files(tmp_path / "m" / "one"), files(tmp_path / "c")
    assert json.loads(theirs["provenance.json"])["guide"]["name"] == guide
    assert json.loads(ours["provenance.json"])["guide"]["name"] == guide
    names = {n for n in theirs if n.endswith((".nii.gz", ".tfm")) and "/" not in n} | {"audit.json"}
    assert sum(name.startswith("weights_level") for name in names) == bands
    assert len(names) == 8 + bands
    assert [n for n in names if ours[n] != theirs[n]] == []
    assert [f for f in verify(tmp_path / "m" / "one") if not f.ok] == []


def test_a_region_of_the_chain_is_that_of_medfuse_fuse(pair, sample_data, tmp_path):
    drawn = tmp_path / "tumor.nii.gz"
    ct = nib.load(pair["mri"])
    values = np.zeros(ct.shape, np.uint8)
    values[20:50, 20:50, 10:20] = 1
    nib.save(nib.Nifti1Image(values, ct.affine), drawn)
    mask = MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(ct.affine))
    for name, given in (("file", str(drawn)), ("mask", mask)):
        d = chain(tmp_path / name)({**pair, "region": given})
        assert d["registration"]["expected_error"]["places"][0]["name"] == "the region"
    options = {"method": "mean", "registration": "identity", "preset": "fast"}
    settings = CaseSettings(region=str(drawn), **options)
    run_case(Path(pair["mri"]), Path(pair["pet"]), tmp_path / "c", settings, case="sts001")
    theirs = files(tmp_path / "c")
    for name in ("region.nii.gz", "transform.json", "volumes.json"):
        assert files(tmp_path / "mask" / "sts001")[name] == theirs[name]
        assert files(tmp_path / "file" / "sts001")[name] == theirs[name]
    assert [f for f in verify(tmp_path / "mask" / "sts001") if not f.ok] == []


@pytest.mark.slow
def test_the_chain_registers_as_medfuse_fuse_does(sample_data, tmp_path):
    folder = sample_data / "study" / "simulated-brain"
    paths = folder / "t1.nii.gz", folder / "simulated-pet.nii.gz"
    case = {"mri": str(paths[0]), "pet": str(paths[1]), "case": "brain"}
    chain(tmp_path, registration="auto", report=True)(case)
    settings = CaseSettings(method="mean", preset="fast")
    run_case(*paths, tmp_path / "c", settings, case="brain")
    ours, theirs = files(tmp_path / "brain"), files(tmp_path / "c")
    kinds = (".nii.gz", ".tfm", "audit.json")
    names = [n for n in theirs if n.endswith(kinds) and not n.startswith("figures/")]
    assert len(names) == 8
    assert [n for n in names if ours[n] != theirs[n]] == []
    assert b'"method": "rigid"' in theirs["transform.json"]
    assert [f for f in verify(tmp_path / "brain", inputs=folder) if not f.ok] == []


def test_provenance_of_the_chain_says_what_was_done_to_what(fused):
    record = json.loads((fused[1] / "sts001" / "provenance.json").read_text())
    assert record["inputs"]["functional"]["shape"] == [41, 43, 59]  # as loaded, not as resampled
    assert record["inputs"]["anatomical"]["sha256"]
    assert [step["name"] for step in record["steps"]][:2] == ["register", "resample"]
    assert record["guide"]["name"].startswith("swift")
    assert len(record["guide"]["weights_sha256"]) == 64


def test_result_folders_of_the_chain_are_whole_and_free_of_paths(fused, sample_data):
    folder = fused[1] / "sts001"
    assert is_complete(folder, rehash=True)
    text = b"".join(p.read_bytes() for p in folder.glob("*.json"))
    assert str(sample_data).encode() not in text
    assert str(fused[1]).encode() not in text


def test_medfuse_verify_makes_the_result_of_the_chain_again(fused, pair):
    findings = verify(fused[1] / "sts001", inputs=Path(pair["mri"]).parent)
    assert len(findings) > 10
    assert [f for f in findings if not f.ok] == []


def test_a_data_loader_with_two_workers_makes_the_same_files(fused, pair, tmp_path):
    cases = [{**pair, "case": name} for name in ("one", "two")]
    loader = DataLoader(
        Dataset(cases, chain(tmp_path, method="swift")), batch_size=1, num_workers=2
    )
    batches = list(loader)
    assert [b["case"] for b in batches] == [["one"], ["two"]]
    assert batches[0]["fused"].shape == (1, *fused[0]["fused"].shape)
    assert batches[0]["audit"]["verdict"] == [fused[0]["audit"]["verdict"]]
    expected = files(fused[1] / "sts001")
    for name in ("one", "two"):
        made = {n: c for n, c in files(tmp_path / name).items() if n.endswith((".nii.gz", ".tfm"))}
        assert len(made) == 7
        assert all(content == expected[n] for n, content in made.items())


def test_the_chain_survives_pickling(fused, pair, tmp_path):
    again = pickle.loads(pickle.dumps(chain(tmp_path, method="swift")))(pair)
    for key in IMAGES:
        assert torch.equal(again[key].as_tensor(), fused[0][key].as_tensor())


def test_a_scan_that_the_reader_refuses_is_not_read_by_another_reader(pair, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        chain(tmp_path)({**pair, "pet": str(tmp_path)})
    assert isinstance(refusal(caught.value), MedfuseError)


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "..", "a\\b"])
def test_case_names_cannot_leave_the_output_folder(fused, tmp_path, name):
    d = {**fused[0], "case": name}
    with pytest.raises(UsageError, match="E_CASE_NAME"):
        mt.SaveFusiond(output_dir=tmp_path / "out")(d)
    assert not any(tmp_path.iterdir())


def test_cases_without_a_name_are_named_by_their_content(fused, tmp_path):
    nameless = {k: v for k, v in fused[0].items() if k != "case"}
    save = mt.SaveFusiond(output_dir=tmp_path, report=False)
    first, second = (save(nameless)["result_folder"] for _ in range(2))
    assert first == second
    assert re.fullmatch(r"case-[0-9a-f]{8}", Path(first).name)


def test_saving_says_which_step_is_missing(tmp_path):
    d = mt.FuseLuminanced("mri", "pet", method="mean")({"mri": volume(), "pet": volume(seed=1)})
    with pytest.raises(KeyError, match="put AuditFusiond and RegisterRigidd before it"):
        mt.SaveFusiond(output_dir=tmp_path)(d)
