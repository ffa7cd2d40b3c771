"""The viewer in the report: small true copies of the volumes, and what a browser makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medfuse.errors import InputError
from medfuse.imaging.grid import transform_points
from medfuse.report import viewer
from medfuse.report.case import render_report, report_page
from medfuse.report.embedded import MAX_BYTES, places
from medfuse.results.outlines import Outlines, Piece
from tests._helpers.browser import Browser, find_browser
from tests._helpers.report_cases import (
    AFFINE,
    SHAPE,
    SPOT_RAS,
    make_audit,
    make_case,
    make_registration,
    make_volumes,
    world,
)

READY = "document.querySelector('.viewer').dataset.ready === 'yes'"
SPOTS = [[-9.0, 12.0, 9.0], [5.0, -2.0, 0.0]]


def audit_with_places() -> dict[str, Any]:
    audit = make_audit()
    spots = [{"position_ras_mm": mm} for mm in [*SPOTS, [None, 0, 0]]]
    more = {"title": "Hot spots", "value": 1.0, "unit": "", "threshold": None, "verdict": "pass"}
    audit["checks"].append({"id": "hot_spots", "text": "", "details": {"spots": spots}, **more})
    return audit


def read(folder: Path, name: str) -> Any:
    return nib.load(folder / "figures" / f"viewer_{name}.nii.gz")


def told(folder: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((folder / "figures" / "figures.json").read_text())
    return dict(index["viewer"])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inside = np.linalg.norm(world() - np.reshape(SPOT_RAS, (3, 1, 1, 1)), axis=0) < 5
    volumes = make_volumes(
        regions=Outlines(SHAPE, ("lesion </script>",), (Piece(1, inside, (0, 0, 0)),)),
        error_at=lambda points: 3 + np.abs(points[:, 0]) / 10,
    )
    target = tmp_path_factory.mktemp("viewer") / "sub-01"
    return make_case(target, volumes=volumes, audit=audit_with_places()).parent


def test_copies_lie_where_the_volumes_lie(case: Path) -> None:
    volumes = make_volumes()
    for name, expected in (("anatomical", volumes.anatomical), ("luminance", None)):
        copy = read(case, name)
        points = transform_points(copy.affine, np.argwhere(np.ones(copy.shape)))
        index = transform_points(np.linalg.inv(AFFINE), points)
        assert np.abs(index - index.round()).max() < 1e-4, "small volumes are not down-sampled"
        if expected is not None:
            seen = expected[tuple(index.round().astype(int).T)].reshape(copy.shape)
            assert np.abs(np.asarray(copy.dataobj) / 255 - seen).max() < 1 / 255
    labels = np.asarray(read(case, "regions").dataobj)
    middle = transform_points(read(case, "regions").affine, np.argwhere(labels)).mean(axis=0)
    assert np.abs(middle - SPOT_RAS).max() < 1.5


@pytest.mark.parametrize("most", [40_000, 3_000])
def test_a_volume_that_is_too_large_is_averaged_in_place(most: int) -> None:
    volumes = make_volumes()
    grid = viewer.Grid(SHAPE, AFFINE)
    lattice = viewer.Lattice.of(grid, [(1, 14), (3, 40), (0, 29)], most)
    assert np.prod(lattice.shape) <= most
    small = lattice.shrink((volumes.functional_values / 10).__getitem__)
    at = np.unravel_index(
        lattice.shrink((volumes.functional_values / 10).__getitem__).argmax(), small.shape
    )
    spacing = np.abs(lattice.affine[:3, :3]).sum(axis=1)
    assert (np.abs(transform_points(lattice.affine, at) - SPOT_RAS) <= spacing / 2 + 1.5).all()
    soft = lattice.coarser(6.0)
    ends = [
        transform_points(x.affine, [np.full(3, -0.5), np.array(x.shape) - 0.5])
        for x in (lattice, soft)
    ]
    assert np.allclose(*ends), "both cover the same part"


def test_bytes_hold_values_up_to_the_hottest_and_the_colors_of_the_picture(case: Path) -> None:
    volumes, copy = make_volumes(), read(case, "functional")
    scale, codes = told(case)["windows"]["functional"], np.asarray(copy.dataobj).astype(float)
    assert scale["top"] > 9 > scale["high"], "the display window ends before the hottest spot"
    shown = scale["low"] + ((codes - 1) / 254) ** 2 * (scale["top"] - scale["low"])
    index = transform_points(np.linalg.inv(AFFINE) @ copy.affine, np.argwhere(codes >= 0))
    around = [tuple(np.clip(index + shift, 0, np.array(SHAPE) - 1).round().astype(int).T)
              for shift in np.ndindex(2, 2, 2)]  # fmt: skip
    values = np.stack([volumes.functional_values[a] for a in around])
    low, high = values.min(axis=0) - 0.1, values.max(axis=0) + 0.1
    assert ((shown.ravel() > low) & (shown.ravel() < high)).mean() > 0.95
    flat = (-6.0, -3.0, 0.0)  # in the bright half of the ball
    byte = {}
    for name in ("luminance", "cb", "cr"):
        image = read(case, name)
        at = transform_points(np.linalg.inv(image.affine), flat).round().astype(int)
        byte[name] = float(np.asarray(image.dataobj)[tuple(at)])
    here = transform_points(np.linalg.inv(AFFINE), flat).round().astype(int)
    red, _, blue = 255 * volumes.fused[(slice(None), *here)]
    assert abs(byte["luminance"] + (byte["cr"] - 128) / viewer.CHROMA[1] - red) < 3
    assert abs(byte["luminance"] + (byte["cb"] - 128) / viewer.CHROMA[0] - blue) < 3


def test_the_viewer_stays_within_its_part_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "VIEWER_BUDGET", 9_000)
    noise = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    folder = make_case(tmp_path / "case", volumes=make_volumes(anatomical=noise)).parent
    sizes = [path.stat().st_size for path in (folder / "figures").glob("viewer_*")]
    assert 4_000 < sum(sizes) <= 9_000
    assert told(folder)["spacing_mm"] > told(folder)["of_spacing_mm"]


def test_a_colored_functional_image_stays_colored(tmp_path: Path) -> None:
    colored = np.stack([make_volumes().functional, *np.zeros((2, *SHAPE), np.float32)])
    volumes = make_volumes(functional=colored, functional_values=None, functional_before=None)
    folder = make_case(tmp_path / "case", volumes=volumes).parent
    values = np.asarray(read(folder, "functional").dataobj)
    assert values["R"].max() > 200
    assert values["G"].max() == 0
    assert "functional_before" not in told(folder)["files"]


def test_places_of_checks_are_points_and_nothing_else() -> None:
    spot = {"spot": {"ras_mm": [1.0, 2.0, 3.0]}}
    registration = make_registration() | {"fixed_grid": {"shape": SHAPE, "affine": AFFINE.tolist()}}
    audit = audit_with_places()
    audit["checks"] += [
        {"id": "invented", "details": {"slice": 2}},
        {"id": "contradiction", "details": {"position_ras_mm": ["<b>", 0, 0]}},
    ]
    found = places(audit, registration, spot)
    assert [json.loads(mm) for _, mm in found["hot_spots"]] == SPOTS
    assert set(found) == {"hot_spots", "invented"}
    assert json.loads(found["invented"][0][1])[2] == -15 + 3 * 2, "slices are counted from below"


def test_the_page_is_made_from_its_own_files_alone(case: Path, tmp_path: Path) -> None:
    assert report_page(case).encode() == (case / "report.html").read_bytes()
    assert "lesion </script>" not in report_page(case)
    folder = make_case(tmp_path / "case").parent
    index = json.loads((folder / "figures" / "figures.json").read_text())
    (folder / "secret").write_text("zzphi")
    index["viewer"]["files"] = {"anatomical": "../secret", "../../secret": "../secret"}
    (folder / "figures" / "figures.json").write_text(json.dumps(index))
    assert "enpwaGk" not in report_page(folder), "only files of its own names are taken in"
    with (folder / "figures" / "viewer_anatomical.nii.gz").open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match=r"32 MB.*\[E_TOO_LARGE\]"):
        render_report(folder)


def test_the_mouse_reads_values_and_moves_the_crosshair(browser: Browser, case: Path) -> None:
    browser.open(case / "report.html")
    browser.wait(READY)

    def reads() -> dict[str, str]:
        cells = "[...document.querySelectorAll('[data-read]')]"
        return dict(browser.run(f"{cells}.map((e) => [e.dataset.read, e.textContent])"))

    at_spot = reads()
    assert at_spot["place"] == "L 9, A 12, S 9 mm"
    assert float(at_spot["functional"].split()[-2]) > 9
    assert at_spot["region"] == "lesion </script>"
    assert at_spot["error"] == "4 mm"
    left, top, width, height = browser.place(".viewer .mip")
    # Beside the spot, in the right half of the ball, which is darker.
    browser.move(left + 0.25 * width, top + 0.5 * height)
    away = reads()
    assert away["place"].startswith("R ")
    assert float(away["functional"].split()[0]) < 1
    assert away["region"] == "none"
    browser.move(5, 5)
    assert reads() == at_spot, "the crosshair has not moved"
    browser.drag((left + 0.25 * width, top + 0.5 * height))
    browser.move(5, 5)
    assert reads()["place"] == away["place"]
    box = browser.place(".viewer .screen canvas")
    before = reads()["place"]
    browser.drag((box[0] + 0.2 * box[2], box[1] + 0.2 * box[3]))
    browser.move(5, 5)
    assert reads()["place"] != before
    browser.click(".jump")
    assert reads()["place"] == "L 9, A 12, S 9 mm"
    assert browser.complaints == []


def test_what_is_chosen_is_what_is_seen(browser: Browser, case: Path) -> None:
    browser.open(case / "report.html")
    browser.wait(READY)
    seen = {}
    for name in ("fused", "overlay", "anatomical", "functional"):
        browser.click(f".viewer [value={name}]")
        seen[name] = browser.look(".viewer .planes-box").astype(int)
    gray = np.ptp(seen["anatomical"], axis=2) < 3
    assert gray.mean() > 0.8, "all but crosshair and contours"
    for first, second in (("fused", "overlay"), ("overlay", "functional"), ("fused", "anatomical")):
        assert np.abs(seen[first] - seen[second]).max() > 60
    browser.click(".viewer [name=contours]")
    assert np.abs(browser.look(".viewer .planes-box") - seen["functional"]).max() > 60
    browser.click(".viewer [name=flicker]")
    tag = "document.querySelector('.viewer .tag').textContent"
    assert browser.run(tag) == "before registration"
    browser.wait(f"{tag} === 'after registration'", 5)
    browser.wait(f"{tag} === 'before registration'", 5)
    browser.click(".viewer [value=fused]")
    assert browser.run("document.querySelector('[name=flicker]').ariaPressed") == "false"


def test_without_webgl_the_pictures_say_it_all(case: Path) -> None:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    with Browser(executable, with_gl=False) as browser:
        browser.open(case / "report.html")
        shown = "document.querySelector('.viewer {}').checkVisibility()"
        assert browser.run(shown.format(".missing"))
        assert not browser.run(shown.format(".works"))
        assert not browser.run("document.querySelector('.jump').checkVisibility()")
        assert browser.run("document.querySelector('#axial-fused').complete")
        assert browser.complaints == []
        browser("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(case / "report.html")
        browser("Emulation.setScriptExecutionDisabled", value=False)
        assert not browser.run(shown.format(".works"))
        assert browser.place("#axial-fused")[2] > 100
