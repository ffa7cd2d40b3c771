"""Make the pictures of README and docs/gallery.md in docs/images from the sample data.

    python tools/gallery.py

Needs a minute on two cores; the picture of the viewer also needs Chromium.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import medfuse
from medfuse.imaging.grid import DisplayOrder, Grid

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "sample_data" / "study"
IMAGES = ROOT / "docs" / "images"
BRAIN = STUDY / "simulated-brain"
CASES = {
    "sarcoma": ("sts001/mr-t2", "sts001/pet-fdg", "--initial", "sts001/start.txt"),
    "ct-mr": ("sts001-aligned/mr-t1.nii.gz", "sts001-aligned/ct.nii.gz", "--anatomical-modality",
              "MRI", "--functional-modality", "CT"),
}  # fmt: skip
STRIP = "slice_03.png"
COLUMNS = ("Anatomical", "Functional", "Fused image", "Customary overlay", "Weight map", "Share")
HEIGHT, GAP, TITLE = 300, 8, 34
PAPER, INK = (255, 255, 255), (24, 32, 43)


def main() -> None:
    write("overview", overview())
    with tempfile.TemporaryDirectory() as scratch:
        for name, arguments in CASES.items():
            folder = Path(scratch) / name
            fuse(folder, arguments)
            strip = Image.open(folder / "figures" / STRIP)
            write(f"gallery-{name}", titled([strip], [""], COLUMNS))
        fuse(
            Path(scratch) / "brain",
            ("simulated-brain/t1.nii.gz", "simulated-brain/simulated-pet.nii.gz"),
        )
        write("gallery-viewer", viewer(Path(scratch) / "brain" / "report.html"))


def fuse(folder: Path, arguments: tuple[str, ...]) -> None:
    """Run the command line as a user would."""
    words = [str(STUDY / word) if "/" in word else word for word in arguments]
    command = [sys.executable, "-m", "medfuse.cli", "fuse", *words, "-o", str(folder), "-q"]
    subprocess.run(command, check=True)


def overview() -> Image.Image:
    """The brain before and after registration, and overlay beside fusion."""
    mri = medfuse.load(BRAIN / "t1.nii.gz")
    pet = medfuse.load(BRAIN / "simulated-pet.nii.gz")
    found = medfuse.register(fixed=mri, moving=pet)
    before, after = (replace(found, matrix=m).resample(pet) for m in (np.eye(4), found.matrix))
    window = medfuse.fuse(functional=after, anatomical=mri).window
    pictures = [
        medfuse.fuse(
            functional=image, anatomical=mri, style=style, window=(window.low, window.high)
        )
        for image, style in ((before, "overlay"), (after, "overlay"), (after, "fusion"))
    ]
    order = DisplayOrder.from_grid(Grid.from_volume(mri))
    shown = [np.asarray(mri.as_tensor()).repeat(3, axis=0) / 210, *(p.rgb for p in pictures)]
    slices = [order.apply(np.asarray(image)) for image in shown]
    middle = slices[0].shape[1] * 11 // 20
    panels = [Image.fromarray(as_bytes(np.moveaxis(s[:, middle], 0, -1))) for s in slices]
    titles = ("MRI", "PET as acquired, laid over", "Registered, laid over", "Registered and fused")
    return titled(panels, titles, ())


def as_bytes(values: Any) -> np.ndarray:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def titled(panels: list[Image.Image], titles: Any, columns: Any) -> Image.Image:
    """Panels in a row on white, each with a title; or one strip with evenly spaced titles."""
    scaled = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT)) for p in panels]
    if columns:
        scaled = panels
    width = sum(p.width for p in scaled) + GAP * (len(scaled) - 1)
    sheet = Image.new("RGB", (width, scaled[0].height + TITLE), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    left = 0
    for panel, title in zip(scaled, titles, strict=True):
        sheet.paste(panel, (left, TITLE))
        for number, text in enumerate(columns or (title,)):
            cell = panel.width / len(columns or (title,))
            place = (left + (number + 0.5) * cell, TITLE / 2)
            draw.text(place, text, fill=INK, font=font, anchor="mm")
        left += panel.width + GAP
    return sheet


def viewer(page: Path) -> Image.Image:
    """The viewer of a report, as a browser shows it."""
    sys.path.insert(0, str(ROOT))
    from tests._helpers.browser import Browser, find_browser

    executable = find_browser()
    assert executable is not None, "no Chromium here (Debian: apt-get install chromium)"
    with Browser(executable) as browser:
        browser.open(page, width=1240, height=1150)
        browser.wait("document.querySelector('.viewer').dataset.ready === 'yes'", 120)
        return Image.fromarray(browser.look(".viewer"))


def write(name: str, picture: Image.Image) -> None:
    colors = picture.convert("RGB").quantize(255, method=Image.Quantize.MEDIANCUT)
    path = IMAGES / f"{name}.png"
    colors.save(path, optimize=True)
    size = path.stat().st_size >> 10
    print(f"{path.relative_to(ROOT)}: {picture.width} x {picture.height}, {size} KB")


if __name__ == "__main__":
    main()
