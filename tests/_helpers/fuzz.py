"""Runs of made-up examples, for seconds or for minutes, and what reading them must be."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import hypothesis
import nibabel as nib
import numpy as np
import pydicom
from hypothesis import HealthCheck, settings
from nibabel.wrapstruct import WrapStructError

from medfuse.errors import MedfuseError
from medfuse.imaging.reader import read_volume
from medfuse.imaging.volume import Volume
from tests._helpers import make

TESTS = 17
MINUTES = float(os.environ.get("MEDFUSE_FUZZ_MINUTES", 0)) / TESTS
EXAMPLES = 60
SECONDS_PER_FILE = 10


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """A hang becomes a failure."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def load(path: Path) -> Volume | None:
    """The volume, or None where it is refused in one line."""
    try:
        with within(SECONDS_PER_FILE):
            volume = read_volume(path)
    except MedfuseError as refusal:
        error = refusal
    else:
        error = None
    if error is not None:
        assert "\n" not in str(error)
        assert str(error).endswith(f"[{error.code}]")
        assert make.MARKER not in str(error)
        return None
    assert np.isfinite(volume.values).all()
    assert np.isfinite(volume.affine).all()
    assert abs(np.linalg.det(volume.affine[:3, :3])) > 0
    return volume


def fuzz(examples: Callable[[], None]) -> None:
    """Once, or with new seeds for some minutes."""
    end = time.monotonic() + 60 * MINUTES
    seed = 0
    while seed == 0 or time.monotonic() < end:
        hypothesis.seed(seed)(examples)()
        seed += 1


quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def set_values(path: Path, changes: dict[str, object]) -> bool:
    """Write values past all checks; False where pydicom cannot write them at all."""
    dataset = pydicom.dcmread(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword, value in changes.items():
                if value is None:
                    if keyword in dataset:
                        delattr(dataset, keyword)
                    continue
                element = pydicom.DataElement(pydicom.datadict.tag_for_keyword(keyword), "LO", "")
                element._value = str(value)
                dataset[element.tag] = element
            dataset.save_as(path)
    except (ValueError, TypeError, AttributeError, OverflowError, NotImplementedError):
        return False
    return True


def assert_is_what_nibabel_reads(volume: Volume, path: Path) -> None:
    """The affine of sform or qform in millimetres, and the values."""
    try:
        image = nib.load(path)
        values, affine = image.get_fdata(), image.affine.copy()
    except (nib.filebasedimages.ImageFileError, WrapStructError, ValueError, OSError, EOFError):
        return  # stricter than we are, on something that does not concern the voxels
    if max(int(image.header["sform_code"]), int(image.header["qform_code"])) > 5:
        return  # no code of the standard: set, for us as for the reference C library
    unit = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
    affine[:3] *= unit
    np.testing.assert_allclose(volume.affine, affine, rtol=1e-5, atol=1e-5)
    sound = np.isfinite(values)
    np.testing.assert_allclose(
        volume.values[sound.reshape(volume.values.shape)], values[sound], rtol=1e-5, atol=1e-30
    )
