"""Judge methods, or other people's results, on folders of registered picture pairs.

The trivial rules are rows of every table: a method that does not beat "take the anatomical image
as luminance" has learned nothing that the numbers can show.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from medfuse.errors import UsageError
from medfuse.evaluation.metrics import CHUNK_PIXELS, METRICS, PROFILES, Judge, Profile
from medfuse.evaluation.pairs import PicturePair, check_outside, find_pairs, write_pictures
from medfuse.evaluation.sources import judge_sources
from medfuse.imaging.pictures import cannot_write, read_picture
from medfuse.kernel.color import clip_gamut, desaturate, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.devices import Device, exact_convolutions, find_device
from medfuse.kernel.pyramid import KERNELS, Kernel
from medfuse.methods.base import Method, Painter, on_device
from medfuse.methods.registry import fuse_by, get_method

TRIVIAL_RULES: Final = ("anatomical-luma", "max", "mean")
SCHEMA: Final = "medfuse-evaluation/1"

Policy = Literal["desaturate", "clip"]

_LISTED = 20
_BETTER = {"weaker": "higher", "kept_A": "higher", "kept_B": "higher", "rank": "higher"}
_BETTER |= {"beyond": "lower", "contradicting": "lower"}

_TABLES = {
    "Both sources, where both have signal": "weaker kept_A kept_B beyond rank contradicting",
    "What is kept of both sources": "VIF VIF_A VIF_B Qabf SSIM SSIM_A SSIM_B",
    "What is kept of source A": "uptake_correlation hot_spot_share lesion_contrast",
    "More": "MI CC SCD MS-SSIM PSNR MSE",
    "Invented edges; the picture alone": "Nabf EN SD AG SF",
}
_LABELS = {
    "weaker": "weaker",
    "kept_A": "detail A",
    "kept_B": "detail B",
    "beyond": "beyond",
    "rank": "rank r",
    "contradicting": "flag px",
    "uptake_correlation": "uptake r",
    "hot_spot_share": "hot-spot share",
    "lesion_contrast": "lesion contrast",
}


@dataclass(frozen=True)
class Row:
    """Every metric of every pair for one method."""

    name: str
    kind: str  # "rule", "guide", "synthesis" or "folder"
    values: Mapping[str, tuple[float, ...]]  # metric name to one value a pair
    weights_sha256: str | None = None
    parameters: int = 0

    def defined(self, metric: str) -> list[float]:
        """The values that are not NaN."""
        return [v for v in self.values[metric] if not math.isnan(v)]

    def mean(self, metric: str) -> float:
        """Plain mean over the pairs where the metric is defined; NaN if there is none."""
        values = self.defined(metric)
        return math.fsum(values) / len(values) if values else math.nan

    def std(self, metric: str) -> float:
        """Sample standard deviation over the same pairs; NaN below two pairs."""
        values = self.defined(metric)
        if len(values) < 2 or not all(map(math.isfinite, values)):
            return math.nan
        return statistics.stdev(values)


@dataclass(frozen=True)
class EvaluationTable:
    """Methods (rows) judged on the same pairs in one profile."""

    profile: Profile
    kernel: Kernel
    gamut: Policy
    a: str
    b: str
    pairs: tuple[str, ...]
    blank: tuple[str, ...]
    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.name == name)

    def to_dict(self, *, per_pair: bool = False) -> dict[str, Any]:
        """The table as plain JSON-able values; what is not a finite number is None."""
        return {
            "schema": SCHEMA,
            "profile": self.profile,
            "kernel": self.kernel,
            "gamut": self.gamut,
            "a": self.a,
            "b": self.b,
            "pairs": len(self.pairs),
            "names": list(self.pairs),
            "blank": list(self.blank),
            "rows": [_row_dict(row, per_pair=per_pair) for row in self.rows],
        }


def evaluate(
    a_dir: Path,
    b_dir: Path,
    methods: Sequence[str | Path | Method | Painter],
    *,
    profile: Profile,
    kernel: Kernel = "binomial",
    gamut: Policy = "desaturate",
    fused: Mapping[str, Path] | None = None,
    save: Path | None = None,
    device: Device = "auto",
    keep_names: bool = True,
    on_progress: Callable[[float, str], None] | None = None,
) -> EvaluationTable:
    """Fuse all pairs of two folders by several methods and judge the results.

    Parameters
    ----------
    a_dir, b_dir : Path
        Pictures of source A (read as RGB) and B (read as gray); paired by name without suffix.
    methods : sequence of name, path of weights, or Method
        Rows after those of the trivial rules.
    profile : {"reference", "paper"}
    kernel : {"binomial", "paper"}
        Kernel of the fusion.
    gamut : {"desaturate", "clip"}
        Colours outside the RGB range: as ``medfuse.fuse`` does it, or cut as in the paper.
    fused : dict of name to folder, optional
        Finished results to be judged beside them, by the same file names. Further files in such a
        folder are left alone.
    save : Path, optional
        Folder for the fused pictures: ``save/METHOD/NAME.png``, 8-bit RGB.
    device : {"auto", "cpu", "cuda", "mps"}
        Where guides, kernel and metrics compute; ``auto`` is ``cpu``. On ``mps``, which has no
        float64, the metrics are the processor's.
    keep_names : bool
        Call pairs, saved pictures and folders as the inputs are called, and not by number: names
        of files may be those of patients. `fused` finds saved pictures by these names.
    on_progress : callable, optional
        Called with the part that is done, in [0, 1], and one line of text.

    Returns
    -------
    EvaluationTable

    Raises
    ------
    UsageError
        E_UNPAIRED if a picture has no partner, E_SIZE if partners differ in size, E_DEVICE if torch
        cannot compute on the device here.
    InputError
        If there are no pictures, or one cannot be read.
    OutputError
        If a fused picture cannot be written.
    """
    _check_choice("profile", profile, PROFILES)
    _check_choice("kernel", kernel, KERNELS)
    place = find_device(device)
    guides = {name: on_device(method, place) for name, method in _guides(methods).items()}
    folders = dict(fused or {})
    _check_names(guides, folders)
    pairs = find_pairs(a_dir, b_dir, folders)
    if not keep_names:
        pairs = [replace(pair, name=f"{k:04d}") for k, pair in enumerate(pairs, start=1)]
    if save is not None:
        check_outside(save, (a_dir, b_dir))
    judge = _ChunkJudge(guides, tuple(folders), profile, kernel, gamut, save, place)
    results: dict[str, dict[str, dict[str, float]]] = {}
    blank: set[str] = set()
    with exact_convolutions(place):
        for done in _in_threads(judge, _chunks(pairs)):
            results |= done.values
            blank |= done.blank
            if on_progress:
                on_progress(len(results) / len(pairs), f"{len(results)} of {len(pairs)} pairs")
    names = tuple(pair.name for pair in pairs)
    return EvaluationTable(
        profile=profile,
        kernel=kernel,
        gamut=gamut,
        a=a_dir.name if keep_names else "a",
        b=b_dir.name if keep_names else "b",
        pairs=names,
        blank=tuple(name for name in names if name in blank),
        rows=_rows(guides, tuple(folders), [results[name] for name in names]),
    )


def write_json(table: EvaluationTable, path: Path, *, per_pair: bool = True) -> None:
    """Write the table as JSON.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    text = json.dumps(table.to_dict(per_pair=per_pair), indent=1, allow_nan=False)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path.name, error) from error


def render(table: EvaluationTable) -> Group:
    """The table for a terminal, with mean and standard deviation; print it with rich."""
    head = f"{len(table.pairs)} pairs {table.a} (A) + {table.b} (B), profile {table.profile}"
    parts: list[Any] = [Text(head, style="bold")]
    parts += [_render_part(table, title, names.split()) for title, names in _TABLES.items()]
    if table.blank:
        listed = ", ".join(table.blank[:_LISTED])
        parts.append(Text(f"{len(table.blank)} pairs with a blank source do not count: {listed}"))
    return Group(*parts)


def _render_part(table: EvaluationTable, title: str, metrics: list[str]) -> Table:
    out = Table(
        title=f"{title} (profile {table.profile})",
        title_justify="left",
        pad_edge=False,
        box=box.SIMPLE_HEAD,
    )
    out.add_column("method", no_wrap=True)
    for metric in metrics:
        out.add_column(_LABELS.get(metric, metric), justify="right")
    for row in table.rows:
        cells = [_cell(row, metric, best=_is_best(table, row, metric)) for metric in metrics]
        out.add_row(row.name, *cells)
    return out


def _cell(row: Row, metric: str, *, best: bool) -> Text:
    mean, std = row.mean(metric), row.std(metric)
    text = Text("-" if math.isnan(mean) else _short(mean, least=4), style="bold" if best else "")
    if not math.isnan(std):
        text.append(f"\n±{_short(std)}", style="dim not bold")
    return text


def _short(value: float, *, least: int = 3) -> str:
    """Six characters or less for all values that occur, so that tables fit 80 columns."""
    size = abs(value)
    return f"{value:.{2 if size >= 10 else 3 if size >= 0.01 else least}f}"


def _is_best(table: EvaluationTable, row: Row, metric: str) -> bool:
    better = _BETTER.get(metric) or METRICS[metric.removesuffix("_A").removesuffix("_B")].better
    means = [v for v in (r.mean(metric) for r in table.rows) if not math.isnan(v)]
    if not better or not means:
        return False
    return row.mean(metric) == (max(means) if better == "higher" else min(means))


@dataclass(frozen=True)
class _Judged:
    values: dict[str, dict[str, dict[str, float]]]  # pair, row, metric
    blank: set[str]


@dataclass(frozen=True)
class _ChunkJudge:
    """Loads, fuses, judges and saves a few pairs of one size."""

    guides: Mapping[str, Method | Painter]
    folders: tuple[str, ...]
    profile: Profile
    kernel: Kernel
    gamut: Policy
    save: Path | None
    device: torch.device

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[PicturePair]) -> _Judged:
        a = self._seen([read_picture(pair.a, "RGB") for pair in pairs])
        b = self._seen([read_picture(pair.b, "L") for pair in pairs])
        judge = Judge(a, b, profile=self.profile)
        values: dict[str, dict[str, dict[str, float]]] = {pair.name: {} for pair in pairs}
        for row, pictures in self._results(a, b, pairs):
            both = judge_sources(a, b, pictures)
            both["weaker"] = torch.minimum(both["kept_A"], both["kept_B"])
            columns = {name: found.tolist() for name, found in (judge(pictures) | both).items()}
            for i, pair in enumerate(pairs):
                values[pair.name][row] = {name: column[i] for name, column in columns.items()}
        flags = zip(pairs, judge.blank.tolist(), strict=True)
        return _Judged(values, {pair.name for pair, is_blank in flags if is_blank})

    def _seen(self, pictures: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(pictures)).to(self.device)

    def _results(
        self, a: Tensor, b: Tensor, pairs: Sequence[PicturePair]
    ) -> Iterator[tuple[str, Tensor]]:
        ycbcr = rgb_to_ycbcr(a)
        for row, method in self.guides.items():
            luminance = fuse_by(method, ycbcr[:, :1], b, kernel=self.kernel)
            rgb = self._picture(luminance, ycbcr[:, 1:])
            if self.save is not None:
                write_pictures(self.save / row, pairs, rgb.cpu())
            yield row, rgb
        for row in self.folders:
            yield row, self._seen([read_picture(pair.fused[row], "RGB") for pair in pairs])

    def _picture(self, luminance: Tensor, cbcr: Tensor) -> Tensor:
        if self.gamut == "clip":
            return clip_gamut(ycbcr_to_rgb(torch.cat([luminance, cbcr], dim=1)))[0]
        return desaturate(luminance, cbcr)[0]


def _in_threads(judge: _ChunkJudge, chunks: Sequence[Sequence[PicturePair]]) -> Iterator[_Judged]:
    """Judge chunks side by side, each by one thread; results as they come."""
    with _single_threaded_operators() as workers, ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(judge, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _single_threaded_operators() -> Iterator[int]:
    """One thread an operator; gives the number of threads torch had, for use as workers.

    Operators on small pictures gain nothing from several threads, and their barriers cost most
    where the cores are shared.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _guides(methods: Sequence[str | Path | Method | Painter]) -> dict[str, Method | Painter]:
    guides = {name: get_method(name) for name in TRIVIAL_RULES}
    for given in methods:
        method = get_method(given)
        is_file = isinstance(given, str | Path) and str(given).endswith(".safetensors")
        name = Path(str(given)).stem if is_file else method.info.name
        if name in guides and given not in TRIVIAL_RULES:
            raise _same_name([name])
        guides[name] = method
    return guides


def _check_names(guides: Mapping[str, Method | Painter], folders: Mapping[str, Path]) -> None:
    clash = sorted(guides.keys() & folders.keys())
    if clash:
        raise _same_name(clash)


def _same_name(names: Sequence[str]) -> UsageError:
    return UsageError(
        "E_DUPLICATE_NAME",
        what="Cannot evaluate",
        cause=f"two rows would be named {', '.join(names)}",
        remedy="Name each method once, rename a weights file, or name the folder otherwise",
    )


def _chunks(pairs: Sequence[PicturePair]) -> list[list[PicturePair]]:
    """Groups of pairs of one size, each of about :data:`CHUNK_PIXELS` pixels."""
    buckets: dict[tuple[int, int], list[PicturePair]] = {}
    for pair in pairs:
        buckets.setdefault(pair.size, []).append(pair)
    chunks = []
    for (width, height), bucket in buckets.items():
        step = max(1, CHUNK_PIXELS // (width * height))
        chunks += [bucket[i : i + step] for i in range(0, len(bucket), step)]
    return chunks


def _rows(
    guides: Mapping[str, Method | Painter],
    folders: Sequence[str],
    results: Sequence[Mapping[str, Mapping[str, float]]],
) -> tuple[Row, ...]:
    def values(name: str) -> dict[str, tuple[float, ...]]:
        return {m: tuple(pair[name][m] for pair in results) for m in results[0][name]}

    rows = [
        Row(name, m.info.kind, values(name), m.info.weights_sha256, m.info.parameters)
        for name, m in guides.items()
    ]
    return (*rows, *(Row(name, "folder", values(name)) for name in folders))


def _row_dict(row: Row, *, per_pair: bool) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": row.name,
        "kind": row.kind,
        "parameters": row.parameters,
        "weights_sha256": row.weights_sha256,
        "mean": {name: _finite(row.mean(name)) for name in row.values},
        "std": {name: _finite(row.std(name)) for name in row.values},
        "defined": {name: len(row.defined(name)) for name in row.values},
    }
    if per_pair:
        out["values"] = {name: [_finite(v) for v in row.values[name]] for name in row.values}
    return out


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _check_choice(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(
            "E_UNKNOWN_OPTION",
            what=f"Unknown {what} {value!r}",
            cause=f"known are {', '.join(allowed)}",
            remedy="Choose one of these",
        )
