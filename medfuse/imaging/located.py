"""Volumes with a place in the world that cost no import of MONAI, which takes seconds.

Inside, medfuse reads into `Located`; at its edges (`medfuse.load`, transforms) volumes are MONAI's
MetaTensor. Both have ``affine``, ``meta`` and ``as_tensor()``, and what is made from a volume has
its type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch

from medfuse.imaging.volume import Volume

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor


class Located(torch.Tensor):
    """A tensor (C, X, Y, Z) with an affine and facts; made like a MetaTensor.

    The results of operations are plain tensors: they carry no facts that may no longer hold.

    Attributes
    ----------
    meta : dict
    affine : (4, 4) float64 tensor
        Voxel index to RAS mm.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    applied_operations: tuple[Any, ...] = ()

    @staticmethod
    def __new__(
        cls,
        x: torch.Tensor,
        affine: torch.Tensor | None = None,
        meta: dict[str, Any] | None = None,
        applied_operations: Any = None,
    ) -> Located:
        """See the class; operations that MONAI applied are nothing that a `Located` has."""
        made = torch.as_tensor(x).as_subclass(cls)
        place = torch.eye(4) if affine is None else torch.as_tensor(affine)
        made.affine = place.to("cpu", torch.float64)
        made.meta = dict(meta or {})
        return made

    affine: torch.Tensor
    meta: dict[str, Any]

    def as_tensor(self) -> torch.Tensor:
        """The values alone."""
        return self.as_subclass(torch.Tensor)

    def float(self) -> Located:
        """The same volume in float32."""
        values = self.as_tensor().float()
        return Located(values, affine=self.affine, meta=self.meta)


def located(volume: Volume) -> MetaTensor:
    """What was read, as a `Located`, which can do all that medfuse asks of a MetaTensor."""
    made = Located(
        torch.from_numpy(volume.values[None]),
        affine=torch.from_numpy(volume.affine),
        meta=volume.meta,
    )
    return cast("MetaTensor", made)


def is_located(image: Any) -> TypeGuard[MetaTensor]:
    """Whether an image has a place and facts: a `Located` or a MetaTensor."""
    return isinstance(image, torch.Tensor) and isinstance(getattr(image, "meta", None), dict)


def like(
    image: MetaTensor,
    values: torch.Tensor,
    affine: torch.Tensor,
    meta: dict[str, Any] | None = None,
) -> MetaTensor:
    """Values at a place, of the type of another volume; a `Located` beside a plain tensor."""
    kind = type(image) if is_located(image) else Located
    return cast("MetaTensor", kind(values, affine=affine, meta=meta))
