"""Progress goes forward, can cancel, and leaves ITK's threads as they were."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from monai.data.meta_tensor import MetaTensor

from medfuse.registration.progress import single_threaded_itk
from medfuse.registration.result import Registration, register


def test_progress_goes_forward_to_one_and_follows_the_optimiser(
    found: Registration, told: list[tuple[float, str]]
) -> None:
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert sum(text == "fine refinement" for _, text in told) >= found.iterations / 4


@pytest.mark.parametrize("stage", ["searching for a start", "coarse refinement"])
def test_progress_that_raises_cancels_with_its_own_exception(
    brain: tuple[MetaTensor, MetaTensor], stage: str
) -> None:
    class CancelledByUserError(Exception):
        pass

    def stop(fraction: float, text: str) -> None:
        if text == stage:
            raise CancelledByUserError(text)

    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    fixed, moving = brain
    with pytest.raises(CancelledByUserError, match=stage):
        register(fixed=fixed, moving=moving, preset="fast", progress=stop)
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads


def test_a_first_position_is_known_before_turned_ones_are_tried(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    class Enough(Exception):
        pass

    def stop(fraction: float, text: str) -> None:
        if "turned" in text:
            raise Enough

    first: list[np.ndarray] = []
    fixed, moving = brain
    with pytest.raises(Enough):
        register(
            fixed=fixed, moving=moving, method="rigid", preset="fast", progress=stop,
            found=first.append,
        )  # fmt: skip
    assert len(first) == 1
    assert np.linalg.norm(first[0][:3, 3]) < 15, "the templates are aligned already"


def test_itk_threads_are_restored_when_the_last_user_leaves() -> None:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
    try:
        first, second = single_threaded_itk(), single_threaded_itk()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 1
        second.__exit__(None, None, None)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
