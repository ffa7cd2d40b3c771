"""A contradiction in the report: shown at its place, and marked wherever a view passes through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medfuse.report.panels import EDGE_COLOUR
from tests._helpers.report_cases import SHAPE, SPOT_RAS, make_case, make_volumes, read_page

HEADING = "Where the fused image contradicts both sources"


def figures(page: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((page.parent / "figures/figures.json").read_text())
    return found


def lines(page: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of a mark."""
    picture = np.asarray(Image.open(page.parent / "figures" / name).convert("RGB"))
    return np.nonzero((picture == EDGE_COLOUR).all(axis=-1))


def place(slice_: int) -> np.ndarray:
    """A place at the right front: slices lie along the first axis of the made volume."""
    found = np.zeros(SHAPE, np.uint8)
    found[slice_, 6:16, 5:11] = 1
    found[slice_, 9:13, 7:9] = 2
    return found


def test_a_report_without_a_contradiction_has_no_place_for_one(tmp_path: Path) -> None:
    page = make_case(tmp_path / "case")
    assert "contradiction" not in figures(page)
    assert HEADING not in read_page(page).text
    assert not lines(page, "axial_fused.png")[0].size


def test_the_worst_slice_is_shown_outlined_and_close(tmp_path: Path) -> None:
    found = place(9)
    found[4, 20:22, 10:12] = 2  # fewer pixels in another slice
    page = make_case(tmp_path / "case", volumes=make_volumes(contradiction=found))
    shown = figures(page)["contradiction"]
    assert shown["columns"] == ["anatomical", "functional", "fused"]
    assert HEADING in read_page(page).text
    assert f"slice {shown['index']}" in read_page(page).text
    rows, columns = lines(page, shown["files"]["outlined"])
    height, width = np.asarray(
        Image.open(page.parent / "figures" / shown["files"]["outlined"])
    ).shape[:2]
    thirds = np.unique(columns // (width / 3))
    assert thirds.tolist() == [0, 1, 2], "in every panel"
    first = columns[columns < width / 3]
    assert first.mean() < width / 6, "the patient's right is on the left"
    assert rows.mean() < height / 2
    assert not lines(page, shown["files"]["close_up"])[0].size


@pytest.mark.parametrize("through", [True, False])
def test_views_have_the_mark_where_they_pass_through_the_place(
    tmp_path: Path, through: bool
) -> None:
    volumes = make_volumes()
    spot = np.rint(np.linalg.inv(volumes.affine) @ [*SPOT_RAS, 1]).astype(int)
    found = place(int(spot[0]) if through else int(spot[0]) - 5)
    page = make_case(tmp_path / "case", volumes=make_volumes(contradiction=found))
    for name in ("anatomical", "functional", "fused", "overlay"):
        assert bool(lines(page, f"axial_{name}.png")[0].size) == through
