"""What is imported, and when: a slow library costs nothing where it is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

#: Runs a command line and prints its exit code and which of the slow libraries it has imported.
LOADED = """
import sys
from medfuse.cli.app import run
code = run(sys.argv[1:])
slow = ("monai", "torch", "SimpleITK", "matplotlib.pyplot", "pydicom.sr", "napari", "nibabel")
print("LOADED", code, *(name for name in slow if name in sys.modules))
"""


def loaded(*arguments: object) -> tuple[int, set[str]]:
    """Exit code of a command in a process of its own, and the slow libraries that it imported."""
    words = [sys.executable, "-c", LOADED, *map(str, arguments)]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert answer.returncode == 0, answer.stderr
    code, *names = answer.stdout.rpartition("LOADED ")[2].split()
    return int(code), set(names)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball with a hot spot."""
    folder = tmp_path_factory.mktemp("images")
    x, y, z = np.mgrid[:24, :26, :20].astype("f4")
    body = ((x - 12) ** 2 + (y - 13) ** 2 + (z - 10) ** 2 < 64).astype("f4")
    spot = ((x - 15) ** 2 + (y - 10) ** 2 + (z - 11) ** 2 < 9).astype("f4")
    for name, values in (("t1", body * (300 + 40 * np.sin(x))), ("pet", body + 5 * spot)):
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), folder / f"{name}.nii.gz")
    return folder


def test_importing_medfuse_or_asking_for_help_imports_nothing_slow() -> None:
    script = "import sys, medfuse; print('monai' in sys.modules, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.stdout.split() == ["False", "False"]
    assert loaded("--help") == (0, set())
    assert loaded("fuse", "--help") == (0, set())


def test_a_wrong_path_or_argument_is_refused_before_torch_is_imported(images: Path) -> None:
    t1, out = images / "t1.nii.gz", images / "out"
    assert loaded("fuse", t1, images / "gone.nii.gz", "-o", out) == (8, {"nibabel"})
    (images / "note.txt").write_text("no image")
    assert loaded("fuse", images / "note.txt", t1, "-o", out) == (8, {"nibabel"})
    assert loaded("fuse", t1, t1, "-o", out / "fused.nii.gz") == (2, set())
    code, names = loaded("fuse", t1, images / "pet.nii.gz", "-o", out, "--window", "10", "0")
    assert (code, "torch" in names) == (2, False)


def test_fusing_a_pair_imports_no_monai_and_what_writes_dicom_only_for_dicom(images: Path) -> None:
    pair = (images / "t1.nii.gz", images / "pet.nii.gz", "-o", images / "out")
    how = ("--registration", "identity", "--method", "mean", "--accept-suspect")
    code, names = loaded("fuse", *pair, *how)
    assert code == 0
    assert names == {"torch", "SimpleITK", "nibabel"}


def test_the_garbage_collector_passes_over_what_was_imported_and_goes_on() -> None:
    script = (
        "import gc; from medfuse.kernel.cores import importing, keep_imported\n"
        "with importing(): import medfuse.cli.app; off = gc.isenabled()\n"
        "keep_imported(); cycle = []; cycle.append(cycle); del cycle\n"
        "print(off, gc.isenabled(), gc.get_freeze_count() > 10_000, gc.collect())"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.stdout.split() == ["False", "True", "True", "1"]
