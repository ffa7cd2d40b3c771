"""Collect the files of a release that the wheel leaves out, and print their SHA-256.

    python tools/release_files.py -o dist/release

Larger samples become zip files that have the same bytes on every machine (stored, fixed dates);
weights are copied as they are. Upload the folder to the address in `medfuse/imaging/downloads.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tomllib
import zipfile
from pathlib import Path

from medfuse.imaging.sample import ARCHIVES

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "sample_data" / "study"
WEIGHTS = ROOT / "medfuse" / "methods" / "weights"
LICENSE = ROOT / "sample_data" / "ATTRIBUTION.md"


def left_out() -> list[Path]:
    """Weights that are in the repository and not in the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["medfuse"]
    packed = {path for pattern in patterns for path in (ROOT / "medfuse").glob(pattern)}
    return sorted(set(WEIGHTS.glob("*.safetensors")) - packed)


def pack(folder: Path, archive: Path) -> Path:
    """Zip a folder, with the statement of its sources and licenses, without compression."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    files[LICENSE.name] = LICENSE
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            target.writestr(entry, path.read_bytes())
    return archive


def main() -> None:
    """Write the folder and print a line for each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    files = [pack(STUDY / name, out / f"sample-{name}.zip") for name, _ in ARCHIVES.values()]
    files += [Path(shutil.copy(path, out)) for path in left_out()]
    for path in files:
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")


if __name__ == "__main__":
    main()
