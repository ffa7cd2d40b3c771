"""The peak memory of a child process, as code for it."""

from __future__ import annotations

#: Defines ``peak``, GiB. On Linux `ru_maxrss` begins at what the parent held, `VmHWM` does not.
PEAK = """
import resource
from pathlib import Path
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
if Path("/proc/self/status").exists():
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM"))
"""
