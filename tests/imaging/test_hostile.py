"""Files that claim more than they hold, read where memory is short: a line, and no more memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests._helpers.hostile import ENDINGS, write_hostile
from tests._helpers.peak import PEAK

pytest.importorskip("resource", reason="address-space limits are of Unix")

_READ_ALL = """
import resource, sys
from pathlib import Path
from medfuse.errors import MedfuseError
from medfuse.imaging.pictures import open_picture
from medfuse.imaging.reader import read_volume
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        open_picture(path, "L") if path.suffix in (".png", ".tif") else read_volume(path)
        print(path.name, "read")
    except MedfuseError as error:
        print(path.name, str(error))
"""
_READ_ALL += (
    PEAK
    + """\
print("peak", "low" if peak < 2.2 else f"{peak:.1f} GB")
"""
)


def test_what_claims_more_than_it_holds_ends_with_a_line_in_three_gigabytes(tmp_path: Path) -> None:
    write_hostile(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", _READ_ALL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert run.returncode == 0, run.stderr[-500:]
    assert lines.pop("peak") == "low"
    assert set(lines) == set(ENDINGS)
    wrong = {n: lines[n] for n, words in ENDINGS.items() if not all(w in lines[n] for w in words)}
    assert not wrong
