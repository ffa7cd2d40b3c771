"""Test the lowest versions that `pyproject.toml` allows: resolve, install beside, run quick tests.

    python tools/floors.py [--venv DIR] [-- PYTEST ARGUMENTS]

Every direct dependency of the core and of some extras is installed in the lowest version of its
range (`uv --resolution lowest-direct`). PyTorch is taken as pinned in `constraints.txt`, because
its lower versions exist for few Python versions and bring gigabytes of GPU packages. Needs `uv`
(`pip install uv`) and a package index; for the CPU build of PyTorch set
UV_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu and UV_INDEX_STRATEGY=unsafe-best-match.
`make floors` does all that.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("codecs", "dicom", "sign", "monai")
#: The quick tests but for the panel's, whose floors are those of napari.
TESTS = ("-m", "quick", "--ignore", "tests/napari_plugin")
#: What the tests need beside the package, in any version: it is no floor of ours.
TESTERS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "import-linter", "mypy",
           "ruff", "prov", "jsonschema", "scikit-image", "pyyaml", "setuptools>=77",
           "pip")  # fmt: skip


def pinned(name: str) -> str:
    """The line of `constraints.txt` that pins a package."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{name}==\S+", text, re.M)
    assert found, name
    return found[0]


def resolve(target: Path, torch: str) -> str:
    """Write the lowest versions to a file, and return them."""
    override = target.with_name("override.txt")
    override.write_text(torch + "\n", encoding="utf-8")
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    call = ["uv", "pip", "compile", "pyproject.toml", "--resolution", "lowest-direct", *extras,
            "--python", sys.executable, "--override", str(override), "--no-annotate",
            "--no-header", "--quiet", "--output-file", str(target)]  # fmt: skip
    subprocess.run(call, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return target.read_text(encoding="utf-8")


def direct(versions: str) -> list[str]:
    """Those lines of a resolution that `pyproject.toml` names itself."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").lower()
    lines = [line for line in versions.splitlines() if "==" in line]
    return [line for line in lines if re.search(rf'"{re.escape(line.split("==")[0])}>=', project)]


def main() -> int:
    """Resolve, install, test; the exit code is that of the tests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, help="folder of the environment (default: temporary)")
    parser.add_argument(
        "--torch", default=pinned("torch"), help="requirement, e.g. torch==2.13.0+cpu"
    )
    parser.add_argument("tests", nargs="*", default=[*TESTS], help="arguments of pytest")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        versions = resolve(Path(folder) / "lowest.txt", given.torch)
        print("\n".join(direct(versions)), flush=True)
        venv = given.venv or Path(folder) / "venv"
        python = venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
        lowest = str(Path(folder) / "lowest.txt")
        for call in (
            ["uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(venv)],
            [*install, "-r", lowest],
            [*install, "-c", lowest, *TESTERS],
            [*install, "--no-deps", "--editable", str(ROOT)],
        ):
            subprocess.run(call, check=True)
        tests = [str(python), "-m", "pytest", *given.tests]
        return subprocess.run(tests, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
