"""The deformation of a result: its file read as the record says, and its numbers measured again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from medfuse.registration.deformation import FILE
from medfuse.registration.result import Registration
from medfuse.results.export import OFFSET
from medfuse.results.vectors import as_vectors
from medfuse.verification.compare import differences
from medfuse.verification.finding import Finding, agreement, read_json
from medfuse.verification.volumes import stored_lattice, unpacked

#: What the displacements alone tell; the rest needs the images.
_MEASURED = (
    *("sha256", "lattice", "largest_mm", "mean_mm", "least_jacobian"),
    *("file", "frame", "order"),
)
_STEM = FILE.removesuffix(".nii.gz")


def stored_registration(folder: Path) -> Registration:
    """The transform of a result with its deformation, if it has one.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``, ``E_TOO_LARGE``.
    """
    values = read_json(folder, "transform.json")
    told = values.get("deformation")
    if not told:
        return Registration.from_dict(values)
    lattice = stored_lattice(folder)
    size = OFFSET + 12 * math.prod(lattice.shape)
    vectors = as_vectors(unpacked(folder, _STEM, size)[OFFSET:], lattice.shape)
    return Registration.from_dict(values, displacement=vectors)


def check_deformation(folder: Path) -> Iterator[Finding]:
    """What the record says of the deformation follows from its displacements."""
    told = read_json(folder, "transform.json").get("deformation")
    if not told:
        return
    found = stored_registration(folder).deformation
    assert found is not None
    made = json.loads(json.dumps(found.to_dict()))
    wrong = [
        name for name in _MEASURED if list(differences({name: made[name]}, {name: told.get(name)}))
    ]
    yield agreement("deformation", wrong, says="not as measured", fine="measured again")
