"""Names that others import stay where they were for one release, and are the same objects."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("medfuse.pipeline", "medfuse.case.pipeline"),
        ("medfuse.imaging.registration", "medfuse.registration"),
        ("medfuse.kernel.fusion", "medfuse.kernel.blend"),
    ],
)
def test_a_module_that_moved_is_found_under_its_old_name(old: str, new: str) -> None:
    assert import_module(old) is import_module(new)


@pytest.mark.parametrize(
    ("module", "name", "new"),
    [
        ("medfuse.imaging.reader", "ClinicalReader", "medfuse.imaging.monai_reader"),
        ("medfuse.kernel.color", "read_back", "medfuse.kernel.colormaps"),
        ("medfuse.fusion", "fuse", "medfuse.fusion.pair"),
        ("medfuse.kernel.fusion", "fuse_luminance", "medfuse.kernel.blend"),
        ("medfuse.imaging.registration", "register", "medfuse.registration.result"),
        ("medfuse.pipeline", "run_case", "medfuse.case.pipeline"),
    ],
)
def test_a_name_that_moved_is_found_at_its_old_place(module: str, name: str, new: str) -> None:
    assert getattr(import_module(module), name) is getattr(import_module(new), name)


def test_old_names_work_in_a_fresh_process_and_without_the_new_ones_loaded() -> None:
    code = (
        "import medfuse.pipeline, medfuse.transforms; from medfuse.pipeline import run_case; "
        "from medfuse.imaging.registration import register; from medfuse.kernel.color import "
        "read_back; from medfuse.kernel.fusion import fuse_luminance; from medfuse.imaging.reader "
        "import ClinicalReader; from medfuse.fusion import fuse; print('found')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "found", found.stderr


def test_other_names_are_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("medfuse.nothing")
    with pytest.raises(AttributeError):
        import_module("medfuse.kernel.color").nothing  # noqa: B018
