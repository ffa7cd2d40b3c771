"""Local deformations by person, beside ANTs and greedy from the same start.

    python workflows/benchmarks/deformable.py ROWS.jsonl [--people STS_024 ...] [--peers]
        [--preset default] [--data DIR]

ROWS.jsonl comes from `persons.py --kinds ct-mr mr-pet`: its rigid results are where every method
starts. Printed are, by person, the loop CT - MR - PET - CT at the tumour, the area of the contour
test, the least Jacobian of ours, and seconds of the processor for both steps of the loop.

Peers are taken where their wheels are installed (pip install antspyx picsl-greedy);
each runs the recipe that it recommends for two modalities, inside the volumes as they are.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from persons import SHARED, contour, person, roc_values

from medfuse.imaging.grid import Grid, Matrix, to_sitk, transform_points
from medfuse.registration.deformation import empty_image
from medfuse.registration.inputs import prepare
from medfuse.registration.local import deform
from medfuse.registration.progress import Meter, single_threaded_itk
from medfuse.registration.refine import itk_transform

Points = Callable[[np.ndarray], np.ndarray]
#: Fixed and moving volume on the fixed grid (LPS images) -> displacement in LPS mm.
Peer = Callable[[sitk.Image, sitk.Image], sitk.Image]


def _by_files(fixed: sitk.Image, moving: sitk.Image, run: Callable[[Path], Path]) -> sitk.Image:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sitk.WriteImage(fixed, str(folder / "fixed.nii.gz"))
        sitk.WriteImage(moving, str(folder / "moving.nii.gz"))
        return sitk.ReadImage(str(run(folder)), sitk.sitkVectorFloat64)


def ants_syn(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Symmetric normalization with mutual information."""
    import ants

    def run(folder: Path) -> Path:
        one, two = (ants.image_read(str(folder / f"{n}.nii.gz")) for n in ("fixed", "moving"))
        found = ants.registration(one, two, "SyNOnly", syn_metric="mattes", random_seed=1)
        return Path(next(p for p in found["fwdtransforms"] if p.endswith("Warp.nii.gz")))

    return _by_files(fixed, moving, run)


def greedy(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Greedy diffeomorphic registration with weighted cross-correlation."""
    from picsl_greedy import Greedy3D

    def run(folder: Path) -> Path:
        Greedy3D().execute(
            f"-threads 1 -m WNCC 2x2x2 -n 60x30x0 -s 3mm 1mm -i {folder}/fixed.nii.gz "
            f"{folder}/moving.nii.gz -o {folder}/warp.nii.gz"
        )
        return folder / "warp.nii.gz"

    return _by_files(fixed, moving, run)


PEERS: dict[str, tuple[str, Peer]] = {
    "ANTs": ("ants", ants_syn),
    "greedy": ("picsl_greedy", greedy),
}


def of_peer(peer: Peer, fixed: Any, moving: Any, matrix: Matrix) -> Points:
    """The map of a peer that deforms what our rigid result has put into place."""
    grid = Grid.from_volume(fixed)
    still = to_sitk(np.asarray(fixed)[0].astype(np.float32), grid.affine)
    other = to_sitk(np.asarray(moving)[0].astype(np.float32), np.asarray(moving.affine))
    placed = sitk.Resample(
        other, empty_image(grid), itk_transform(matrix), sitk.sitkLinear, 0.0, sitk.sitkFloat32
    )
    warp = sitk.DisplacementFieldTransform(peer(still, placed))
    flip = np.array([-1.0, -1.0, 1.0])

    def there(points: np.ndarray) -> np.ndarray:
        moved = [warp.TransformPoint(p) for p in (points * flip).tolist()]
        return transform_points(matrix, np.array(moved) * flip)

    return there


def ours(fixed: Any, moving: Any, matrix: Matrix, preset: str) -> tuple[Points, float]:
    """Our deformation, and its least Jacobian."""
    one, two = (prepare(volume, base_mm=2.0) for volume in (fixed, moving))
    with single_threaded_itk():
        found = deform(one, two, matrix, preset=preset, meter=Meter(None))
    return lambda p: transform_points(matrix, p + found.shifts(p)), found.least_jacobian


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path, help="rigid results of persons.py")
    parser.add_argument("--people", nargs="*", help="default: all in the file")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.open()]
    starts = {
        (r["kind"], r["name"]): np.linalg.inv(r["truth"]) @ np.array(r["found"]["matrix"])
        for r in rows
        if "found" in r
    }
    for name, (module, _) in PEERS.items():
        if options.peers and importlib.util.find_spec(module) is None:
            print(f"{name} is not installed and left out")
    print(
        "| person | method | loop mm | area | least Jacobian | s CPU |\n|---|---|---|---|---|---|"
    )
    for name in options.people or sorted({n for k, n in starts if k == "mr-pet"} - {"STS_001"}):
        one_person(name, starts["ct-mr", name], starts["mr-pet", name], options)


def one_person(name: str, first: Matrix, second: Matrix, options: argparse.Namespace) -> None:
    """Print a line for each method."""
    images = person(name, options.data)
    inside, affine = contour(name, "ct", options.data)
    points = transform_points(affine, np.argwhere(inside)[:: max(1, int(inside.sum()) // 200)])
    pairs = (("ct", "mr", first), ("mr", "pet", second))

    def line(method: str, maps: list[Points], least: float, seconds: float) -> None:
        loop = np.linalg.norm(maps[1](maps[0](points)) - points, axis=1).mean()
        area = roc_values(name, maps[1], options.data)
        jacobian = f"{least:.2f}" if np.isfinite(least) else ""
        print(
            f"| {name} | {method} | {loop:.1f} | {area:.2f} | {jacobian} | {seconds:.0f} |",
            flush=True,
        )

    line("rigid", [lambda p, m=m: transform_points(m, p) for *_, m in pairs], np.nan, 0.0)
    busy = time.process_time()
    found = [ours(images[f], images[m], matrix, options.preset) for f, m, matrix in pairs]
    least = min(jacobian for _, jacobian in found)
    line("deformable", [map_ for map_, _ in found], least, time.process_time() - busy)
    for method, (module, peer) in PEERS.items():
        if options.peers and importlib.util.find_spec(module) is not None:
            busy = time.process_time()
            maps = [of_peer(peer, images[f], images[m], matrix) for f, m, matrix in pairs]
            line(method, maps, np.nan, time.process_time() - busy)


if __name__ == "__main__":
    main()
