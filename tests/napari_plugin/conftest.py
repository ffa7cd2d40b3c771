"""Scenes for the plugin: a real viewer model, real layers, small images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from napari.components import ViewerModel
from napari.layers import Image

import napari_plugin
from medfuse.methods import base, registry, zoo
from napari_plugin import cards
from napari_plugin.layers import layer_data

MANIFEST = Path(napari_plugin.__file__).with_name("napari.yaml")
PROBE = """
from qtpy.QtWidgets import QApplication
from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
app = QApplication([])
surface = QOffscreenSurface(); surface.create()
context = QOpenGLContext()
raise SystemExit(0 if context.create() and context.makeCurrent(surface) else 3)
"""


@pytest.fixture(scope="session")
def gl() -> None:
    """Skip where no OpenGL context can be made; probed in a process, since it may abort."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        pytest.skip("no display: run under xvfb-run -a (make test does)")
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=120)
    if probe.returncode:
        pytest.skip("no OpenGL context can be made on this display")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def plugin(npe2pm):
    """napari's plugin manager of the test, knowing this plugin alone."""
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_file(MANIFEST))
    return npe2pm


def head(shape=(40, 48, 24), spacing=(2.0, 2.0, 3.0), shift=(0.0, 0.0, 0.0)) -> MetaTensor:
    """An asymmetric "MRI": nested ellipsoids in RAS mm with a bright spot at the left front."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2 + np.array(shift)
    values = _anatomy(_points(shape, affine) - np.array(shift))
    meta = {"modality": "MRI", "unit": "a.u.", "spacing": list(spacing), "suv": None, "notes": []}
    meta["source"] = {"kind": "array", "name": "head", "files": 0}
    return MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine), meta=meta)


def uptake(shape=(30, 34, 22), spacing=(3.0, 3.0, 4.0), shift=(0.0, 0.0, 0.0)) -> MetaTensor:
    """A "PET" of the same head on its own grid, in SUVbw, with a hot lesion at the left front.

    ``shift`` puts all of it elsewhere, as if the person had moved.
    """
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2
    points = _points(shape, affine)
    brain = (points / [28, 36, 24]) ** 2
    lesion = ((points - [-12, 14, 4]) ** 2).sum(-1) < 8**2
    values = (3.0 * (brain.sum(-1) < 1) + 4.0 * lesion).astype(np.float32)
    affine[:3, 3] += shift
    meta = {"modality": "PET", "unit": "SUVbw", "spacing": list(spacing), "suv": None, "notes": []}
    meta["source"] = {"kind": "array", "name": "uptake", "files": 0}
    return MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine), meta=meta)


def as_layer(volume: MetaTensor, name: str) -> Image:
    data, kwargs, _ = layer_data(volume, name=name)
    return Image(data, **kwargs)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Makers of images: ``head``, ``uptake``, ``layer``."""
    return SimpleNamespace(head=head, uptake=uptake, layer=as_layer)


class Painter:
    """Makes the luminance itself: the mean of both and a bright corner that neither has."""

    info = base.MethodInfo("painter", "for tests", "synthesis", levels=0)

    def luminance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        painted = (a + b) / 2
        painted[..., :16, :16] = 0.9
        return painted


@pytest.fixture
def painter(monkeypatch, tmp_path) -> str:
    """Name of a method that paints, with the card of a network that paints."""
    registry.list_methods()
    monkeypatch.setitem(registry._FACTORIES, "painter", (Painter, "for tests"))
    card = zoo.read_card(zoo.WEIGHTS / f"{zoo.DEFAULT}.safetensors")
    told = {"architecture": "unet", "options": {"base": 4, "paints": True}}
    text = card.model_copy(update=told).model_dump_json(by_alias=True)
    (tmp_path / "painter.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(cards, "WEIGHTS", tmp_path)
    return "painter"


@pytest.fixture
def viewer() -> ViewerModel:
    """A viewer without a window, holding a "T1" and a "PET"."""
    model = ViewerModel()
    model.add_layer(as_layer(head(), "T1"))
    model.add_layer(as_layer(uptake(), "PET"))
    return model


@pytest.fixture
def scene(gl, plugin, qtbot, make):
    """A real window with two images and the docked panel."""
    import napari

    viewer = napari.Viewer(show=False)
    viewer.add_layer(make.layer(make.head(), "T1"))
    viewer.add_layer(make.layer(make.uptake(), "PET"))
    _, panel = viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    qtbot.waitUntil(lambda: not panel.quiet.is_busy, timeout=20_000)
    yield viewer, panel
    panel.shut_down()
    viewer.close()


def _points(shape, affine) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def _anatomy(points: np.ndarray) -> np.ndarray:
    skull = ((points / [33, 42, 30]) ** 2).sum(-1)
    brain = ((points / [28, 36, 24]) ** 2).sum(-1)
    spot = ((points - [-12, 14, 4]) ** 2).sum(-1) < 6**2
    ventricle = ((points / [6, 14, 8]) ** 2).sum(-1) < 1
    return (200.0 * (skull < 1) + 400.0 * (brain < 1) - 300.0 * ventricle + 300.0 * spot).astype(
        np.float32
    )
