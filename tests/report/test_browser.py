"""What a real browser makes of the pages: they work, can be read, and ask for nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests._helpers.browser import Browser
from tests._helpers.report_cases import make_audit, make_case, make_study

SIZES = [(1280, False), (1280, True), (800, False), (800, True)]
OPEN_ALL = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"

# Contrast after WCAG 2.2, 1.4.3: (lighter + 0.05) / (darker + 0.05) of relative luminance.
READABLE = """(() => {
  const parts = (c) => c.match(/[0-9.]+/g).map(Number);
  const light = (c) => parts(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (parts(c)[3] !== 0) return c;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, style = getComputedStyle(e);
    if (!walk.currentNode.data.trim() || e.closest("script, style, .stage")) continue;
    if (!e.checkVisibility()) continue;
    const [a, b] = [light(style.color), light(ground(e))].sort((x, y) => y - x);
    found.push([walk.currentNode.data.trim().slice(0, 30), (a + 0.05) / (b + 0.05),
                parseFloat(style.fontSize)]);
  }
  return found;
})()"""
TOO_WIDE = """(() => {
  const wide = [...document.querySelectorAll("main *")].filter((e) =>
    e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll"));
  const cut = [...document.querySelectorAll(".scroll")].filter((e) =>
    e.scrollWidth > e.clientWidth + 1);
  return [document.documentElement.scrollWidth <= innerWidth, wide.length, cut.length];
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_case(tmp_path_factory.mktemp("report") / "sub-01", audit=make_audit("look"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study") / "out") / "study.html"


@pytest.mark.parametrize("name", ["report", "study"])
def test_pages_run_without_complaint_and_ask_for_nothing(
    browser: Browser, name: str, request: pytest.FixtureRequest
) -> None:
    page = request.getfixturevalue(name)
    browser.open(page)
    assert browser.complaints == []
    asked = {url for url in browser.requests if not url.startswith("data:")}
    assert asked == {page.as_uri()}


@pytest.mark.parametrize(("width", "dark"), SIZES)
@pytest.mark.parametrize("name", ["report", "study"])
def test_text_is_readable_and_nothing_is_wider_than_the_window(
    browser: Browser, name: str, width: int, dark: bool, request: pytest.FixtureRequest
) -> None:
    browser.open(request.getfixturevalue(name), width=width, dark=dark)
    browser.run(OPEN_ALL)
    texts = browser.run(READABLE)
    assert len(texts) > 40
    assert [t for t in texts if t[1] < 4.5 or t[2] < 11] == []
    assert browser.run(TOO_WIDE) == [True, 0, 0]
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark


def test_dragging_in_the_picture_moves_the_border_between_the_images(
    browser: Browser, report: Path
) -> None:
    browser.open(report)
    browser.wait("document.querySelector('.viewer').dataset.ready === 'yes'")  # nothing moves then
    x, y, width, height = browser.place(".stage")
    middle = y + height / 2

    def drag_to(part: float) -> np.ndarray:
        browser.drag((x + 0.5 * width, middle), (x + part * width, middle))
        return browser.look(".stage").astype(int)

    left, right = drag_to(0.2), drag_to(0.8)
    assert browser.run("document.querySelector('.swipe input[type=range]').value") == "80"
    corner = 8  # rounded, and blended anew each time
    columns = np.abs(left - right)[corner:-corner].sum(axis=(0, 2))
    edge = round(0.03 * width)
    rounding = 6  # of three colors: where the picture is drawn by a GPU
    assert columns[: round(0.2 * width) - edge].max() <= rounding
    assert columns[round(0.8 * width) + edge :].max() <= rounding
    assert np.median(columns[round(0.3 * width) : round(0.7 * width)]) > 1000


def test_arrow_keys_move_the_border_and_choices_change_the_images(
    browser: Browser, report: Path
) -> None:
    browser.open(report)
    browser.run("document.querySelector('.swipe input[type=range]').focus()")
    for _ in range(3):
        browser.key("ArrowRight", 39)
    clip = "getComputedStyle(document.querySelector('.over')).clipPath"
    assert browser.run(clip) == "inset(0px 47% 0px 0px)"
    browser.click(".swipe input[value=functional]")
    browser.click(".swipe input[value=coronal]")
    same = "document.querySelector('.{}').src === document.getElementById('coronal-{}').src"
    assert browser.run(same.format("over", "functional"))
    assert browser.run(same.format("under", "fused"))
    assert browser.run("document.querySelector('.tag.left').textContent") == "functional"


def test_a_picture_is_enlarged_by_a_click_and_closed_by_escape(
    browser: Browser, report: Path
) -> None:
    browser.open(report)
    before = browser.place("#axial-fused")[2]
    browser.click("#axial-fused")
    is_open = "document.querySelector('dialog').open"
    assert browser.run(is_open)
    assert browser.place("dialog img")[2] > 1.5 * before
    browser.key("Escape", 27)
    assert not browser.run(is_open)


def test_table_sorts_by_mouse_and_by_key_in_both_directions(browser: Browser, study: Path) -> None:
    browser.open(study)
    names = "[...document.querySelectorAll('.sortable tbody tr .name a')].map((a) => a.textContent)"
    assert browser.run(names)[:2] == ["sub-look", "sub-odd"], "what needs eyes comes first"
    shift = ".sortable th:nth-child(6) button"
    assert browser.run(f"document.querySelector('{shift}').textContent") == "Shift"
    browser.click(shift)
    assert browser.run(names)[-1] == "sub-odd"
    assert browser.run("document.querySelector('[aria-sort]').ariaSort") == "ascending"
    browser.run(f"document.querySelector('{shift}').focus()")
    browser.key("Enter", 13)
    assert browser.run(names)[0] == "sub-odd"
    assert len(set(browser.run(names))) == 7


def test_print_begins_with_verdict_and_planes_and_keeps_the_record_short(
    browser: Browser, report: Path
) -> None:
    browser.open(report)
    pages = len(re.findall(rb"/Type\s*/Page\b", browser.print()))
    assert 3 <= pages <= 8
    opened = "[...document.querySelectorAll('details')].filter((d) => d.open).map((d) => " \
        "d.querySelector('summary').textContent)"  # fmt: skip
    assert browser.run(opened) == ["Inputs", "Steps", "Software and machine"]
    browser("Emulation.setEmulatedMedia", media="print")
    browser("Emulation.setDeviceMetricsOverride", width=688, height=971, deviceScaleFactor=1,
            mobile=False)  # fmt: skip
    bottom = "document.querySelector('.planes').getBoundingClientRect().bottom + scrollY"
    assert browser.run(bottom) < 971, "A4 less its margins, in CSS pixels"
    assert browser.run("document.querySelector('.swipe').getBoundingClientRect().height") == 0
    browser("Emulation.setEmulatedMedia", media="")
