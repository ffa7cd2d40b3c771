"""One pair of the sample study, and the chain run once on it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from tests._helpers.chain import chain


@contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="session")
def pair(sample_data) -> dict[str, str]:
    """CT and PET of one person, aligned."""
    folder = sample_data / "study" / "sts001-aligned"
    return {
        "mri": str(folder / "ct.nii.gz"),
        "pet": str(folder / "pet-suv-dicom"),
        "case": "sts001",
    }


@pytest.fixture(scope="session")
def fused(pair, tmp_path_factory):
    """The chain, run once on the aligned pair with the default guide."""
    out = tmp_path_factory.mktemp("fused")
    with one_thread():
        return chain(out, method="swift", report=True)(pair), out
