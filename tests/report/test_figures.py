"""The pictures of a report: the right place, the right side, the right shape and colour."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

import medfuse
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.kernel.colormaps import apply_colormap
from medfuse.report.figures import _laid_over, write_figures
from medfuse.report.panels import make_views
from medfuse.results.outlines import Outlines, Piece, region_rgb
from tests._helpers.report_cases import (
    AFFINE,
    SHAPE,
    SPOT_RAS,
    make_case,
    make_volumes,
    read_page,
    world,
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_case(tmp_path_factory.mktemp("report") / "sub-01")


def _panel(report: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(report.parent / "figures" / name), dtype=float)


def test_views_go_through_the_hottest_spot(report: Path) -> None:
    spot = json.loads((report.parent / "figures" / "figures.json").read_text())["spot"]
    grid = Grid(shape=SHAPE, affine=AFFINE)
    assert np.abs(np.array(spot["ras_mm"]) - SPOT_RAS).max() <= max(grid.spacing) / 2
    x, y, z = spot["index"]
    assert spot["value"] == pytest.approx(float(make_volumes().functional_values[x, y, z]))
    assert spot["value"] > 6, "the true value, not the end of the window"


@pytest.mark.parametrize(
    ("plane", "rightwards", "downwards"),
    [("axial", -1, -1), ("coronal", -1, -1), ("sagittal", -1, -1)],
)
def test_views_are_radiological(report: Path, plane: str, rightwards: int, downwards: int) -> None:
    """The spot lies left, front and above: right in the picture, up, and left in sagittal."""
    picture = _panel(report, f"{plane}_functional.png").min(axis=-1)
    cropped = picture[25:-25, 25:-25]
    rows, columns = np.nonzero(cropped > 0.8 * cropped.max())
    middle = (np.array(cropped.shape) - 1) / 2
    assert rows.mean() < middle[0]
    assert (columns.mean() > middle[1]) == (plane != "sagittal")


def test_panels_have_true_proportions(report: Path) -> None:
    figures = json.loads((report.parent / "figures" / "figures.json").read_text())
    assert [p["plane"] for p in figures["planes"]] == ["axial", "coronal", "sagittal"]
    picture = _panel(report, "axial_anatomical.png")
    # The ball has a diameter of 34 mm in both directions although voxels are 1 x 2 mm. A line of
    # the cross is one pixel wide: it does not count.
    seen = picture.max(axis=-1) > 100
    height, width = (np.count_nonzero(seen.mean(axis=across) > 0.15) for across in (1, 0))
    assert width / height == pytest.approx(1, abs=0.08)


def test_functional_colours_are_those_of_the_colour_map(report: Path) -> None:
    ramp = np.asarray(Image.open(report.parent / "figures" / "scale_functional.png"))
    expected = apply_colormap(torch.linspace(0, 1, 256)[None, None, None], "hot")[0, :, 0]
    assert np.abs(ramp[0] - 255 * expected.numpy().T).max() <= 0.51


def test_the_overlay_beside_the_picture_is_that_of_the_style() -> None:
    volumes = make_volumes()
    grid = Grid(shape=SHAPE, affine=AFFINE)
    (view,) = make_views(grid, np.ones(SHAPE, bool), [DisplayOrder.from_grid(grid)], side=SHAPE[0])
    image = MetaTensor(torch.from_numpy(volumes.functional[None]), affine=torch.from_numpy(AFFINE))
    image.meta["field_of_view"] = {
        "shape": [12, SHAPE[1], SHAPE[2]], "affine": AFFINE.tolist(),
        "moving_from_fixed": np.eye(4).tolist(),
    }  # fmt: skip
    fused = medfuse.fuse(
        functional=image,
        anatomical=MetaTensor(torch.from_numpy(volumes.anatomical[None]), affine=image.affine),
        style="overlay",
    )
    inside = fused.coverage[0].numpy()
    volumes = replace(volumes, coverage=inside)
    ours = _laid_over(volumes, view, 9)
    theirs = view.cut(fused.rgb.numpy(), 9)
    assert 0 < inside.mean() < 1
    assert np.abs(ours - np.rint(255 * theirs)).max() <= 1


def test_every_view_draws_lines_around_the_regions_at_the_place_of_each_position(
    tmp_path: Path,
) -> None:
    distance = np.linalg.norm(world() - np.reshape(SPOT_RAS, (3, 1, 1, 1)), axis=0)
    inside = distance < 7
    here, there = (
        Outlines(SHAPE, names, (Piece(label, inside, (0, 0, 0)),))
        for label, names in ((1, ("lesion",)), (2, ("lesion", "as it lay")))
    )
    volumes = make_volumes(
        regions=here,
        regions_at={"before": there, "start": there},
        functional_at={"start": make_volumes().functional},
        error_at=lambda points: np.full(len(points), 3.0),
        displacement_at=lambda points: np.full(len(points), 2.0),
        coverage=inside,
        contradiction=np.where(distance < 2, 2, 0).astype(np.uint8),
    )
    write_figures(tmp_path, volumes)
    pictures = sorted((tmp_path / "figures").glob("*.png"))
    bare = [p.stem for p in pictures if p.stem.startswith("scale_")]
    moved = {"registration_before", "checkerboard_before", "position_start"}
    assert len(pictures) > 25
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        seen = {n for n in (1, 2) if (pixels == region_rgb(n)).all(axis=-1).sum() > 10}
        expected = {2} if path.stem in moved else {1}
        assert seen == (set() if path.stem in bare else expected), path.stem


def test_an_overlay_needs_no_overlay_beside_it(tmp_path: Path) -> None:
    page = make_case(tmp_path / "case", volumes=make_volumes(overlay=None))
    figures = json.loads((page.parent / "figures/figures.json").read_text())
    assert figures["slices"]["columns"] == [
        "anatomical", "functional", "fused", "weights", "share",
    ]  # fmt: skip
    assert "Overlay" not in read_page(page).text
    page = make_case(tmp_path / "other")
    figures = json.loads((page.parent / "figures/figures.json").read_text())
    assert figures["slices"]["columns"][3] == "overlay"
    assert "Overlay" in read_page(page).text


def test_left_right_difference_stays_on_its_side(report: Path) -> None:
    picture = _panel(report, "coronal_anatomical.png").mean(axis=-1)
    half = picture.shape[1] // 2
    assert picture[:, half + 10 :].mean() > 1.3 * picture[:, : half - 10].mean()


def test_single_slice_and_colour_input_make_a_report(tmp_path: Path) -> None:
    full = make_volumes()
    one = {
        name: getattr(full, name)[9:10] for name in ("anatomical", "weights", "share", "coverage")
    }
    rgb = full.fused[:, 9:10]
    flat = replace(
        full,
        **one,
        fused=rgb,
        functional=rgb,
        functional_values=None,
        functional_before=None,
        window=None,
    )
    text = read_page(make_case(tmp_path / "case", volumes=flat)).text
    figures = json.loads((tmp_path / "case/figures/figures.json").read_text())
    assert [p["plane"] for p in figures["planes"]] == ["axial"]
    assert len(figures["slices"]["rows"]) == 1
    assert set(figures["registration"]["files"]) == {"registration_after", "checkerboard_after"}
    assert "no unit" in text


def test_no_coverage_and_empty_images_still_make_a_report(tmp_path: Path) -> None:
    full = make_volumes()
    empty = replace(
        full,
        anatomical=np.zeros(SHAPE, np.float32),
        functional=np.zeros(SHAPE, np.float32),
        functional_values=np.zeros(SHAPE, np.float32),
        coverage=np.zeros(SHAPE, bool),
    )
    assert make_case(tmp_path / "case", volumes=empty).is_file()


def test_real_brain_makes_calm_small_page(tmp_path: Path, shared_data: Path) -> None:
    image = nib.load(shared_data / "volumes/mni-templates/cit168-t1-brain.nii.gz")
    brain = image.get_fdata(dtype=np.float32) / 255
    volumes = replace(
        make_volumes(),
        anatomical=brain,
        functional=brain**2,
        functional_values=brain**2,
        functional_before=None,
        fused=np.stack([brain**2, brain, brain]),
        weights=brain,
        share=brain,
        coverage=np.ones(brain.shape, bool),
        affine=image.affine,
    )
    page = make_case(tmp_path / "brain", volumes=volumes)
    assert 300_000 < page.stat().st_size < 6_000_000
    with Image.open(page.parent / "figures" / "sagittal_fused.png") as picture:
        assert picture.height == 420 or picture.width == 420
