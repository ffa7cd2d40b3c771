"""Speed of the metrics against plain float64 code, one pair at a time, in the same run.

    python workflows/benchmarks/metrics.py [--data DIR] [--pairs 12] [--json metrics.json]

Both judge the same three results (the trivial rules) of the same real pairs, paper profile, every
metric. Ours does so as ``medfuse evaluate``: sources prepared once, one thread an operator, as
many chunks side by side as torch has threads. The plain code is the oracle of the tests
(scipy, scikit-image), in both customary forms: windows as two-dimensional convolutions, and rows
and columns apart. ``single`` judges one result with one call of ``compute`` on one thread. On a
busy machine compare processor time (``cpu``): threads then wait for each other's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "_helpers"))

from naive_metrics import Naive  # noqa: E402

from medfuse.evaluation.metrics import Judge, compute  # noqa: E402
from medfuse.kernel.color import clip_gamut, rgb_to_ycbcr, ycbcr_to_rgb  # noqa: E402

CHUNK = 4
RESULTS = 3

Values = dict[str, np.ndarray]  # metric to (pairs, results)


def load(data: Path, count: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Sources (N, 3, H, W) and (N, 1, H, W), and the results of the three rules."""
    paths = sorted((data / "PET").glob("*.png"))[:count]
    a = torch.stack([pixels(p, "RGB").permute(2, 0, 1) for p in paths])
    b = torch.stack([pixels(data / "MRI" / p.name, "L")[None] for p in paths])
    ycbcr = rgb_to_ycbcr(a)
    y, chroma = ycbcr[:, :1], ycbcr[:, 1:]
    luminances = (b, torch.maximum(y, b), 0.5 * (y + b))
    return a, b, [clip_gamut(ycbcr_to_rgb(torch.cat([x, chroma], 1)))[0] for x in luminances]


def pixels(path: Path, mode: str) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert(mode))).float() / 255


def ours(a: Tensor, b: Tensor, results: list[Tensor], threads: int) -> Values:
    def chunk(start: int) -> Values:
        part = slice(start, start + CHUNK)
        judge = Judge(a[part], b[part], profile="paper")
        found = [judge(result[part]) for result in results]
        return {name: torch.stack([f[name] for f in found], 1).numpy() for name in found[0]}

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(chunk, range(0, len(a), CHUNK)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def single(a: Tensor, b: Tensor, results: list[Tensor]) -> Values:
    found = [compute(a[:1], b[:1], results[1][:1], profile="paper")]
    return {name: value.numpy()[:, None] for name, value in found[0].items()}


def plain(a: Tensor, b: Tensor, results: list[Tensor], *, separable: bool, count: int) -> Values:
    judge = Naive("paper", separable=separable)
    rows = [
        [judge(a[i].numpy(), b[i].numpy(), result[i].numpy()) for result in results]
        for i in range(count)
    ]
    return {name: np.array([[r[name] for r in row] for row in rows]) for name in rows[0][0]}


def timed(work: Callable[[], Values], repeats: int) -> tuple[np.ndarray, Values]:
    """Best wall-clock and processor seconds, and what was computed."""
    best, values = np.full(2, np.inf), {}
    for _ in range(repeats):
        start = np.array([time.perf_counter(), time.process_time()])
        values = work()
        best = np.minimum(best, np.array([time.perf_counter(), time.process_time()]) - start)
    return best, values


def difference(fast: Values, slow: Values) -> tuple[float, str]:
    """Largest absolute difference over pairs, results and metrics, and where it is."""
    worst = {name: float(np.nanmax(np.abs(fast[name][: len(v)] - v))) for name, v in slow.items()}
    name = max(worst, key=lambda key: worst[key])
    return worst[name], name


def milliseconds(seconds: float) -> float:
    return round(float(seconds) * 1e3, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT.parent / "shared" / "data" / "harvard" / "PET-MRI" / "test"
    parser.add_argument("--data", type=Path, default=default, help="folder with PET/ and MRI/")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, b, results = load(options.data, options.pairs)
    few = min(2, len(a))
    seconds, values = timed(lambda: ours(a, b, results, threads), options.repeats)
    one, _ = timed(lambda: single(a, b, results), options.repeats)
    apart, slow = timed(
        lambda: plain(a, b, results, separable=True, count=len(a)), min(2, options.repeats)
    )
    square, slower = timed(lambda: plain(a, b, results, separable=False, count=few), 1)
    seconds, apart, square = (
        time_ / (count * RESULTS)
        for time_, count in ((seconds, len(a)), (apart, len(a)), (square, few))
    )
    worst, where = max(difference(values, slow), difference(values, slower))
    report = {
        "pairs": len(a),
        "size": list(a.shape[2:]),
        "results_per_pair": RESULTS,
        "metrics": len(values),
        "threads": threads,
        "load_average": round(os.getloadavg()[0], 1),
        "wall_ms_per_result": milliseconds(seconds[0]),
        "wall_ms_plain_two_dimensional": milliseconds(square[0]),
        "wall_ms_plain_separable": milliseconds(apart[0]),
        "cpu_ms_per_result": milliseconds(seconds[1]),
        "cpu_ms_single_result": milliseconds(one[1]),
        "cpu_ms_plain_two_dimensional": milliseconds(square[1]),
        "cpu_ms_plain_separable": milliseconds(apart[1]),
        "times_faster_than_two_dimensional": round(square[0] / seconds[0], 1),
        "times_faster_than_separable": round(apart[0] / seconds[0], 1),
        "times_less_work_than_separable": round(apart[1] / seconds[1], 1),
        "largest_difference": worst,
        "largest_difference_in": where,
    }
    for name, value in report.items():
        print(f"{name:36} {value}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if worst < 1e-4 and square[0] / seconds[0] >= 4 else 1


if __name__ == "__main__":
    sys.exit(main())
