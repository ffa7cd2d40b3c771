"""In which world a region lies: told by its lattice or its frame of reference, never guessed."""

from __future__ import annotations

from typing import cast, get_args

from medfuse.errors import GeometryError, option
from medfuse.imaging.grid import Grid
from medfuse.imaging.lattice import same_lattice
from medfuse.measurement.region import Space

SPACES = get_args(Space)


def space_of(
    grid: Grid,
    *,
    functional: Grid,
    anatomical: Grid | None,
    where: str,
    stated: Space | None = None,
) -> Space:
    """The world of a mask that says nothing but its grid: that of the image with its lattice.

    Parameters
    ----------
    grid : Grid
        Of the mask.
    functional, anatomical : Grid
    where : str
        Name of the region or file, for errors.
    stated : str, optional
        What the user says; it decides.

    Raises
    ------
    GeometryError
        ``E_REGION_SPACE``: the lattice is that of neither image, or of both.
    """
    if stated is not None:
        return stated
    fits = {"functional": same_lattice(functional, grid)}
    if anatomical is None:
        fits["anatomical"] = False
        if not fits["functional"]:
            return "functional"  # there is one world only
    else:
        fits["anatomical"] = same_lattice(anatomical, grid)
    found = [space for space, fit in fits.items() if fit]
    if len(found) == 1:
        return cast(Space, found[0])
    raise not_told(
        where,
        "its voxels lie on the grid of neither image"
        if not found
        else "its voxels lie on the grids of both images, which a registration has moved",
    )


def not_told(where: str, cause: str) -> GeometryError:
    """The error of a region of which nothing tells in which world it lies."""
    return GeometryError(
        "E_REGION_SPACE",
        what="Cannot tell on which image a region was drawn",
        where=where,
        cause=cause,
        remedy=f"State it with {option('drawn_on', 'anatomical')} or "
        f"{option('drawn_on', 'functional')}",
    )
