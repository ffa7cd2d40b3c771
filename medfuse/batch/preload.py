"""Imported once by the server from which cases are forked: the libraries, and no thread.

A parallel region before the fork would leave its children waiting for threads that they do not
have (GNU OpenMP), so the import runs with one thread; a case sets its own number.
"""

from medfuse.kernel.cores import importing, keep_imported, wait_asleep

wait_asleep()

with importing():
    import torch

    torch.set_num_threads(1)

    import medfuse.case.pipeline  # noqa: F401

keep_imported()
