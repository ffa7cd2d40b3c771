"""Where the tests find their data."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests._helpers.quick import QUICK, TOO_LONG

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

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent


def _is_quick(path: Path) -> bool:
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).as_posix() in QUICK


def pytest_configure(config: pytest.Config) -> None:
    """Many small tests, and two workers side by side, are faster without threads in torch.

    It reads the variable when it is imported.
    """
    if config.option.markexpr == "quick" or "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m quick` selects the files of `QUICK` without their slow tests.

    With several workers a file is the unit of work, and the panel's windows share one display: all
    of their files go to one worker (`--dist loadgroup`).
    """
    for item in items:
        where = item.path.relative_to(TESTS).as_posix()
        panel = where.startswith("napari_plugin/")
        item.add_marker(pytest.mark.xdist_group("panel" if panel else where))
        too_long = item.get_closest_marker("slow") or item.name.partition("[")[0] in TOO_LONG
        if _is_quick(item.path) and not too_long:
            item.add_marker(pytest.mark.quick)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that `-m quick` would leave out need not be imported for it."""
    if config.option.markexpr == "quick" and collection_path.name.startswith("test_"):
        return (collection_path.is_file() and not _is_quick(collection_path)) or None
    return None


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


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> ModuleType:
    """The script of workflows/ or tools/ that a test file is named after, imported."""
    name = Path(request.path).stem.removeprefix("test_")
    folders = (ROOT / "workflows", ROOT / "workflows" / "benchmarks", ROOT / "tools")
    path = next(folder for folder in folders if (folder / f"{name}.py").exists())
    spec = importlib.util.spec_from_file_location(name, path / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
