"""A local deformation that is given: read from a result or a composite, refused, taken as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medfuse.errors import InputError, UsageError
from medfuse.imaging.grid import Grid
from medfuse.registration.deformation import FILE, Deformation
from medfuse.registration.deformed import deformation_signs
from medfuse.registration.result import register
from medfuse.registration.start import LINEAR_ALONE, read_matrix, read_start
from medfuse.registration.tfm import itk_bytes
from medfuse.results.vectors import write_vectors
from tests._helpers.motions import registration, rigid, two_balls, volume

LATTICE = Grid((9, 8, 7), rigid((4.0, 3.0, -5.0), (-60, -50, -40)) @ np.diag([15.0, 16, 17, 1]))
MATRIX = rigid((5.0, -3.0, 8.0), (4.0, -6.0, 2.0))


@pytest.fixture(scope="module")
def field() -> Deformation:
    shifts = np.random.default_rng(5).uniform(-3, 3, (*LATTICE.shape, 3)).astype(np.float32)
    return Deformation(LATTICE, shifts, inverse_mm=1.5)


def stored(folder: Path, field: Deformation) -> Path:
    """What ``medfuse register -o found.json`` and a result folder hold."""
    values = registration(MATRIX, LATTICE).to_dict() | {"deformation": field.to_dict()}
    (folder / "transform.json").write_text(json.dumps(values))
    write_vectors(folder / FILE, field.displacement, LATTICE.affine)
    return folder / "transform.json"


def composite(folder: Path, field: Deformation, suffix: str) -> Path:
    path = folder / f"composite{suffix}"
    path.write_bytes(itk_bytes(field.itk(MATRIX), suffix))
    return path


def test_the_deformation_of_a_result_is_read_back_to_the_bit(tmp_path, field):
    matrix, found = read_start(stored(tmp_path, field))
    assert (found.sha256, found.inverse_mm, found.given) == (field.sha256, 1.5, True)
    assert found.to_dict() == {**field.to_dict(), "given": True}
    np.testing.assert_array_equal(matrix, MATRIX)
    np.testing.assert_array_equal(found.lattice.affine, LATTICE.affine)
    assert found.to_dict()["given"] is True


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_a_composite_of_itk_is_the_same_map(tmp_path, field, suffix):
    matrix, found = read_start(composite(tmp_path, field, suffix))
    np.testing.assert_allclose(matrix, MATRIX, atol=1e-9)
    np.testing.assert_allclose(found.lattice.affine, LATTICE.affine, atol=1e-9)
    np.testing.assert_array_equal(found.displacement, field.displacement)
    assert found.inverse_mm is None  # the file says nothing of it, and nothing is claimed
    assert "inverse consistency" not in {s.name for s in deformation_signs(found.to_dict())}


def test_a_deformation_after_the_linear_map_is_refused(tmp_path, field):
    warp = sitk.CompositeTransform(field.itk(np.eye(4))).GetNthTransform(1)
    turned = sitk.CompositeTransform([warp, sitk.Euler3DTransform()])
    path = tmp_path / "other.h5"
    path.write_bytes(itk_bytes(turned, ".h5"))
    with pytest.raises(InputError, match="neither a linear 3-D map nor one displacement field"):
        read_start(path)


def test_a_file_of_another_transform_and_a_missing_one_are_refused(tmp_path, field):
    path = stored(tmp_path, field)
    write_vectors(tmp_path / FILE, field.displacement + 1, LATTICE.affine)
    with pytest.raises(InputError, match=f"{FILE} beside it belongs to another transform"):
        read_start(path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:200])
    with pytest.raises(InputError, match=f"cannot be read from {FILE} beside it"):
        read_start(path)
    (tmp_path / FILE).unlink()
    with pytest.raises(InputError, match=f"lies in {FILE}, which is not beside it.*transform.tfm"):
        read_start(path)


def test_a_linear_map_is_asked_for_where_only_that_will_do(tmp_path, field):
    with pytest.raises(InputError, match="it holds a local deformation") as raised:
        read_matrix(stored(tmp_path, field))
    assert raised.value.remedy == LINEAR_ALONE


def test_a_given_deformation_is_taken_as_it_is_or_refused(field):
    grid = Grid((24, 22, 20), np.diag([5.0, 5.0, 5.0, 1.0]) + np.eye(4, k=3) * -55)
    fixed = volume(two_balls(grid.affine, grid.shape), grid.affine)
    values = np.cos(two_balls(grid.affine, (24, 22, 19)) / 20)
    moving = volume(values, grid.affine, modality="PET")
    with pytest.raises(UsageError, match="Take it with method=identity"):
        register(fixed=fixed, moving=moving, initial=MATRIX, deformation=field)
    found = register(
        fixed=fixed, moving=moving, method="identity", initial=MATRIX, deformation=field
    )
    assert found.deformation.sha256 == field.sha256
    assert found.method == "identity + deformation"
    assert found.verdict != "good"
    np.testing.assert_allclose(found.matrix, MATRIX, atol=1e-12)
