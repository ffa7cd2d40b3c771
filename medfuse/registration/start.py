"""A start for the registration from a file: ITK, ANTs, FSL, plain text, or landmarks.

Every file says, or is told by `kind`, how it maps; nothing is guessed from its numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.errors import InputError, option
from medfuse.imaging.grid import Grid, Matrix, transform_points
from medfuse.registration.deformation import Deformation
from medfuse.registration.given import of_itk, of_result
from medfuse.registration.refine import ras_matrix
from medfuse.registration.tfm import read_itk

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

Kind = Literal["auto", "ras", "fsl", "landmarks"]
MIN_LANDMARKS = 3
LINEAR_ALONE = "Give its linear part alone, for example transform.tfm of a result"
MIN_BREADTH_MM = 1.0


def read_matrix(
    path: Path,
    *,
    kind: Kind = "auto",
    fixed: MetaTensor | None = None,
    moving: MetaTensor | None = None,
) -> Matrix:
    """Read a linear point map fixed -> moving, RAS mm.

    Parameters
    ----------
    path : Path
        With "auto": a ``transform.json`` of ours; a linear ITK transform (.tfm, .txt, .h5, and the
        .mat of ANTs: fixed -> moving point in LPS, as ITK resamples); else 4x4 text as for "ras".
        A .mat of text is refused, as FSL and others write such files with different meanings.
    kind : {"auto", "ras", "fsl", "landmarks"}
        "ras": 4x4 text, fixed -> moving point, RAS mm. "fsl": 4x4 text of FLIRT (``-omat``), made
        with `moving` as ``-in`` and `fixed` as ``-ref``. "landmarks": see `read_landmarks`.
    fixed, moving : (1, X, Y, Z) MetaTensor, optional
        Needed for "fsl".

    Returns
    -------
    matrix : (4, 4) float64

    Raises
    ------
    InputError
        ``E_BAD_TRANSFORM`` if the file holds no such map.
    """
    matrix, deformation = read_start(path, kind=kind, fixed=fixed, moving=moving)
    if deformation is not None:
        raise _bad(path, "it holds a local deformation", LINEAR_ALONE)
    return matrix


def read_start(
    path: Path,
    *,
    kind: Kind = "auto",
    fixed: MetaTensor | None = None,
    moving: MetaTensor | None = None,
) -> tuple[Matrix, Deformation | None]:
    """Read a linear map and, where there is one, the local deformation that is applied before it.

    Parameters are those of `read_matrix`. A deformation comes from a ``transform.json`` of ours
    with the file of displacements beside it, or from an ITK or ANTs composite (.h5, .tfm) of one
    displacement field and linear maps after it.

    Raises
    ------
    InputError
        ``E_BAD_TRANSFORM``.
    """
    if kind == "landmarks":
        return fit_landmarks(path)[0], None
    if kind == "auto" and path.suffix == ".json":
        matrix, deformation = _from_json(path)
        return _checked(path, matrix), deformation
    if kind == "auto" and _is_itk(path):
        matrix, deformation = _from_itk(path)
        return _checked(path, matrix), deformation
    return _from_numbers(path, kind, fixed, moving), None


def _from_numbers(
    path: Path, kind: Kind, fixed: MetaTensor | None, moving: MetaTensor | None
) -> Matrix:
    matrix = _checked(path, _from_text(path))
    if kind == "fsl":
        return _from_fsl(path, matrix, fixed, moving)
    if kind == "auto" and path.suffix == ".mat":
        raise _bad(
            path,
            "a .mat of text does not say which program wrote it",
            f"Give {option('initial_kind', 'fsl')} (FLIRT) or {option('initial_kind', 'ras')} "
            f"(fixed -> moving point, RAS mm)",
        )
    return matrix


def fit_landmarks(path: Path) -> tuple[Matrix, NDArray[np.float64]]:
    """Least-squares rigid map (Horn) of pairs of points, and what it leaves.

    Parameters
    ----------
    path : Path
        CSV without header, six numbers a line: fixed x, y, z, moving x, y, z, RAS mm; at least
        three pairs that are not in one line. ``#`` starts a comment.

    Returns
    -------
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    residuals : (N,) float64
        Distance of each mapped fixed point to its moving point, mm. Small ones do not prove the
        pairs right: three pairs leave little room for any.

    Raises
    ------
    InputError
        ``E_BAD_TRANSFORM``.

    References
    ----------
    Horn, JOSA A 4(4), 1987.
    """
    remedy = "Give six numbers a line: fixed x,y,z, moving x,y,z in RAS mm, three pairs or more"
    pairs = _from_text(path, delimiter=",", remedy=remedy)
    if pairs.shape[1] != 6 or not np.isfinite(pairs).all():
        raise _bad(path, f"expected 6 finite numbers a line, got {pairs.shape[1]}", remedy)
    if len(pairs) < MIN_LANDMARKS:
        raise _bad(path, f"{len(pairs)} pairs, at least {MIN_LANDMARKS} are needed", remedy)
    for name, points in (("fixed", pairs[:, :3]), ("moving", pairs[:, 3:])):
        centred = points - points.mean(axis=0)
        breadth = np.linalg.svd(centred, compute_uv=False)[1] / np.sqrt(len(points))
        if breadth < MIN_BREADTH_MM:
            raise _bad(
                path,
                f"the {name} points lie in one line (RMS distance from it {breadth:.2f} mm)",
                "Add a pair aside from the line: without it the turn about the line is open",
            )
    lps = (pairs.reshape(-1, 2, 3) * [-1.0, -1.0, 1.0]).transpose(1, 0, 2).reshape(2, -1)
    fit = sitk.LandmarkBasedTransformInitializer(
        sitk.VersorRigid3DTransform(), lps[0].tolist(), lps[1].tolist()
    )
    matrix = ras_matrix(fit)
    gap = transform_points(matrix, pairs[:, :3]) - pairs[:, 3:]
    return matrix, np.asarray(np.linalg.norm(gap, axis=1))


def landmark_note(path: Path) -> str:
    """What the landmarks leave, in words."""
    residuals = fit_landmarks(path)[1]
    worst = int(np.argmax(residuals))
    return (
        f"start from {len(residuals)} landmark pairs, residual "
        f"{np.sqrt(np.mean(residuals**2)):.1f} mm RMS, largest {residuals[worst]:.1f} mm "
        f"(pair {worst + 1})"
    )


def _from_json(path: Path) -> tuple[Matrix, Deformation | None]:
    try:
        values = json.loads(path.read_text())
        matrix = np.asarray(values["matrix"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error, "it is no transform.json of medfuse") from error
    if "deformation" not in values:
        return matrix, None
    try:
        return matrix, of_result(path, values)
    except ValueError as error:
        remedy = "Give transform.json in its result folder, or transform.tfm for the linear part"
        raise _bad(path, str(error), remedy) from error


def _from_text(path: Path, *, delimiter: str | None = None, remedy: str = "") -> Matrix:
    try:
        lines = path.read_text().splitlines()
        if not any(line.strip() for line in lines):
            raise _bad(path, "the file is empty", remedy)
        return np.loadtxt(lines, delimiter=delimiter, ndmin=2, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, "not numbers", remedy) from error


def _is_itk(path: Path) -> bool:
    """Tell from the first bytes: ITK's text has a title, HDF5 and MATLAB files hold a zero byte."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise _unreadable(path, error, "") from error
    return head.startswith(b"#Insight Transform") or b"\0" in head


def _from_itk(path: Path) -> tuple[Matrix, Deformation | None]:
    try:
        transform = read_itk(path)
    except (RuntimeError, OSError) as error:
        raise _bad(path, "ITK cannot read it") from error
    found = of_itk(transform) if transform.GetDimension() == 3 else None
    if found is None:
        raise _bad(
            path,
            f"its {transform.GetDimension()}-D {transform.GetName()} is neither a linear 3-D map "
            "nor one displacement field with linear maps after it",
            LINEAR_ALONE,
        )
    _, deformation = found
    if deformation and not np.isfinite(deformation.displacement).all():
        raise _bad(path, "its displacements are not all finite numbers", LINEAR_ALONE)
    return found


def _from_fsl(
    path: Path, matrix: Matrix, fixed: MetaTensor | None, moving: MetaTensor | None
) -> Matrix:
    """Turn FLIRT's moving -> fixed map of scaled voxels into a map of the world, fixed -> moving.

    FLIRT's coordinates are voxel index times voxel size; where the storage is "neurological"
    (positive determinant of the affine) the first index counts from the other end. They hang on the
    order in which a NIfTI file stores its voxels, hence DICOM is refused.
    """
    scaled = []
    for role, volume in (("fixed", fixed), ("moving", moving)):
        source = {} if volume is None else volume.meta.get("source") or {}
        if volume is None or source.get("kind") != "nifti":
            raise _bad(
                path,
                f"FLIRT's matrix depends on how its files store voxels, and the {role} volume is "
                "not such a file",
                "Give the NIfTI files that FLIRT had, or the map as 4x4 RAS text",
            )
        scaled.append(_world_from_fsl(Grid.from_volume(volume)))
    of_fixed, of_moving = scaled
    return np.asarray(of_moving @ np.linalg.inv(matrix) @ np.linalg.inv(of_fixed))


def _world_from_fsl(grid: Grid) -> Matrix:
    voxel_mm = np.diag([*grid.spacing, 1.0])
    if np.linalg.det(grid.affine[:3, :3]) > 0:
        voxel_mm[0, 0] *= -1.0
        voxel_mm[0, 3] = (grid.shape[0] - 1) * grid.spacing[0]
    return np.asarray(grid.affine @ np.linalg.inv(voxel_mm))


def _checked(path: Path, matrix: Matrix) -> Matrix:
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise _bad(path, f"expected 4x4 finite numbers, got shape {matrix.shape}")
    if not np.allclose(matrix[3], [0, 0, 0, 1]) or abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
        raise _bad(path, "the last row is not 0 0 0 1 or the matrix is singular")
    return matrix


def _unreadable(path: Path, error: Exception, cause: str, remedy: str = "") -> InputError:
    if isinstance(error, OSError):
        cause = error.strerror or type(error).__name__
    return _bad(path, cause, remedy)


def _bad(path: Path, cause: str, remedy: str = "") -> InputError:
    return InputError(
        "E_BAD_TRANSFORM",
        what="Cannot read the initial transform",
        where=path.name,
        cause=cause,
        remedy=remedy
        or "Give an ITK transform, or four lines of four numbers: fixed -> moving point, RAS mm",
    )
