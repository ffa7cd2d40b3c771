from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


def picture(seed: int, shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Asymmetric blobs with detail, uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape)
    for _ in range(6):
        cy, cx = generator.uniform(0, shape[0]), generator.uniform(0, shape[1])
        radius = generator.uniform(5, 25)
        out += np.exp(-((y - cy) ** 2 + 0.5 * (x - cx) ** 2) / (2 * radius**2))
    out += 0.1 * generator.random(shape)
    return (255 * out / out.max()).astype(np.uint8)


@pytest.fixture
def pair_folders(tmp_path):
    """Two folders of six pairs in two sizes."""
    folders = tmp_path / "functional", tmp_path / "anatomical"
    for offset, folder in enumerate(folders):
        folder.mkdir()
        for k in range(6):
            shape = (64, 96) if k % 2 else (80, 64)
            image = Image.fromarray(picture(100 * offset + k, shape))
            image.save(folder / f"case{k}.png")
    return folders
