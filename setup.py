"""What `pyproject.toml` cannot say: the README of a package index, and the name of the panel.

The folder `napari_plugin/` is installed as the package `medfuse_napari`, a name that no other
plugin has; the old name stays as a module that warns, for one release.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOLDER, PACKAGE, OLD_NAME = "napari_plugin", "medfuse_napari", "old_name.py"
HOME = "https://github.com/medfuse/medfuse"
PICTURES = "https://raw.githubusercontent.com/medfuse/medfuse"


def index_readme(version: str) -> str:
    """The README with absolute links to this version: an index shows it without the repository."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\g<1>{PICTURES}/v{version}/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{HOME}/blob/v{version}/", text)


def own_version() -> str:
    """`medfuse.__version__`, read and not imported."""
    text = (ROOT / "medfuse" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.M)[0]


class BuildPackages(build_py):
    """Copies the packages; those of the panel under their installed name."""

    def run(self) -> None:
        """As setuptools does; then the panel's modules name each other by the package's name."""
        super().run()
        if self.editable_mode:  # the folder itself is imported
            return
        panel = Path(self.build_lib) / PACKAGE
        for path in (*panel.rglob("*.py"), *panel.rglob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            if path.name != OLD_NAME:
                path.write_text(re.sub(rf"\b{FOLDER}\b", PACKAGE, text), encoding="utf-8")
        shutil.rmtree(panel.with_name(FOLDER))
        shutil.move(panel / OLD_NAME, panel.with_name(f"{FOLDER}.py"))


panel_packages = find_packages(include=[FOLDER, f"{FOLDER}.*"])
setup(
    packages=[
        *find_packages(include=["medfuse", "medfuse.*"]),
        *panel_packages,  # for editable installations, which import the folder
        *(name.replace(FOLDER, PACKAGE, 1) for name in panel_packages),
    ],
    package_dir={PACKAGE: FOLDER},
    long_description=index_readme(own_version()),
    long_description_content_type="text/markdown",
    cmdclass={"build_py": BuildPackages},
)
