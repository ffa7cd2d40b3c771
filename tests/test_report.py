"""The report of a case and of a study, from pictures to what a browser makes of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from PIL import Image

from medfuse.errors import InputError
from medfuse.imaging.folder import ResultFolder
from medfuse.imaging.grid import Grid
from medfuse.kernel.color import apply_colormap
from medfuse.provenance import build_provenance, write_provenance
from medfuse.report import ReportVolumes, render_report, write_figures, write_study_report
from medfuse.report_page import PICTURE_BUDGET, inline_pictures, number

# Patient axes are stored in the order S, R, A, with A and R reversed: 3 x 1 x 2 mm voxels.
AFFINE = np.array([[0, -1.0, 0, 20], [0, 0, -2.0, 30], [3.0, 0, 0, -15], [0, 0, 0, 1]])
SHAPE = (14, 40, 30)
SPOT_RAS = (-9.0, 12.0, 9.0)  # left, front, above
EVIL = "<script>alert('x')</script>"
SUV = {
    "available": True,
    "formula": "SUVbw = activity * weight / dose",
    "weight_kg": 71.0,
    "dose_bq": 388777472.0,
    "decay_s": 2711.0,
    "factor": 2.42902977e-4,
    "refusal": None,
    "remarks": ["body weight is assumed"],
}


def _world(shape: tuple[int, int, int] = SHAPE, affine: np.ndarray = AFFINE) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.moveaxis(index @ affine[:3, :3].T + affine[:3, 3], -1, 0)


def _volumes(**more: Any) -> ReportVolumes:
    """A head-like ball with a bright left half and one hot spot."""
    right, front, top = _world()
    ball = ((right**2 + front**2) < 17**2) & (np.abs(top) < 14)
    anatomical = (ball * (0.5 + 0.4 * (right < 0))).astype(np.float32)
    distance = np.linalg.norm(_world() - np.reshape(SPOT_RAS, (3, 1, 1, 1)), axis=0)
    values = (0.5 * ball + 9.5 * np.exp(-((distance / 3) ** 2))).astype(np.float32)
    functional = np.clip(values / 6, 0, 1)
    content: dict[str, Any] = {
        "anatomical": anatomical,
        "functional": functional,
        "fused": np.stack([functional, anatomical / 2, anatomical]),
        "weights": anatomical,
        "share": anatomical,
        "coverage": np.ones(SHAPE, bool),
        "affine": AFFINE,
        "functional_values": values,
        "functional_before": np.roll(functional, 3, axis=1),
        "window": SimpleNamespace(low=0.0, high=6.0, unit="SUVbw", rule="SUV default"),
        "anatomical_window": SimpleNamespace(low=0.0, high=900.0, unit="a.u.", rule="percentiles"),
    }
    return ReportVolumes(**(content | more))


def _registration(verdict: str = "good", shift: float = 3.2) -> dict[str, Any]:
    return {
        "matrix": np.eye(4).tolist(),
        "inverse": np.eye(4).tolist(),
        "method": "rigid",
        "verdict": verdict,
        "reasons": ["overlap 12 % is below 25 %"] if verdict == "suspect" else [],
        "metric_before": 0.21,
        "metric_after": 0.37,
        "iterations": 61,
        "stop_reason": "step too small",
        "overlap": 0.93,
        "shift_mm": shift,
        "rotation_deg": 1.5,
        "seed": 0,
    }


def _audit(verdict: str = "pass", value: float = 0.01) -> dict[str, Any]:
    checks = [
        {
            "id": "linearity",
            "title": "Nothing but the two sources",
            "value": 2.4e-7,
            "unit": "luminance",
            "threshold": 1e-5,
            "verdict": "pass",
            "text": "Largest difference.",
            "details": {},
        },
        {
            "id": "overshoot",
            "title": "Inside the range",
            "value": value,
            "unit": "fraction of voxels",
            "threshold": None,
            "verdict": verdict,
            "text": f"Edges & corners {EVIL}",
            "details": {},
        },
    ]
    return {"schema": "medfuse-audit/1", "verdict": verdict, "checks": checks}


def _image(modality: str, unit: str, **more: Any) -> MetaTensor:
    source = {
        "kind": "dicom",
        "name": "ZZPHI/series".rpartition("/")[2],
        "files": 74,
        "sha256": "1" * 64,
        "patient": "ZZPHI-patient",
    }
    meta = {"modality": modality, "unit": unit, "source": source, "notes": [], **more}
    return MetaTensor(torch.zeros(1, *SHAPE), affine=torch.from_numpy(AFFINE), meta=meta)


def _case(
    target: Path,
    *,
    audit: dict[str, Any] | None = None,
    registration: dict[str, Any] | None = None,
    volumes: ReportVolumes | None = None,
    created: str = "2026-01-01T00:00:00+00:00",
) -> Path:
    audit = audit or _audit()
    registration = registration or _registration()
    with ResultFolder(target, key="k") as result:
        (result.path / "audit.json").write_text(json.dumps(audit))
        (result.path / "transform.json").write_text(json.dumps(registration))
        write_figures(result.path, volumes or _volumes())
        record = build_provenance(
            case=target.name,
            inputs={
                "anatomical": _image("MRI", "a.u."),
                "functional": _image("PET", "SUVbw", suv=SUV),
            },
            steps=[{"name": "register", "result": registration}],
            settings={"method": "swift", "initial": "/home/zzphi/start.txt"},
            key="k",
            guide={"name": "swift", "weights_sha256": "2" * 64, "card": {"data": "msrs"}},
            audit_verdict=audit["verdict"],
            command="medfuse fuse /home/zzphi/t1.nii.gz /home/zzphi/pet -o out",
            notes=[f"Remark {EVIL}"],
            created=created,
        )
        write_provenance(result.path, record)
        render_report(result.path)
    return target / "report.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _case(tmp_path_factory.mktemp("report") / "sub-01")


class _Text(HTMLParser):
    """Visible text and every address of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.addresses, self.scripts, self._hidden = "", [], 0, False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        self.scripts += tag == "script"
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data


def _read(path: Path) -> _Text:
    return _Text(path.read_text("utf-8"))


def test_report_names_every_check_with_its_meaning(report: Path) -> None:
    text = _read(report).text
    for check in _audit()["checks"]:
        assert check["title"] in text
        assert check["text"] in text
    assert "2.40e-07" in text
    assert "limit 1.00e-05" in text


def test_report_tells_the_whole_story(report: Path) -> None:
    text = " ".join(_read(report).text.split())
    for part in (
        "sub-01",
        "Research use only",
        "0.21 before, 0.37 after",
        "3.2 mm, 1.5°",
        "SUVbw = activity * weight / dose",
        "388,777,472 Bq",
        "0.000242902977",
        "body weight is assumed",
        "SUVbw (g/ml)",
        "percentiles",
        "L 9 mm, A 12 mm, S 9 mm",
        "t1.nii.gz pet -o out",
        "2" * 64,
    ):
        assert part in text, part


def test_text_from_files_is_never_code(report: Path) -> None:
    page = _read(report)
    assert page.scripts == 1
    assert EVIL in page.text, "shown as text"
    assert EVIL not in report.read_text("utf-8")


def test_page_needs_nothing_else(report: Path) -> None:
    addresses = _read(report).addresses
    assert len(addresses) > 15
    assert all(address.startswith("data:") for address in addresses)
    page = report.read_text("utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?://", page)
    assert report.stat().st_size < 6_000_000


def test_nobody_and_no_place_is_named(report: Path) -> None:
    for path in report.parent.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            assert b"zzphi" not in content, path.name
            assert str(report.parent.parent).encode() not in content, path.name


def test_same_result_gives_the_same_page(report: Path, tmp_path: Path) -> None:
    again = _case(tmp_path / "sub-01", created="2026-07-07T00:00:00+00:00")
    assert again.read_bytes() == report.read_bytes()
    for picture in sorted((report.parent / "figures").iterdir()):
        assert (again.parent / "figures" / picture.name).read_bytes() == picture.read_bytes()


def test_suspect_registration_is_loud(tmp_path: Path) -> None:
    page = _case(tmp_path / "case", registration=_registration("suspect"))
    text = _read(page).text
    first = text.index("Registration is suspect")
    assert first < text.index("Three planes")
    assert text.count("overlap 12 % is below 25 %") == 2
    assert 'role="alert"' in page.read_text("utf-8")


def test_failed_audit_is_said_first(tmp_path: Path) -> None:
    text = _read(_case(tmp_path / "case", audit=_audit("fail"))).text
    assert text.index("do not rely on this picture") < text.index("Three planes")


def test_refused_suv_is_said_with_the_tag(tmp_path: Path) -> None:
    page = _case(tmp_path / "case")
    record = json.loads((page.parent / "provenance.json").read_text())
    record["inputs"]["functional"]["suv"] |= {"refusal": "PatientWeight (0010,1030) is missing"}
    (page.parent / "provenance.json").write_text(json.dumps(record))
    assert "No SUV: PatientWeight (0010,1030) is missing" in _read(render_report(page.parent)).text


@pytest.mark.parametrize("missing", ["audit.json", "transform.json", "figures/figures.json"])
def test_folder_that_is_no_result_is_one_error(tmp_path: Path, missing: str) -> None:
    page = _case(tmp_path / "case")
    (page.parent / missing).unlink()
    with pytest.raises(InputError, match=rf"{missing}: No such file.*\[E_NOT_A_RESULT\]"):
        render_report(page.parent)


def _panel(report: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(report.parent / "figures" / name), dtype=float)


def test_views_go_through_the_hottest_spot(report: Path) -> None:
    spot = json.loads((report.parent / "figures" / "figures.json").read_text())["spot"]
    grid = Grid(shape=SHAPE, affine=AFFINE)
    assert np.abs(np.array(spot["ras_mm"]) - SPOT_RAS).max() <= max(grid.spacing) / 2
    x, y, z = spot["index"]
    assert spot["value"] == pytest.approx(float(_volumes().functional_values[x, y, z]))
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


def test_left_right_difference_stays_on_its_side(report: Path) -> None:
    picture = _panel(report, "coronal_anatomical.png").mean(axis=-1)
    half = picture.shape[1] // 2
    assert picture[:, half + 10 :].mean() > 1.3 * picture[:, : half - 10].mean()


def test_single_slice_and_colour_input_make_a_report(tmp_path: Path) -> None:
    full = _volumes()
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
    text = _read(_case(tmp_path / "case", volumes=flat)).text
    figures = json.loads((tmp_path / "case/figures/figures.json").read_text())
    assert [p["plane"] for p in figures["planes"]] == ["axial"]
    assert len(figures["slices"]["rows"]) == 1
    assert "before" not in figures["registration"]["files"]
    assert "no unit" in text


def test_no_coverage_and_empty_images_still_make_a_report(tmp_path: Path) -> None:
    full = _volumes()
    empty = replace(
        full,
        anatomical=np.zeros(SHAPE, np.float32),
        functional=np.zeros(SHAPE, np.float32),
        functional_values=np.zeros(SHAPE, np.float32),
        coverage=np.zeros(SHAPE, bool),
    )
    assert _case(tmp_path / "case", volumes=empty).is_file()


def test_real_brain_makes_calm_small_page(tmp_path: Path, shared_data: Path) -> None:
    image = nib.load(shared_data / "volumes/mni-templates/cit168-t1-brain.nii.gz")
    brain = image.get_fdata(dtype=np.float32) / 255
    volumes = replace(
        _volumes(),
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
    page = _case(tmp_path / "brain", volumes=volumes)
    assert 300_000 < page.stat().st_size < 6_000_000
    with Image.open(page.parent / "figures" / "sagittal_fused.png") as picture:
        assert picture.height == 420 or picture.width == 420


def test_too_many_bytes_of_pictures_are_made_fewer(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), dtype=np.uint8)
    for n in range(2):
        Image.fromarray(noise).save(tmp_path / f"{n}.png")
    inlined = inline_pictures(sorted(tmp_path.glob("*.png")))
    assert sum(map(len, inlined.values())) < 1.1 * PICTURE_BUDGET * 4 / 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        (0.0, "0"),
        (2.4e-7, "2.40e-07"),
        (0.12346, "0.1235"),
        (-12.5, "-12.5"),
        (388777.0, "388,777"),
        (3.9e8, "3.90e+08"),
        ([1.0, 2], "1, 2"),
        ("text", "text"),
    ],
)
def test_numbers_are_readable(value: Any, shown: str) -> None:
    assert number(value) == shown


# --- study ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    for n in range(5):
        _case(out / f"sub-{n}", audit=_audit(value=0.01 + n / 1000))
    _case(out / "sub-odd", registration=_registration(shift=48.0))
    _case(out / "sub-look", audit=_audit("look"))
    events = [
        {"event": "case-end", "case": "sub-bad", "status": "done"},
        {"event": "case-start", "case": "sub-bad"},
        {
            "event": "case-end",
            "case": "sub-bad",
            "status": "failed",
            "code": "E_MISSING_SLICE",
            "message": f"gap of 6.00 mm {EVIL}. Re-export the series. [E_MISSING_SLICE]",
        },
        {"event": "case-end", "case": "sub-0", "status": "failed", "code": "E_X", "message": "old"},
        {"event": "case-end", "case": "sub-0", "status": "skipped"},
    ]
    lines = [json.dumps(event) for event in events]
    (out / "batch.jsonl").write_text("\n".join([*lines, '{"case": "cut o']))
    write_study_report(out)
    return out


def test_study_shows_the_odd_ones_first_and_failures_with_reasons(study: Path) -> None:
    page = _read(study / "study.html")
    names = [a.removesuffix("/report.html") for a in page.addresses if a.endswith(".html")]
    assert list(dict.fromkeys(names))[:2] == ["sub-look", "sub-odd"]
    assert len(set(names)) == 7
    assert re.search(r"Shift\s+\(\d", page.text), "says what is odd"
    assert "gap of 6.00 mm" in page.text
    assert EVIL in page.text
    assert EVIL not in (study / "study.html").read_text()
    assert "old" not in page.text.split(), "only the last word on a case counts"


def test_study_page_is_one_file_with_links_to_the_cases(study: Path) -> None:
    addresses = _read(study / "study.html").addresses
    pictures = [a for a in addresses if a.startswith("data:image/jpeg")]
    links = [a for a in addresses if not a.startswith("data:")]
    assert len(pictures) == 7
    assert all((study / link).is_file() for link in links)
    description = json.loads((study / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "medfuse"


def test_study_without_ledger_reads_the_summary(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_text(
        "case,status,code,message\nsub-1,failed,E_TRUNCATED,ends after 3 of 9 bytes\n"
    )
    text = _read(write_study_report(tmp_path)).text
    assert "E_TRUNCATED" in text
    assert "ends after 3 of 9 bytes" in text


def test_empty_study_says_so(tmp_path: Path) -> None:
    assert "No finished case" in _read(write_study_report(tmp_path)).text


@pytest.mark.parametrize("damage", ["", "[]", '{"verdict": "fine", "checks": []}'])
def test_folder_that_was_taken_apart_does_not_cost_the_page(tmp_path: Path, damage: str) -> None:
    _case(tmp_path / "whole")
    _case(tmp_path / "broken")
    (tmp_path / "broken" / "audit.json").write_text(damage)
    addresses = _read(write_study_report(tmp_path)).addresses
    assert {a for a in addresses if a.endswith(".html")} == {"whole/report.html"}


def test_description_of_another_program_stays(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "mine"}')
    write_study_report(tmp_path)
    assert (tmp_path / "dataset_description.json").read_text() == '{"Name": "mine"}'


# --- in a browser --------------------------------------------------------------------------------


def _browse(page: Path, scratch: Path, driver: str = "", width: int = 1280) -> tuple[str, str]:
    """Open a page in headless Chromium; return the page after `driver` ran, and the console."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    opened = page
    if driver:
        # The page lets only its own script run; the driver needs that rule out of the way.
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
        opened = scratch / "driven.html"
        opened.write_text(text.replace("</body>", f"<script>{driver}</script></body>"))
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage")
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--no-first-run", "--enable-logging=stderr"),
            *(f"--disable-{name}" for name in quiet),
            *(f"--user-data-dir={scratch / 'profile'}", f"--window-size={width},900"),
            *("--virtual-time-budget=3000", "--dump-dom", opened.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, "\n".join(x for x in done.stderr.splitlines() if "CONSOLE" in x)


def _result(dom: str) -> Any:
    found = re.search(r"<title>(.*?)</title>", dom)
    assert found is not None
    return json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))


def test_browser_runs_the_page_without_complaint(report: Path, tmp_path: Path) -> None:
    dom, console = _browse(report, tmp_path)
    assert console == ""
    assert '<figure class="swipe">' in dom, "the page's own script ran under its own rule"


def test_swipe_and_enlarging_work(report: Path, tmp_path: Path) -> None:
    driver = """
    const $ = (s) => document.querySelector(s);
    const range = $(".swipe input[type=range]");
    range.value = "20"; range.dispatchEvent(new Event("input"));
    $("input[value=functional]").click();
    $("input[value=coronal]").click();
    $("img.zoom").click();
    document.title = JSON.stringify({
      cut: $(".stage").style.getPropertyValue("--cut"),
      clip: getComputedStyle($(".over")).clipPath,
      over: $(".over").src === document.getElementById("coronal-functional").src,
      under: $(".under").src === document.getElementById("coronal-fused").src,
      tag: $(".tag.left").textContent, open: $("dialog").open,
      large: $("dialog img").src === $("img.zoom").src,
    });
    """
    dom, console = _browse(report, tmp_path, driver)
    assert console == ""
    assert _result(dom) == {
        "cut": "20%",
        "clip": "inset(0px 80% 0px 0px)",
        "over": True,
        "under": True,
        "tag": "functional",
        "open": True,
        "large": True,
    }


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_is_wider_than_the_window(report: Path, tmp_path: Path, width: int) -> None:
    driver = """
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
    const wide = [...document.querySelectorAll("main *")].filter((e) =>
      e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll"));
    const cut = [...document.querySelectorAll(".scroll")].filter((e) =>
      e.scrollWidth > e.clientWidth + 1);
    document.title = JSON.stringify({
      page: document.documentElement.scrollWidth <= innerWidth,
      wide: wide.length, cut: cut.length,
    });
    """
    dom, _ = _browse(report, tmp_path, driver, width)
    assert _result(dom) == {"page": True, "wide": 0, "cut": 0}


def test_study_table_sorts_up_and_down(study: Path, tmp_path: Path) -> None:
    driver = """
    const names = () => [...document.querySelectorAll(".sortable tbody tr .name a")]
      .map((a) => a.textContent);
    const head = [...document.querySelectorAll(".sortable th button")]
      .find((b) => b.textContent === "Shift");
    head.click(); const up = names(); head.click(); const down = names();
    document.title = JSON.stringify({up: up.at(-1), down: down[0], all: up.length});
    """
    dom, console = _browse(study / "study.html", tmp_path, driver)
    assert console == ""
    assert _result(dom) == {"up": "sub-odd", "down": "sub-odd", "all": 7}
