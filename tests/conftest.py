"""Where the tests find their data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
