"""Images read before everything else is imported: what is wrong with a file is said at once.

Imports numpy and the readers alone. PyTorch and the rest of a case, which take longer to import
than most files take to read, are imported meanwhile by a thread.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from medfuse.errors import MedfuseError, UsageError, option
from medfuse.imaging.memory import memory_limit
from medfuse.imaging.progress import Listener, listening
from medfuse.imaging.reader import kind_of, read_volume
from medfuse.imaging.volume import Volume
from medfuse.kernel.cores import importing, keep_imported
from medfuse.settings import CaseSettings

Role = Literal["anatomical", "functional"]


@dataclass(frozen=True)
class EarlyPair:
    """Both images of a case as they were read, and how long that took, in seconds."""

    seconds: float
    volumes: list[Volume]

    def take(self) -> tuple[Volume, Volume]:
        """The anatomical and the functional image, once: no other reference is kept."""
        anatomical, functional = self.volumes
        self.volumes.clear()
        return anatomical, functional


def read_early(
    anatomical: Path,
    functional: Path,
    settings: CaseSettings,
    listener: Listener,
    *,
    max_memory_gb: float | None = None,
) -> EarlyPair:
    """Read a pair while PyTorch and `medfuse.case.pipeline` are imported.

    Parameters
    ----------
    listener : callable (fraction, text)
        Told how far the reading is.
    max_memory_gb : float, optional
        What reading an image may take; default the usual limits.

    Raises
    ------
    MedfuseError
        As ``medfuse.load``.
    """
    begun = time.perf_counter()
    require_windows(settings)
    for path in (anatomical, functional):
        kind_of(path)  # refuses what is no image before anything is imported
    imports = threading.Thread(target=import_the_rest)
    imports.start()
    try:
        with listening(listener), memory_limit(max_memory_gb):
            volumes = [read_image(anatomical, "anatomical", settings)]
            volumes.append(read_image(functional, "functional", settings))
        seconds = time.perf_counter() - begun
    finally:
        imports.join()
    keep_imported()
    return EarlyPair(seconds, volumes)


def import_the_rest() -> None:
    """Import PyTorch and all that a case needs."""
    with importing():
        import_module("torch")
        import_module("medfuse.case.pipeline")


def require_windows(settings: CaseSettings) -> None:
    """Refuse display windows that no image can make right.

    Raises
    ------
    UsageError
        ``E_SETTINGS``.
    """
    for name in ("window", "anatomical_window"):
        low, high = getattr(settings, name) or (0.0, 1.0)
        if not low < high:
            raise UsageError(
                "E_SETTINGS",
                what="Cannot fuse",
                cause=f"{option(name, f'{low:g} {high:g}')}: the first number is not below the "
                "second",
                remedy="Give the lower end of the display window first",
            )


def read_image(path: Path, role: Role, settings: CaseSettings) -> Volume:
    """Read one image of a case as the settings say; errors as ``medfuse.load``.

    Errors name the settings of the case, not the keywords of the loader.
    """
    names = {"series": f"{role}_series", "modality": f"{role}_modality"}
    names |= {name: name for name in ("tilt_correction", "assume_identity")}
    if role == "functional":
        names |= {"unit": "unit", "frame": "frame", "values_in": "functional_unit"}
    try:
        return read_volume(path, **{name: getattr(settings, names[name]) for name in names})
    except MedfuseError as error:
        raise error.renamed(names) from error
