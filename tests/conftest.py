"""Where the tests find their data."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# No limit of time for one example: on a busy machine it would say nothing about the code. In CI
# (`.ci/run`) the examples are the same every time, elsewhere new ones are tried.
hypothesis_settings.register_profile(
    "medfuse",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.load_profile("medfuse")

# A shell that starts the tests in the background leaves Ctrl-C ignored, here and in every child;
# the tests of Ctrl-C need it as a person at a terminal has it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The small open data set that is part of the repository."""
    return ROOT / "sample_data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Further real data that lies beside the project; users do not have it."""
    folder = Path(os.environ.get("MEDFUSE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("further real data (../shared/data) is not here")
    return folder
