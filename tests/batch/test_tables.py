"""Regions of a study: measured with each case, put together, shown, and measured again."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.batch import run_batch
from medfuse.batch.shard import Shard
from medfuse.batch.tables import write_tables
from medfuse.measurement.table import RegionTable, Row, head
from medfuse.report.regions import study_regions
from medfuse.results.folder import MANIFEST
from medfuse.settings import CaseSettings
from medfuse.study import discover
from medfuse.verification.verify import verify

SETTINGS = CaseSettings(registration="identity", accept_suspect=True, method="mean")


@pytest.fixture(scope="module")
def study(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases; one has a label map and a file that is not there, the other no regions."""
    folder = tmp_path_factory.mktemp("regions") / "study"
    whole = sample_data / "study" / "sts001-aligned"
    piece = nib.load(whole / "mr-t1.nii.gz").slicer[50:98, 60:100, 10:22]
    for case in ("one", "two"):
        shutil.copytree(whole / "pet-suv-dicom", folder / case / "pet")
        nib.save(piece, folder / case / "mr-t1.nii.gz")
    labels = np.zeros(piece.shape, np.uint8)
    labels[10:30, 12:34, 3:9], labels[2:6, 2:6, 2:6] = 1, 2
    (folder / "masks").mkdir()
    nib.save(nib.Nifti1Image(labels, piece.affine), folder / "masks" / "one.nii.gz")
    (folder / "masks" / "one.tsv").write_text("index\tname\n1\tblock\n2\tblock\n")
    (folder / "cases.csv").write_text(
        "case,anatomical,functional,regions\n"
        "one,one/mr-t1.nii.gz,one/pet,masks/one.nii.gz;lost=masks/lost.nii.gz\n"
        "two,two/mr-t1.nii.gz,two/pet,\n"
    )
    return folder


@pytest.fixture(scope="module")
def out(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "out"
    summary = run_batch(discover(study), folder, SETTINGS, workers=1)
    assert summary.exit_code == 0
    notes = [note for result in summary.results for note in result.notes]
    assert any(note.startswith("region 'lost': not measured") for note in notes)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


def test_measurements_of_all_cases_are_one_table_with_its_meaning(out):
    found = rows(out / "measurements.tsv")
    assert [(row["case"], row["region"]) for row in found] == [
        ("one", "block"),
        ("one", "block (2)"),
        ("one", "lost"),
    ]
    assert {row["measured_on"] for row in found[:2]} == {"unresampled"}
    assert float(found[0]["anatomical_contribution"]) > 0
    assert found[2]["remark"].startswith("not measured")
    meaning = json.loads((out / "measurements.json").read_text())
    assert found[0].keys() <= meaning.keys()
    summary = rows(out / "summary.tsv")
    assert [row["case"] for row in summary] == ["one", "two"]
    assert summary[0]["code"] == "n/a"
    assert summary[0].keys() <= json.loads((out / "summary.json").read_text()).keys()


def test_pages_list_the_regions_and_no_file_is_named(out, study):
    page = (out / "one" / "report.html").read_text()
    assert "<h2>Regions</h2>" in page
    assert "block" in page
    assert "<h2>Regions</h2>" not in (out / "two" / "report.html").read_text()
    assert "<h2>Regions</h2>" in (out / "study.html").read_text()
    figures = out / "one" / "figures"
    assert json.loads((figures / "figures.json").read_text())["viewer"]["regions"] == [
        "block", "block (2)",
    ]  # fmt: skip
    shown = np.asarray(nib.load(figures / "viewer_regions.nii.gz").dataobj)
    assert set(np.unique(shown)) == {0, 1, 2}, "the contours in the viewer"
    assert (
        "regions"
        not in json.loads((out / "two/figures/figures.json").read_text())["viewer"]["files"]
    )
    names = ("measurements.tsv", "measurements.json", "provenance.json", "report.html")
    beside = ("batch.jsonl", "summary.csv", "summary.tsv", "measurements.tsv", "study.html")
    for path in [*(out / "one" / name for name in names), *(out / name for name in beside)]:
        text = path.read_text()
        assert "lost.nii" not in text
        assert "one.nii" not in text
        assert str(study) not in text


def test_finished_cases_are_skipped_until_their_regions_change(out, study, tmp_path):
    again = tmp_path / "out"
    shutil.copytree(out, again)
    summary = run_batch(discover(study), again, SETTINGS, workers=1)
    assert summary.count("skipped") == 2
    from medfuse.case.pipeline import case_key

    settings = SETTINGS.model_copy(update={"regions": (str(tmp_path / "m.nii.gz"),)})
    pair = study / "one" / "mr-t1.nii.gz", study / "one" / "pet"
    before = case_key(*pair, settings)
    shutil.copy(study / "masks" / "one.nii.gz", tmp_path / "m.nii.gz")
    assert case_key(*pair, settings) != before


def test_verify_measures_again_and_says_where_it_cannot(out, study, tmp_path):
    found = {f.what: f for f in verify(out / "one", inputs=study)}
    assert all(f.ok for f in found.values()), [f for f in found.values() if not f.ok]
    assert "measurements" not in found
    without = tmp_path / "study"
    shutil.copytree(study, without, ignore=shutil.ignore_patterns("masks"))
    partly = {f.what: f for f in verify(out / "one", inputs=without)}
    assert not partly["measurements"].checked
    assert all(f.ok for f in partly.values()), [f for f in partly.values() if not f.ok]
    alone = {f.what: f for f in verify(out / "one")}
    assert not alone["measurements"].checked
    altered = tmp_path / "results" / "one"
    shutil.copytree(out / "one", altered)
    table = altered / "measurements.tsv"
    table.write_text(table.read_text().replace("block", "blokc"))
    assert not all(f.ok for f in verify(altered))


def test_the_views_show_the_outlines_of_the_regions(out):
    from PIL import Image

    from medfuse.results.outlines import REGION_COLOURS

    index = json.loads((out / "one" / "figures" / "figures.json").read_text())
    assert [region["name"] for region in index["regions"]] == ["block", "block (2)"]
    strip = index["slices"]["rows"][len(index["slices"]["rows"]) // 2]["file"]
    pixels = np.asarray(Image.open(out / "one" / "figures" / strip).convert("RGB"))
    assert (pixels == REGION_COLOURS[0]).all(axis=-1).sum() > 50
    page = (out / "one" / "report.html").read_text()
    assert all(f'fill="{region["colour"]}"' in page for region in index["regions"])


def test_without_the_files_of_the_regions_that_is_said(out, study, tmp_path):
    shutil.copytree(study / "one", tmp_path / "one")
    found = {f.what: f for f in verify(out / "one", inputs=tmp_path)}
    assert all(f.ok for f in found.values()), [f for f in found.values() if not f.ok]
    assert not found["measurements"].checked
    assert "figures" in found["measurements"].text


def test_a_shard_on_dask_workers_without_shared_storage_measures_the_same(out, study, tmp_path):
    """The case with regions travels to a worker; the other shard, here, ends the tables."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    cluster_module = importlib.import_module("medfuse.batch.cluster")
    again = tmp_path / "out"
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as workers:
        far = cluster_module.Cluster(workers.scheduler_address, ship=True)
        first = run_batch(discover(study), again, SETTINGS, cluster=far, shard=Shard(1, 2))
    assert [result.case for result in first.results] == ["one"]
    assert [row["case"] for row in rows(again / "measurements.tsv")] == ["one"] * 3
    (again / "measurements.tsv").unlink()
    second = run_batch(discover(study), again, SETTINGS, workers=1, shard=Shard(2, 2))
    assert [result.case for result in second.results] == ["two"]
    for name in ("measurements.tsv", "measurements.json", "one/measurements.tsv"):
        assert (again / name).read_bytes() == (out / name).read_bytes()
    assert [row["case"] for row in rows(again / "summary.tsv")] == ["one", "two"]
    page = (again / "study.html").read_text()
    assert "<h2>Regions</h2>" in page
    assert (again / "one/figures/slice_02.png").read_bytes() == (
        out / "one/figures/slice_02.png"
    ).read_bytes()


def made(out: Path, case: str, **numbers: float) -> None:
    """A result folder with nothing but a table."""
    (out / case).mkdir(parents=True)
    (out / case / MANIFEST).write_text('{"schema": "medfuse-manifest/1", "files": {}}')
    row = Row(region="liver", unit="SUVbw", volume_ml=10.0, **numbers)
    RegionTable((row,)).write(out / case / "measurements.tsv")


def test_the_study_page_finds_the_outlier_of_a_region(tmp_path):
    for number in range(12):
        made(tmp_path, f"case{number:02d}", mean=2 + 0.01 * number, max=3.0)
    made(tmp_path, "odd", mean=9.0, max=3.0)
    found, left_out = study_regions(tmp_path)
    by_name = {row["measure"]: row for row in found}
    assert left_out == 0
    assert [one["case"] for one in by_name["SUVmean"]["odd"]] == ["odd"]
    assert by_name["SUVmean"]["median"] == pytest.approx(2.06)
    assert by_name["SUVmax"]["odd"] == []
    assert sum(n for _, n in by_name["SUVmean"]["dots"]) == 13


def test_a_table_of_another_version_is_left_out_and_no_table_is_no_file(tmp_path):
    made(tmp_path, "a", mean=1.0)
    made(tmp_path, "b", mean=1.0)
    (tmp_path / "b" / "measurements.tsv").write_text("region\tother\nliver\t1\n")
    write_tables(tmp_path)
    assert [row["case"] for row in rows(tmp_path / "measurements.tsv")] == ["a"]
    assert (tmp_path / "measurements.tsv").read_text().startswith(head("case"))
    for case in ("a", "b"):
        (tmp_path / case / "measurements.tsv").unlink()
    write_tables(tmp_path)
    assert not (tmp_path / "measurements.tsv").exists()
