"""All methods in one table: four sets of pairs, both profiles, uptake, invention, size, speed.

    python workflows/benchmarks/methods.py --data DATA --json OUT [--markdown OUT] [--picture PNG]

DATA holds ``msrs`` and ``harvard``; test splits are judged, nothing is trained or chosen. Parts:

1. every method on MSRS, PET, SPECT and CT in both profiles, with what the audit says of its
   pictures (structure of its own, overshoot, grey levels that a network painted);
2. the same networks untrained, with seeded random values: how much is the kernel worth alone?
3. focus stacks and exposures made from MSRS pictures, where the answer is known;
4. parameters, milliseconds a 256 x 256 slice on this processor, seconds of training.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from oracle import FOLDERS, load
from PIL import Image
from sample_slices import sample_slices, sheet
from torch import Tensor

from medfuse.audit import Evidence, audit_fusion
from medfuse.evaluation.metrics import Judge, compute
from medfuse.fusion import fuse
from medfuse.imaging.pictures import IMAGE_SUFFIXES, read_picture
from medfuse.kernel.blend import overshoot
from medfuse.kernel.color import clip_gamut, luma, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.methods import zoo
from medfuse.methods.base import Method, MethodInfo, Painter
from medfuse.methods.network import build_seeded
from medfuse.methods.registry import fuse_by, get_method
from medfuse.pictures.fuse import fuse_pictures
from medfuse.training.synthetic import exposure_pair, focus_pair

RULES = ("anatomical-luma", "max", "mean", "saliency")
NETWORKS = ("swift-msrs", "unet", "unet-paints", "gifnet", "unfolding", "unfolding-features")
IN_DOMAIN = {"PET": "swift-pet", "SPECT": "swift-spect", "CT": "swift-ct"}
METRICS = ("VIF", "VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation", "hot_spot_share", "Nabf")
JUDGED = ("VIF", "Qabf", "SSIM", "uptake_correlation", "hot_spot_share", "Nabf")
AUDITED = ("invented", "overshoot", "painted")
TASKS = {"focus": focus_pair, "exposure": exposure_pair}
HEADS = {"uptake_correlation": "uptake r", "hot_spot_share": "hot-spot share"}
CHUNK = 4  # pairs at a time
REPEATS = 3

Methods = dict[str, Method | Painter]
Row = dict[str, Any]


def main() -> None:
    """Judge everything, print and write it."""
    options = _options()
    torch.set_num_threads(options.threads)
    methods: Methods = {name: get_method(name) for name in (*RULES, *options.networks)}
    untrained = {f"{name}, untrained": _untrained(get_method(name)) for name in options.networks}
    table: dict[str, list[Row]] = {"methods": [_size_and_speed(n, m) for n, m in methods.items()]}
    table["pairs"] = []
    for domain in options.domains:
        a, b = load(options.data, domain, "test", options.pairs)
        own = IN_DOMAIN.get(domain)
        known = {**methods, own: get_method(own)} if own else methods
        table["pairs"] += [judge(domain, name, m, a, b) for name, m in (known | untrained).items()]
    table["tasks"] = tasks(options.data, methods, options.pairs or 30)
    text = markdown(table)
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    if options.picture:
        shown = {name: methods[name] for name in ("anatomical-luma", *options.networks)}
        picture(shown).save(options.picture)


@torch.inference_mode()
def judge(domain: str, name: str, method: Method | Painter, a: Tensor, b: Tensor) -> Row:
    """Means over the pairs in both profiles, and what the audit says of the pictures."""
    ycbcr = rgb_to_ycbcr(a)
    y = ycbcr[:, :1]
    luminance = torch.cat([fuse_by(method, y[p], b[p]) for p in _chunks(len(a))])
    rgb, _ = clip_gamut(ycbcr_to_rgb(torch.cat([luminance, ycbcr[:, 1:]], dim=1)))
    row: Row = {"set": domain, "pairs": len(a), "method": name}
    for profile in ("paper", "reference"):
        found = [Judge(a[p], b[p], profile=profile, only=JUDGED)(rgb[p]) for p in _chunks(len(a))]
        row[profile] = {m: _mean(torch.cat([f[m] for f in found])) for m in METRICS}
    audits = [_audit(method, y[p], b[p], luminance[p]) for p in _chunks(len(a))]
    row |= {key: _mean(torch.tensor([audit[key] for audit in audits])) for key in AUDITED}
    print(json.dumps(row), flush=True)
    return row


def _audit(method: Method | Painter, y: Tensor, b: Tensor, luminance: Tensor) -> dict[str, float]:
    evidence = Evidence(
        a=y, b=b, luminance=luminance, rgb=luminance.expand(-1, 3, -1, -1),
        overshoot=overshoot(luminance, y, b), is_foreign=True,
    )  # fmt: skip
    audit = audit_fusion(evidence)
    painted = 0.0
    if isinstance(method, Painter):
        one = fuse(functional=y[0], anatomical=b[0], method=method, colormap="gray").painted
        assert one is not None  # it is a painter
        painted = 255 * float(one.abs().mean())
    return {
        "invented": 100 * audit["invented"].value,
        "overshoot": 100 * audit["overshoot"].value,
        "painted": painted,
    }


def _untrained(method: Method | Painter) -> Method | Painter:
    """The same architecture with the values that it starts from."""
    card = method.info.card
    net = build_seeded(lambda: zoo.build_network(card["architecture"], card["options"]), 0)
    kind, levels = method.info.kind, method.info.levels
    return zoo.wrap_network(net, MethodInfo(method.info.name, "untrained", kind, levels=levels))


def _size_and_speed(name: str, method: Method | Painter) -> Row:
    a, b = torch.rand((2, 4, 1, 256, 256), generator=torch.Generator().manual_seed(0))
    seconds = min(_timed(lambda: fuse_by(method, a, b)) for _ in range(REPEATS))
    info = method.info
    return {
        "method": name,
        "kind": info.kind,
        "parameters": info.parameters,
        "ms_per_slice": round(1000 * seconds / len(a), 1),
        "training_seconds": info.card.get("seconds"),
    }


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.inference_mode()
def tasks(data: Path, methods: Methods, count: int) -> list[Row]:
    """PSNR and SSIM against the picture that focus stacks and exposures were made from."""
    folder = data / "msrs" / "test" / "vi"
    paths = sorted(p for p in folder.iterdir() if p.suffix in IMAGE_SUFFIXES)[:count]
    rows: list[Row] = []
    for task, make in TASKS.items():
        values: dict[str, list[tuple[float, float]]] = {}
        for seed, path in enumerate(paths):
            truth = luma(read_picture(path, "RGB"))
            a, b = make(truth, torch.Generator().manual_seed(seed))
            results = {n: _fused(a, b, m, task) for n, m in methods.items()}
            for name, fused in {"A alone": a, "B alone": b, **results}.items():
                found = compute(
                    truth, truth, fused.clamp(0, 1), profile="reference", only=("PSNR", "SSIM")
                )
                pair = float(found["PSNR_A"]), float(found["SSIM_A"])
                values.setdefault(name, []).append(pair)
        for name, found_ in values.items():
            psnr, ssim = (math.fsum(column) / len(paths) for column in zip(*found_, strict=True))
            rows.append({"task": task, "pairs": len(paths), "method": name})
            rows[-1] |= {"PSNR": round(psnr, 2), "SSIM": round(ssim, 4)}
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _fused(a: Tensor, b: Tensor, method: Method | Painter, task: str) -> Tensor:
    rgb = [x[0].expand(3, -1, -1) for x in (a, b)]
    return luma(fuse_pictures(*rgb, method=method, task=task).rgb[None])  # type: ignore[arg-type]


def markdown(table: dict[str, list[Row]]) -> str:
    """The table as GitHub Markdown."""
    parts = ["**Size and speed**", _grid(table["methods"], _size_cells)]
    for domain in dict.fromkeys(row["set"] for row in table["pairs"]):
        rows = [row for row in table["pairs"] if row["set"] == domain]
        parts += [f"**{domain} test, {rows[0]['pairs']} pairs**", _grid(rows, _pair_cells)]
    for task in TASKS:
        rows = [row for row in table["tasks"] if row["task"] == task]
        parts += [f"**{task}, {rows[0]['pairs']} pairs with a known answer**"]
        parts += [_grid(rows, _task_cells)]
    return "\n\n".join(parts) + "\n"


def _grid(rows: Sequence[Row], cells: Callable[[Row], dict[str, str]]) -> str:
    filled = [cells(row) for row in rows]
    heads = list(filled[0])
    lines = [heads, ["---"] * len(heads), *([row[head] for head in heads] for row in filled)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _size_cells(row: Row) -> dict[str, str]:
    seconds = row["training_seconds"]
    return {
        "method": f"`{row['method']}`",
        "makes": {"synthesis": "pixels"}.get(row["kind"], "weights"),
        "parameters": f"{row['parameters']:,}",
        "ms a 256 x 256 slice": f"{row['ms_per_slice']:.1f}",
        "training": "-" if seconds is None else f"{seconds / 60:.0f} min",
    }


def _pair_cells(row: Row) -> dict[str, str]:
    paper, reference = row["paper"], row["reference"]
    cells = {"method": row["method"] if "," in row["method"] else f"`{row['method']}`"}
    cells |= {HEADS.get(m, m): _number(paper[m]) for m in METRICS}
    cells |= {f"{m}, reference": _number(reference[m]) for m in ("VIF", "Qabf", "SSIM")}
    cells["own structure"] = f"{row['invented']:.1f} %"
    cells["overshoot"] = f"{row['overshoot']:.1f} %"
    cells["painted"] = f"{row['painted']:.1f}" if row["painted"] else "-"
    return cells


def _task_cells(row: Row) -> dict[str, str]:
    plain = row["method"].endswith("alone")
    name = row["method"] if plain else f"`{row['method']}`"
    return {"method": name, "PSNR, dB": f"{row['PSNR']:.1f}", "SSIM": f"{row['SSIM']:.3f}"}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(values: Tensor) -> float | None:
    """Mean of what is defined; None if nothing is."""
    mean = values.double().nanmean().item()
    return round(mean, 4) if math.isfinite(mean) else None


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


@torch.inference_mode()
def picture(methods: Methods) -> Image.Image:
    """Sources and every method, side by side, for three sample cases."""
    rows = []
    for a, b in sample_slices().values():
        row = {"functional": a, "anatomical": b.expand(-1, 3, -1, -1)}
        for name, method in methods.items():
            row[name] = fuse(functional=a[0], anatomical=b[0], method=method).rgb[None]
        rows.append(row)
    return sheet(rows, side=192)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", choices=FOLDERS, default=list(FOLDERS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--pairs", type=int, help="at most so many pairs a set; default all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--picture", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
