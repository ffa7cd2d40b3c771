"""The wheel: small enough, complete enough, and what it leaves out is fetched or asked for."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medfuse.fusion.choice import CANDIDATES
from medfuse.imaging import downloads, sample
from medfuse.methods import zoo
from tests.tools.test_release_files import load_script

ROOT = Path(__file__).resolve().parents[1]

#: What a wheel is made of.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "medfuse", "napari_plugin", "sample_data")
#: What a user without a clone does, in one process that sees the wheel alone.
FIRST_MINUTE = """
import json, sys
from pathlib import Path
import medfuse
assert Path(medfuse.__file__).is_relative_to(sys.argv[1]), medfuse.__file__
from medfuse.cli.app import run
assert run(["sample", "-o", "brain"]) == 0
from napari_plugin import sample
layers = [(kwargs["name"], data.shape) for data, kwargs, _ in sample.brain()]
assert run(["sample", "ct-mri", "-o", "thigh"]) == 0
from medfuse.methods.registry import get_method
names = [get_method(name).info.name for name in ("auto", "descent-ct", "gifnet", "unet")]
no_file = run(["sample", "sarcoma", "-o", "sarcoma"])
json.dump({"layers": layers, "methods": names, "no_file": no_file}, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone, built by what pyproject.toml names and without a network."""
    pytest.importorskip("setuptools", minversion="77")
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", out]
    source = tmp_path_factory.mktemp("source")  # so that the build leaves nothing in the clone
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run([*build, source], check=True, capture_output=True)
    [path] = out.glob("medfuse-*.whl")
    return path


@pytest.fixture
def release(tmp_path: Path) -> Iterator[str]:
    """A release page on this machine, with a sample and a weights file; not all of them."""
    folder = tmp_path / "release"
    folder.mkdir()
    load_script().pack(sample._STUDY / "sts001-aligned", folder / "sample-sts001-aligned.zip")
    (folder / "unet.safetensors").write_bytes((zoo.WEIGHTS / "unet.safetensors").read_bytes())
    (folder / "unet-paints.safetensors").write_bytes(b"not what was promised")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_the_wheel_is_small_and_holds_the_brain_and_every_method_of_auto(wheel: Path) -> None:
    assert wheel.stat().st_size <= 12e6
    names = zipfile.ZipFile(wheel).namelist()
    taken = {Path(name).name for name in names}
    assert {*sample.FILES, "ATTRIBUTION.md", "py.typed", "napari.yaml"} <= taken
    networks = [zoo.weights_name(name) for name in CANDIDATES]
    wanted = {f"{name}.safetensors" for name in networks if name in zoo.shipped()}
    assert wanted | {"gifnet.safetensors"} <= taken
    assert {f"{name}.json" for name in zoo.shipped()} <= taken
    assert not [name for name in names if name.startswith(("tests/", "tools/", "workflows/"))]


def test_the_first_minute_needs_the_wheel_alone(wheel: Path, release: str, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, wheel], check=True, capture_output=True)
    told = {
        "PYTHONPATH": str(target),
        downloads.MIRROR: release,
        downloads.FOLDER: str(tmp_path / "downloads"),
        "no_proxy": "127.0.0.1",
    }
    script = [sys.executable, "-c", FIRST_MINUTE, str(target)]
    done = subprocess.run(
        script, cwd=tmp_path, env=os.environ | told, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [name for name, _ in found["layers"]] == ["T1 brain", "simulated FDG brain"]
    assert found["methods"] == ["swift-msrs", "descent-ct", "gifnet", "unet"]
    assert found["no_file"] == 8
    assert "E_DOWNLOAD" in done.stderr
    for name in sample.FILES:
        assert (tmp_path / "brain" / name).read_bytes() == (sample._CLONE / name).read_bytes()
    assert {p.name for p in (tmp_path / "thigh").iterdir()} == set(sample.PAIRS["ct-mri"])


def test_what_is_fetched_has_the_promised_hash_or_is_refused(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(downloads.MIRROR, release)
    monkeypatch.setenv(downloads.FOLDER, str(tmp_path / "kept"))
    for name in ("unet", "unet-paints"):
        (tmp_path / f"{name}.json").write_bytes((zoo.WEIGHTS / f"{name}.json").read_bytes())
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    assert zoo.load_shipped("unet").info.card["name"] == "unet"
    with pytest.raises(downloads.InputError, match=r"SHA-256 differs.*\[E_DOWNLOAD\]"):
        zoo.load_shipped("unet-paints")
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["unet.safetensors"]
    monkeypatch.setenv(downloads.MIRROR, "http://127.0.0.1:9")  # kept: no network is needed
    assert zoo.load_shipped("unet").info.card["name"] == "unet"
    monkeypatch.setenv(downloads.MIRROR, "nowhere")
    monkeypatch.setenv(downloads.FOLDER, str(tmp_path / "empty"))
    with pytest.raises(downloads.InputError, match="address cannot be used"):
        zoo.load_shipped("unet")
