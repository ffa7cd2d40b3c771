"""What the audit costs, and which pictures it tells from honest fusions.

    python workflows/benchmarks/audit.py [--json audit.json] [--pairs A B] [--most 16]

1. Seconds of every check on 256 x 256 x 180 (the T1 brain of the sample study and its PET), beside
   the fusion itself: wall and CPU.
2. Calibration of "invented structure" on slices of the sample study and, with --pairs, on folders
   of picture pairs (A functional, B anatomical; same names): weighted fusions (guides, rules,
   smooth random weights) against pictures that were changed or synthesised.
3. What --bounded changes: overshoot, VIF and Qabf with and without.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from pipeline import STUDY, volumes
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

import medfuse
from medfuse.audit import audit_fusion, structure, sums
from medfuse.audit.both_sources import both_sources
from medfuse.audit.colour import read_back_checks
from medfuse.audit.hot_spots import find_hot_spots
from medfuse.audit.orientation import laterality
from medfuse.case.pipeline import CaseSettings, align, load_pair
from medfuse.evaluation.metrics import compute
from medfuse.evaluation.pairs import find_pairs
from medfuse.fusion import pair as fusing
from medfuse.fusion.evidence import evidence_of
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.pictures import read_picture
from medfuse.kernel.blend import bound_luminance, fuse_luminance, overshoot
from medfuse.kernel.color import luma
from medfuse.kernel.explained import fit_sources
from medfuse.methods.registry import get_method
from medfuse.methods.unet import UnetGuide
from medfuse.study import discover

GUIDES = ("swift", "swift-pet", "swift-ct")
RULES = ("mean", "max", "saliency", "anatomical-luma")
Pictures = dict[str, Tensor]


# -- speed --------------------------------------------------------------------------------------


def speed(threads: int) -> dict[str, dict[str, float]]:
    """Wall and CPU seconds of the fusion, of the audit and of its parts; best of three."""
    torch.set_num_threads(threads)
    fixed, moving = volumes()
    kept = {}

    def keep(planes: object, sources: object) -> object:
        kept["evidence"] = evidence_of(planes, sources)  # type: ignore[arg-type]
        return kept["evidence"]

    fusing.evidence_of = keep  # type: ignore[assignment]
    pair = {"functional": moving, "anatomical": fixed, "mode": "slices"}
    rows = {"fusion (default)": timed(lambda: medfuse.fuse(**pair, audit=False))}
    medfuse.fuse(**pair)
    e = kept["evidence"]
    parts: dict[str, Callable[[], object]] = {
        "audit, all checks": lambda: audit_fusion(e),
        "  voxel sums": lambda: sums.gather(e),
        "  invented": lambda: structure.invented(e),
        "  hot spots": lambda: find_hot_spots(e),
        "  both sources": lambda: list(both_sources(e)),
        "  laterality": lambda: laterality(e),
        "  read-back": lambda: list(read_back_checks(e.read_back)),
        "overshoot map": lambda: overshoot(e.luminance, e.a, e.b),
    }
    rows |= {name: timed(part) for name, part in parts.items()}
    rows["process"] = {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    return rows


def timed(work: Callable[[], object], runs: int = 3) -> dict[str, float]:
    best = {"wall_s": np.inf, "cpu_s": np.inf}
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        best["wall_s"] = min(best["wall_s"], time.perf_counter() - wall)
        best["cpu_s"] = min(best["cpu_s"], time.process_time() - cpu)
    return best


# -- calibration --------------------------------------------------------------------------------


def pairs_of_the_study(slices: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Luminance (n, 1, R, K) of both sources in some slices of every sample case."""
    for case in discover(STUDY).cases:
        settings = CaseSettings(**{"accept_suspect": True, **case.overrides})
        anat, func = load_pair(case.anatomical, case.functional, settings)
        on_grid = align(anat, func, settings).resample(func)
        order = DisplayOrder.from_grid(Grid.from_volume(anat))
        for colormap in (None, "hot"):
            made = medfuse.fuse(
                functional=on_grid, anatomical=anat, method="mean", colormap=colormap, audit=False
            )
            a, b = (
                order.apply(x.as_tensor()).transpose(0, 1).contiguous()
                for x in (made.functional_luminance, made.anatomical)
            )
            chosen = torch.linspace(0.2 * len(a), 0.8 * len(a), slices).long()
            yield a[chosen], b[chosen]


def pairs_of_folders(a: Path, b: Path, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    found = find_pairs(a, b, {})
    for pair in found[:: max(1, len(found) // most)][:most]:
        yield luma(read_picture(pair.a, "RGB")), read_picture(pair.b, "L")


def weighted(a: Tensor, b: Tensor) -> Pictures:
    """Honest fusions: every one is a weighting of the two sources."""
    out = {}
    for name in (*GUIDES, *RULES):
        method = get_method(name)
        weights = method.weights(a, b)
        out[name] = fuse_luminance(a, b, weights, levels=method.info.levels).luminance
    weights = get_method("swift").weights(a, b)
    out["swift, paper kernel"] = fuse_luminance(a, b, weights, kernel="paper").luminance
    out["swift, 8 bit"] = (out["swift"] * 255).round() / 255
    out["alpha 0.3"] = 0.7 * a + 0.3 * b
    out["alpha by uptake"] = a * a + (1 - a) * b
    unet = UnetGuide(base=16, seed=0).weights(a, b)
    out["U-Net guide, untrained"] = fuse_luminance(a, b, unet).luminance
    smooth = blur(torch.randn(a.shape, generator=seeded(1)), 8)
    out["random weights, smooth"] = fuse_luminance(
        a, b, torch.sigmoid(2 * smooth / smooth.std())
    ).luminance
    return out


def changed(a: Tensor, b: Tensor, f: Tensor) -> Pictures:
    """Pictures with something of their own; ``f`` is an honest fusion."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in f.shape[-2:]), indexing="ij")
    places = (blur(b, 4) > 0.1)[0, 0].nonzero()
    row, column = places[len(places) // 3] if len(places) else torch.tensor(f.shape[-2:]) // 2
    spot = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 8.0**2))
    residual = conv_net(torch.cat([a, b], 1))
    return {
        "painted spot, 0.3, sigma 8": f + 0.3 * spot,
        "checkerboard, 4 %": f + 0.04 * (((rows // 2 + columns // 2) % 2) * 2 - 1),
        "sharpened": 2 * f - blur(f, 1.5),
        "smoothed": blur(f, 1),
        "noise, 2 %": f + 0.02 * torch.randn(f.shape, generator=seeded(2)),
        "residual conv net, 5 %": f + 0.05 * residual / residual.std(),
        "conv net, random weights": torch.sigmoid(residual / residual.std()),
        "shifted by 1 pixel": f.roll(1, 3),
        "shifted by 4 pixels": f.roll(4, 3),
        "mirrored": f.flip(3),
    }


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blur(x: Tensor, sigma: float) -> Tensor:
    radius = int(3 * sigma + 1)
    taps = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum())[None, None, None]
    x = pad(x, (radius,) * 4, mode="replicate")
    return conv2d(conv2d(x, taps), taps.transpose(2, 3))


def conv_net(x: Tensor) -> Tensor:
    """Four 3 x 3 layers with random weights, (n, 2, R, K) -> (n, 1, R, K)."""
    generator = seeded(3)
    for channels in (16, 16, 16, 1):
        weight = torch.randn((channels, x.shape[1], 3, 3), generator=generator)
        x = conv2d(pad(x, (1,) * 4, mode="reflect"), weight * (2 / (9 * x.shape[1])) ** 0.5)
        x = x.relu() if channels > 1 else x
    return x


def unexplained(f: Tensor, a: Tensor, b: Tensor) -> float:
    fit = fit_sources(f.float(), a, b)
    return float(fit.unexplained[fit.filled].mean()) if bool(fit.filled.any()) else 0.0


def calibrate(pairs: Iterator[tuple[Tensor, Tensor]]) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {"weighted": {}, "changed": {}}
    for a, b in pairs:
        honest = weighted(a, b)
        groups = {"weighted": honest, "changed": changed(a, b, honest["swift"])}
        for group, pictures in groups.items():
            for name, picture in pictures.items():
                found[group].setdefault(name, []).append(unexplained(picture, a, b))
    return found


def show_calibration(found: dict[str, dict[str, list[float]]]) -> None:
    limit = structure.LIMIT
    honest = [v for values in found["weighted"].values() for v in values]
    print(
        f"\n{'unexplained part':28}{'lowest':>9}{'median':>9}{'highest':>9}{'> limit':>9}{'AUC':>9}"
    )
    for group, rows in found.items():
        for name, values in rows.items():
            v = np.array(values)
            cells = (v.min(), np.median(v), v.max(), (v > limit).mean())
            line = f"{name:28}" + "".join(f"{cell:9.4f}" for cell in cells)
            print(line + (f"{auc(honest, values):9.3f}" if group == "changed" else ""))
    print(f"limit {limit:g}")


def auc(honest: list[float], altered: list[float]) -> float:
    """Probability that a changed picture has the higher number."""
    wins = np.subtract.outer(np.array(altered), np.array(honest))
    return float((wins > 0).mean() + 0.5 * (wins == 0).mean())


def overshoots(pairs: Iterator[tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
    """Highest fraction of voxels beyond both sources, highest and median patch, in grey levels."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for a, b in pairs:
        honest = weighted(a, b)
        pictures = honest | changed(a, b, honest["swift"])
        for name in (*GUIDES, "saliency", "random weights, smooth", "painted spot, 0.3, sigma 8"):
            excess = overshoot(pictures[name], a, b).abs()
            size = [min(sums.PATCH, n) for n in excess.shape[-2:]]
            patch = avg_pool2d(excess, size, [n // 2 for n in size]).max()
            fraction = float((excess > 1 / 255).float().mean())
            rows.setdefault(name, []).append((fraction, float(255 * patch)))
    return {
        name: [*np.max(values, 0).tolist(), float(np.median(values, 0)[1])]
        for name, values in rows.items()
    }


# -- bounded ------------------------------------------------------------------------------------


def bounds(pairs: Iterator[tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """Means over pictures: overshoot, VIF and Qabf of swift as it is and bounded."""
    rows: dict[str, list[list[float]]] = {"swift": [], "swift, bounded": []}
    for a, b in pairs:
        free = fuse_luminance(a, b, get_method("swift").weights(a, b)).luminance
        for name, f in (("swift", free), ("swift, bounded", bound_luminance(free, a, b)[0])):
            over = (overshoot(f, a, b).abs() > 1 / 255).float().mean((1, 2, 3))
            judged = compute(a, b, f.clamp(0, 1), profile="reference", only=["VIF", "Qabf"])
            rows[name] += torch.stack([over, judged["VIF"], judged["Qabf"]], 1).tolist()
    names = ("overshoot", "VIF", "Qabf")
    return {
        name: dict(zip(names, np.nanmean(np.array(values), 0).tolist(), strict=True))
        for name, values in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--pairs", nargs=2, type=Path, action="append", default=[])
    parser.add_argument("--most", type=int, default=16, help="pairs of a folder")
    parser.add_argument("--threads", type=int, default=2, help="one, where others use the machine")
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--only-speed", action="store_true")
    options = parser.parse_args()
    results: dict[str, object] = {}
    if not options.no_speed:
        rows = speed(options.threads)
        print(f"{'256 x 256 x 180':24}{'wall [s]':>10}{'CPU [s]':>10}")
        for name, row in rows.items():
            cells = "".join(f"{value:10.2f}" for value in row.values())
            print(f"{name:24}{cells}{' GB peak' if 'peak_gb' in row else ''}")
        results["speed"] = rows
    if options.only_speed:
        return
    cases = list(pairs_of_the_study(4))
    cases += [p for a, b in options.pairs for p in pairs_of_folders(a, b, options.most)]
    found = calibrate(iter(cases))
    show_calibration(found)
    results["overshoot"] = overshoots(iter(cases))
    print(f"\n{'overshoot':28}{'fraction':>9}{'patch':>9}{'median':>9}")
    for name, row in results["overshoot"].items():  # type: ignore[attr-defined]
        print(f"{name:28}{row[0]:9.3f}{row[1]:9.1f}{row[2]:9.1f}")
    results |= {"pictures": len(cases), "calibration": found, "bounded": bounds(iter(cases))}
    print(f"\n{len(cases)} pairs\n{'':20}{'overshoot':>10}{'VIF':>9}{'Qabf':>9}")
    for name, row in results["bounded"].items():  # type: ignore[attr-defined]
        print(f"{name:20}{row['overshoot']:10.4f}{row['VIF']:9.4f}{row['Qabf']:9.4f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
