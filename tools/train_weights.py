"""Rebuild weights that medfuse ships: train by the recipe, judge on the test split, write the card.

    python tools/train_weights.py swift-msrs --data DATA --out WEIGHTS_FOLDER

DATA holds ``msrs/{train,test}/{vi,ir}`` and ``harvard/{PET,SPECT,CT}-MRI/{train,test}``, for the
``volume-*`` guides what ``workflows/volume_slices.py`` writes; test images are read only after
training, to fill in the card.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medfuse.evaluation.evaluate import evaluate
from medfuse.evaluation.sources import judge_sources
from medfuse.imaging.pictures import read_picture
from medfuse.kernel.color import clip_gamut, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.sources import FLAGGED
from medfuse.methods import zoo
from medfuse.methods.base import Method, Painter
from medfuse.methods.registry import fuse_by
from medfuse.training.data import find_pair_folders
from medfuse.training.loop import TrainingProgress
from medfuse.training.recipes import get_recipe
from medfuse.training.train import run_training

METRICS = ("VIF", "VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation", "hot_spot_share")
_ATLAS = (
    "Head slices of one atlas, {patients} patients. The official test slices come from the same "
    "patients as the training slices; only the validation patients were never seen."
)

_SLOPES = (
    " It follows the slope of what it is judged by (detail kept, Qabf), so these measures flatter "
    "it; look at the pictures as well."
)
_PERSONS = (
    "Limbs and trunks of seven persons, two of them for choosing; the volumes of five others "
    "(STS_002, 012, 019, 024, 047) were judged once, after every choice (docs/guides.md). No head."
)


@dataclass(frozen=True)
class Source:
    """Where the data of shipped weights lie and what their card says of them."""

    folder: str
    text: str
    limitations: str


SOURCES = {
    "both-msrs": Source(
        "msrs",
        "MSRS test split, 300 of 361 pairs (infrared and visible street scenes), part of them made "
        "to look like emission images",
        "Has never seen a medical image.",
    ),
    "both-pet": Source(
        "harvard/PET-MRI",
        "Harvard Whole Brain Atlas, 245 FDG-PET and MRI pairs (train split), persons 25 and 41",
        _ATLAS.format(patients=3),
    ),
    "both-spect": Source(
        "harvard/SPECT-MRI",
        "Harvard Whole Brain Atlas, 333 SPECT and MRI pairs (train split), 11 of 15 persons",
        _ATLAS.format(patients=15),
    ),
    "both-ct": Source(
        "harvard/CT-MRI",
        "Harvard Whole Brain Atlas, 160 CT and MRI pairs (train split), 7 of 10 persons",
        _ATLAS.format(patients=10)
        + " Test pairs were used to choose this recipe (contradictions); its test figures are not "
        "blind. Thick bone is grey inside.",
    ),
    **{
        f"descent-{name.lower()}": Source(
            f"harvard/{name}-MRI",
            f"Harvard Whole Brain Atlas, {pairs} and MRI pairs (train split), {persons} persons",
            _ATLAS.format(patients=patients) + _SLOPES,
        )
        for name, pairs, persons, patients in (
            ("PET", "245 FDG-PET", "2 of 3", 3),
            ("SPECT", "333 SPECT", "11 of 15", 15),
            ("CT", "160 CT", "7 of 10", 10),
        )
    },
    "volume-ct": Source(
        "sts/CT-MRI",
        "Soft-tissue sarcoma (TCIA, CC BY 3.0), CT and T1 of STS_004, 014, 023, 028, 042",
        _PERSONS + _SLOPES,
    ),
    "volume-pet": Source(
        "sts/PET",
        "Soft-tissue sarcoma (TCIA, CC BY 3.0), PET over T1 and CT of STS_004, 014, 023, 028, 042",
        _PERSONS + _SLOPES,
    ),
    "swift-msrs": Source(
        "msrs",
        "MSRS test split, 300 of 361 pairs (infrared and visible street scenes)",
        "Has never seen a medical image. Trained on street scenes at 640 x 480.",
    ),
    "swift-pet": Source(
        "harvard/PET-MRI",
        "Harvard Whole Brain Atlas, 245 FDG-PET and MRI pairs (train split)",
        _ATLAS.format(patients=3),
    ),
    "swift-spect": Source(
        "harvard/SPECT-MRI",
        "Harvard Whole Brain Atlas, 333 SPECT and MRI pairs (train split)",
        _ATLAS.format(patients=15),
    ),
    "swift-ct": Source(
        "harvard/CT-MRI",
        "Harvard Whole Brain Atlas, 160 CT and MRI pairs (train split)",
        _ATLAS.format(patients=10),
    ),
    "gifnet": Source(
        "msrs",
        "MSRS test split, 300 of 361 pairs (infrared and visible street scenes)",
        "A network paints every pixel: nothing bounds the result by its sources, and structure "
        "may be invented. Has never seen a medical image.",
    ),
    "unfolding": Source(
        "msrs",
        "MSRS test split, 300 of 361 pairs (infrared and visible street scenes)",
        "After the idea of a TPAMI 2026 paper, not the authors' model. Has never seen a medical "
        "image. Blends the two values of a pixel, so it adds nothing; it can hide either source.",
    ),
    "unfolding-features": Source(
        "msrs",
        "MSRS test split, 300 of 361 pairs (infrared and visible street scenes)",
        "After the idea of a TPAMI 2026 paper, not the authors' model. Has never seen a medical "
        "image. A network paints the pixels: nothing keeps it from painting what no source shows.",
    ),
    "unet": Source(
        "msrs",
        "MSRS test split, 300 of 361 pairs (infrared and visible street scenes)",
        "For comparison only: far fewer steps than published. Has never seen a medical image.",
    ),
    "unet-paints": Source(
        "msrs",
        "MSRS test split, 300 of 361 pairs (infrared and visible street scenes)",
        "For comparison only: a network paints every pixel, without a kernel. Has never seen a "
        "medical image.",
    ),
}


def main() -> None:
    """Train one recipe and write weights and card."""
    options = _options()
    torch.set_num_threads(options.threads)
    source = SOURCES[options.recipe]
    root = options.data / source.folder
    changes: dict[str, Any] = {"steps": options.steps, "minutes": options.minutes}
    if options.recipe.startswith("unet"):
        changes["options"] = {**get_recipe(options.recipe).options, "base": options.base}
    out = options.out / f"{options.recipe}.safetensors"
    result = run_training(
        a=_side(root / "train", 0),
        b=_side(root / "train", 1),
        out=out,
        recipe=options.recipe,
        seed=options.seed,
        data_name=source.text,
        command=_command(options),
        on_progress=_print_progress,
        **changes,
    )
    if result.stopped == "interrupted":
        raise SystemExit(f"Interrupted at step {result.steps}; the same command goes on from there")
    _complete_card(out, root / "test", source.limitations)


def _side(folder: Path, which: int) -> Path:
    """A or B folder below ``train`` or ``test``."""
    return find_pair_folders(folder)[which]


def _complete_card(weights: Path, test: Path, limitations: str) -> None:
    """Add what the test split says to the card, where there are test pictures."""
    card = zoo.read_card(weights)
    if card is None:
        raise SystemExit(f"{weights.name} has no card")
    if test.is_dir():
        card.test = _test_figures(zoo.load_guide(weights), test, card.kernel)
        print(f"{card.name} on {card.test['pairs']} test pairs:", card.test)
    card.limitations = limitations
    text = card.model_dump_json(by_alias=True, indent=1) + "\n"
    weights.with_suffix(".json").write_text(text, encoding="utf-8")


def _test_figures(guide: Method | Painter, test: Path, kernel: str) -> dict[str, Any]:
    a, b = _side(test, 0), _side(test, 1)
    table = evaluate(
        a,
        b,
        [guide],
        profile="paper",
        kernel="paper" if kernel == "paper" else "binomial",
        gamut="clip",
    )
    row = table[guide.info.name]
    figures = {name: round(row.mean(name), 4) for name in METRICS}
    return {
        "pairs": len(table.pairs),
        "profile": "paper",
        **figures,
        **_source_figures(guide, a, b),
    }


@torch.inference_mode()
def _source_figures(guide: Method | Painter, a_dir: Path, b_dir: Path) -> dict[str, float]:
    """What is kept of both sources, by clipped pictures, and how many pairs are flagged."""
    found: dict[str, list[float]] = {}
    for path in sorted(a_dir.iterdir()):
        a, b = read_picture(path, "RGB"), read_picture(b_dir / path.name, "L")
        ycbcr = rgb_to_ycbcr(a)
        luminance = fuse_by(guide, ycbcr[:, :1], b)
        rgb, _ = clip_gamut(ycbcr_to_rgb(torch.cat([luminance, ycbcr[:, 1:]], dim=1)))
        for name, value in judge_sources(a, b, rgb).items():
            found.setdefault(name, []).append(float(value))
    flagged = sum(pixels >= FLAGGED for pixels in found.pop("contradicting"))
    means = {name: torch.tensor(values).nanmean().item() for name, values in found.items()}
    return {name: round(mean, 4) for name, mean in means.items()} | {"flagged": flagged}


def _command(options: argparse.Namespace) -> str:
    parts = [f"python tools/train_weights.py {options.recipe} --data DATA --out WEIGHTS"]
    if options.recipe.startswith("unet"):
        parts.append(f"--base {options.base}")
    parts += [
        f"--{name} {value:g}" for name in ("steps", "minutes") if (value := getattr(options, name))
    ]
    return " ".join([*parts, f"--seed {options.seed} --threads {options.threads}"])


def _print_progress(progress: TrainingProgress) -> None:
    if progress.validation is not None or progress.step % 100 == 0:
        judged = "" if progress.validation is None else f"  validation {progress.validation:.4f}"
        print(
            f"step {progress.step}  {progress.seconds:.0f} s  loss {progress.loss:.4f}{judged}",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=SOURCES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and card")
    parser.add_argument("--base", type=int, default=12, help="width of the unet")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
