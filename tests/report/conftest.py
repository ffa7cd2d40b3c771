"""A browser for the pages of the reports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests._helpers.browser import Browser, find_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    with Browser(executable) as found:
        yield found
