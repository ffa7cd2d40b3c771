"""Other packages that register, each with the recipe that it recommends: for the benchmarks.

elastix, ANTs and greedy need their wheels (pip install "medfuse[benchmark]"); SimpleITK is there.
Rigid methods get the two volumes as they are loaded; deformable ones get the fixed volume, and the
moving one on its grid. All maps go from a fixed to a moving point.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data.meta_tensor import MetaTensor

from medfuse.imaging.grid import Grid, to_sitk, transform_points
from medfuse.registration.deformation import empty_image
from medfuse.registration.refine import itk_transform, ras_matrix

Matrix = np.ndarray
Points = Callable[[np.ndarray], np.ndarray]
#: (4, 4) RAS mm; the last argument is a start, or None.
Rigid = Callable[[MetaTensor, MetaTensor, Matrix | None], Matrix]
#: Fixed volume, and moving one on the fixed grid: the displacement of fixed points, LPS mm.
Deformable = Callable[[sitk.Image, sitk.Image], sitk.Image]
_FLIP = np.array([-1.0, -1.0, 1.0])
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CONTROL_MM = 40.0


class Apart:
    """A peer in a process of its own, as one package may change how another one works.

    (After elastix ran, ANTs ended 75 mm off in the same process, and 8 mm in its own.)
    """

    def __init__(self, module: str, run: Callable[..., Any]) -> None:
        self.run = run
        self.pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_imported, initargs=(module,)
        )

    def __call__(self, *images: Any) -> tuple[Any, float]:
        """What it finds, and seconds of the processor, imports aside."""
        return self.pool.submit(_timed, self.run, images).result()


def _imported(module: str) -> None:
    package = importlib.import_module(module)
    if module == "itk":
        package.ParameterObject.New()
        package.elastix_registration_method  # noqa: B018  (loads its libraries)


def _timed(run: Callable[..., Any], images: tuple[Any, ...]) -> tuple[Any, float]:
    busy = time.process_time()
    return run(*images), time.process_time() - busy


def installed(peers: dict[str, tuple[str, Any]]) -> dict[str, Apart]:
    """Those whose package is there; the others are named on the terminal."""
    for name, (module, _) in peers.items():
        if importlib.util.find_spec(module) is None:
            print(f"{name} is not installed and left out")
    return {n: Apart(*peer) for n, peer in peers.items() if importlib.util.find_spec(peer[0])}


def image_of(volume: MetaTensor, move: Matrix | None = None) -> sitk.Image:
    """The volume as float32, its header moved."""
    affine = np.asarray(volume.affine)
    return to_sitk(
        np.asarray(volume, dtype=np.float32)[0], affine if move is None else move @ affine
    )


def elastix_rigid(fixed: MetaTensor, moving: MetaTensor, start: Matrix | None) -> Matrix:
    """elastix with its own rigid parameter map; without a start grids are centred first."""
    import itk

    before = np.eye(4) if start is None else start
    settings = itk.ParameterObject.New()
    rigid = settings.GetDefaultParameterMap("rigid")
    rigid["AutomaticTransformInitialization"] = ["true" if start is None else "false"]
    rigid["WriteResultImage"] = ["false"]
    settings.AddParameterMap(rigid)
    _, found = itk.elastix_registration_method(
        _of_itk(image_of(fixed)),
        _of_itk(image_of(moving, np.linalg.inv(before))),
        parameter_object=settings,
        log_to_console=False,
    )
    values = _numbers(found, "TransformParameters")
    refined = sitk.Euler3DTransform(
        _numbers(found, "CenterOfRotationPoint"), *values[:3], values[3:]
    )
    refined.SetComputeZYX(found.GetParameter(0, "ComputeZYX")[0] == "true")
    return before @ ras_matrix(refined)


def ants_rigid(fixed: MetaTensor, moving: MetaTensor, _: Matrix | None) -> Matrix:
    """antsRegistration with mutual information, from the centres of mass."""
    import ants

    def run(folder: Path) -> Matrix:
        one, two = (ants.image_read(str(folder / f"{n}.nii.gz")) for n in ("fixed", "moving"))
        found = ants.registration(one, two, "Rigid", aff_metric="mattes", random_seed=1)
        (path,) = found["fwdtransforms"]
        linear = sitk.ReadTransform(path).Downcast()
        lps = np.eye(4)
        lps[:3, :3] = np.reshape(linear.GetMatrix(), (3, 3))
        lps[:3, 3] = linear.TransformPoint((0.0, 0.0, 0.0))
        return _LPS @ lps @ _LPS

    return _by_files(image_of(fixed), image_of(moving), run)


def greedy_rigid(fixed: MetaTensor, moving: MetaTensor, _: Matrix | None) -> Matrix:
    """greedy with normalized mutual information, from the centres of the images."""
    from picsl_greedy import Greedy3D

    def run(folder: Path) -> Matrix:
        Greedy3D().execute(
            f"-threads 1 -V 0 -a -dof 6 -m NMI -n 100x50x10 -ia-image-centers "
            f"-i {folder}/fixed.nii.gz {folder}/moving.nii.gz -o {folder}/found.mat"
        )
        return np.loadtxt(folder / "found.mat")  # RAS, as ITK-SNAP has it

    return _by_files(image_of(fixed), image_of(moving), run)


def ants_syn(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Symmetric normalization with mutual information."""
    import ants

    def run(folder: Path) -> sitk.Image:
        one, two = (ants.image_read(str(folder / f"{n}.nii.gz")) for n in ("fixed", "moving"))
        found = ants.registration(one, two, "SyNOnly", syn_metric="mattes", random_seed=1)
        return _field(next(p for p in found["fwdtransforms"] if p.endswith("Warp.nii.gz")))

    return _by_files(fixed, moving, run)


def greedy_warp(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Greedy diffeomorphic registration with weighted cross-correlation."""
    from picsl_greedy import Greedy3D

    def run(folder: Path) -> sitk.Image:
        Greedy3D().execute(
            f"-threads 1 -V 0 -m WNCC 2x2x2 -n 60x30x0 -s 3mm 1mm -i {folder}/fixed.nii.gz "
            f"{folder}/moving.nii.gz -o {folder}/warp.nii.gz"
        )
        return _field(folder / "warp.nii.gz")

    return _by_files(fixed, moving, run)


def elastix_bspline(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """elastix with its own B-spline parameter map: control points 10 mm apart, no penalty."""
    return _elastix({}, fixed, moving)


def elastix_stiff(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """elastix with control points 40 mm apart and its penalty on bending (weight 50)."""
    penalty = {
        "FinalGridSpacingInPhysicalUnits": [str(CONTROL_MM)],
        "Registration": ["MultiMetricMultiResolutionRegistration"],
        "Metric": ["AdvancedMattesMutualInformation", "TransformBendingEnergyPenalty"],
        "Metric0Weight": ["1"],
        "Metric1Weight": ["50"],
    }
    return _elastix(penalty, fixed, moving)


def _elastix(changes: dict[str, list[str]], fixed: sitk.Image, moving: sitk.Image) -> Any:
    """The splines themselves, rebuilt from their coefficients."""
    import itk

    settings = itk.ParameterObject.New()
    splines = settings.GetDefaultParameterMap("bspline")
    splines["WriteResultImage"] = ["false"]
    splines["AutomaticTransformInitialization"] = ["false"]
    for key, value in changes.items():
        splines[key] = value
    settings.AddParameterMap(splines)
    _, found = itk.elastix_registration_method(
        _of_itk(fixed), _of_itk(moving), parameter_object=settings, log_to_console=False
    )
    x, y, z = (int(n) for n in _numbers(found, "GridSize"))
    images = []
    for values in np.reshape(_numbers(found, "TransformParameters"), (3, z, y, x)):
        image = sitk.GetImageFromArray(np.ascontiguousarray(values))
        image.SetSpacing(_numbers(found, "GridSpacing"))
        image.SetOrigin(_numbers(found, "GridOrigin"))
        image.SetDirection(_numbers(found, "GridDirection"))
        images.append(image)
    return _displacement(sitk.BSplineTransform(images, 3), fixed)


def sitk_bspline(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """B-splines of SimpleITK, control points 40 mm apart, mutual information of 20 % of voxels."""
    size = np.array(fixed.GetSize()) * fixed.GetSpacing()
    mesh = [max(1, round(float(length) / CONTROL_MM)) for length in size]
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGSB(1e-5, 60)
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([4, 2])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(sitk.BSplineTransformInitializer(fixed, mesh), inPlace=True)
    return _displacement(method.Execute(fixed, moving), fixed)


def sitk_demons(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Diffeomorphic demons of SimpleITK on the strength of edges, blurred, 4 mm apart."""
    step = [max(1, round(4.0 / s)) for s in fixed.GetSpacing()]
    edges = []
    for image in (fixed, moving):
        top = float(np.percentile(sitk.GetArrayViewFromImage(image), 99.5))
        edge = sitk.GradientMagnitudeRecursiveGaussian(sitk.Clamp(image, upperBound=top), 4.0)
        highest = float(np.percentile(sitk.GetArrayViewFromImage(edge), 99.0)) or 1.0
        edges.append(sitk.Shrink(sitk.Clamp(edge / highest, upperBound=1.0), step))
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(100)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations([12.0 / s for s in edges[0].GetSpacing()])
    return sitk.Cast(demons.Execute(*edges), sitk.sitkVectorFloat64)


RIGID: dict[str, tuple[str, Rigid]] = {
    "elastix": ("itk", elastix_rigid),
    "ANTs": ("ants", ants_rigid),
    "greedy": ("picsl_greedy", greedy_rigid),
}
DEFORMABLE: dict[str, tuple[str, Deformable]] = {
    "ANTs SyN": ("ants", ants_syn),
    "greedy": ("picsl_greedy", greedy_warp),
    "elastix, own map": ("itk", elastix_bspline),
    "elastix, stiff": ("itk", elastix_stiff),
    "SimpleITK B-splines": ("SimpleITK", sitk_bspline),
    "SimpleITK demons on edges": ("SimpleITK", sitk_demons),
}


def deformed_by(peer: Apart, fixed: Any, moving: Any, matrix: Matrix) -> tuple[Points, float]:
    """The map of a peer that deforms what our rigid result has put into place, and its seconds."""
    placed = sitk.Resample(
        image_of(moving),
        empty_image(Grid.from_volume(fixed)),
        itk_transform(matrix),
        sitk.sitkLinear,
        0.0,
        sitk.sitkFloat32,
    )
    field, seconds = peer(image_of(fixed), placed)
    warp = sitk.DisplacementFieldTransform(field)

    def there(points: np.ndarray) -> np.ndarray:
        moved = [warp.TransformPoint(p) for p in (points * _FLIP).tolist()]
        return transform_points(matrix, np.array(moved) * _FLIP)

    return there, seconds


def _by_files(fixed: sitk.Image, moving: sitk.Image, run: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sitk.WriteImage(fixed, str(folder / "fixed.nii.gz"))
        sitk.WriteImage(moving, str(folder / "moving.nii.gz"))
        return run(folder)


def _field(path: Path | str) -> sitk.Image:
    return sitk.ReadImage(str(path), sitk.sitkVectorFloat64)


def _displacement(transform: sitk.Transform, fixed: sitk.Image) -> sitk.Image:
    sample = sitk.TransformToDisplacementFieldFilter()
    sample.SetReferenceImage(fixed)
    return sample.Execute(transform)


def _of_itk(image: sitk.Image) -> Any:
    """An image of the itk package, with its place in the world."""
    import itk

    made = itk.GetImageFromArray(sitk.GetArrayFromImage(image))
    made.SetSpacing(image.GetSpacing())
    made.SetOrigin(image.GetOrigin())
    made.SetDirection(np.reshape(image.GetDirection(), (3, 3)))
    return made


def _numbers(found: Any, key: str) -> list[float]:
    return [float(value) for value in found.GetParameter(0, key)]
