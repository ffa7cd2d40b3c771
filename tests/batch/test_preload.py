"""The server from which cases are forked."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

CALL = """
import os, socket, sys
if sys.argv[2] == "other":
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as caller:
    try:
        caller.connect(sys.argv[1])
        print("connected")
    except PermissionError:
        print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP tells its settings on Linux only")
@pytest.mark.parametrize(("chosen", "found"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_wants_otherwise(chosen, found):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment["OMP_DISPLAY_ENV"] = "TRUE"
    if chosen:
        environment["OMP_WAIT_POLICY"] = chosen
    done = subprocess.run(
        [sys.executable, "-c", "import medfuse.batch.preload"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"OMP_WAIT_POLICY = '{found}'" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there")
def test_nobody_else_can_call_the_server_of_cases():
    multiprocessing.get_context("forkserver").Process(target=os.getpid).start()
    path = forkserver._forkserver._forkserver_address
    assert not path.startswith("\0")
    assert Path(path).parent.stat().st_mode & 0o077 == 0
    if os.getuid() == 0:
        call = [sys.executable, "-c", CALL, path]
        answers = [subprocess.check_output([*call, who], text=True) for who in ("self", "other")]
        assert answers == ["connected\n", "refused\n"]
