"""The script that a test file is named after."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> ModuleType:
    """``workflows/NAME.py`` or ``workflows/benchmarks/NAME.py`` for ``test_NAME.py``, imported."""
    name = Path(request.path).stem.removeprefix("test_")
    path = next(p for p in (WORKFLOWS, WORKFLOWS / "benchmarks") if (p / f"{name}.py").exists())
    spec = importlib.util.spec_from_file_location(name, path / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
