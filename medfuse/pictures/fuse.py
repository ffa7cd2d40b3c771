"""Fuse two registered pictures of any kind: focus stacks, exposures, modalities."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

import medfuse
from medfuse.audit import Audit
from medfuse.errors import UsageError
from medfuse.evaluation.images import SMALLEST
from medfuse.fusion import FusionResult, fuse
from medfuse.imaging.pictures import common_size, open_picture
from medfuse.kernel.color import desaturate, rgb_to_ycbcr
from medfuse.kernel.pyramid import Kernel
from medfuse.methods.base import Method, Painter
from medfuse.results.export import encode_png, to_bytes
from medfuse.results.folder import file_sha256, write_through

Task = Literal["auto", "focus", "exposure", "modality"]
TASKS = get_args(Task)
SCHEMA = "medfuse-picture/1"

# Questions of pictures; the others ask for uptake, geometry and units.
CHECKS = ("linearity", "bounded", "weights", "finite", "invented", "overshoot")
NEUTRAL = 0.5  # Cb and Cr of grey
COLOURED = 2.5 / 255  # chroma beyond this is a colour
EXPOSURE_GAP = 0.06  # of mean luminance; two focus settings of a scene differ by far less


@dataclass(frozen=True)
class FusedPicture:
    """What came of two pictures.

    ``rgb``: (3, H, W) float32 in [0, 1]; ``task``: never "auto"; ``gammas``: tone curves that A and
    B went through, None unless the task is exposure; ``result``: of the luminance, with weights and
    contributions; ``audit``: its checks that apply to pictures.
    """

    rgb: Tensor
    task: Task
    gammas: tuple[float, float] | None
    result: FusionResult
    audit: Audit


def fuse_pictures(
    a: Tensor,
    b: Tensor,
    *,
    method: str | Path | Method | Painter = "auto",
    task: Task = "auto",
    kernel: Kernel = "binomial",
    bounded: bool = False,
) -> FusedPicture:
    """Fuse the luminance of two pictures by any method; the task decides what becomes of colour.

    Parameters
    ----------
    a, b : (3, H, W) float in [0, 1]
        Registered RGB pictures. Methods are not symmetric: A is the functional image, the infrared
        one, the nearer focus or the longer exposure.
    method : str, Path, Method or Painter
    task : {"auto", "focus", "exposure", "modality"}
        ``focus``: chroma is blended by the weights of the luminance. ``exposure``: first a gamma
        brings each picture to the geometric mean of both mean luminances, since no method can know
        which brightness is the right one; of colour the stronger counts more, ``|C - 1/2|``, since
        burnt and black pixels have none. ``modality``: chroma of the one picture that has colour
        (of A if both). ``auto``: ``modality`` if just one picture has colour, else ``exposure`` if
        mean luminances differ by 0.06, else ``focus``.
    kernel : {"binomial", "paper"}
    bounded : bool
        Keep the luminance in the range of both pictures within one pixel.

    Returns
    -------
    FusedPicture

    Raises
    ------
    ValueError
        If shapes disagree, values leave [0, 1], or the task is unknown.
    UsageError, WeightsError
        If the method is unknown or its weights cannot be trusted.

    References
    ----------
    Colour of exposures: Prabhakar et al., DeepFuse, ICCV 2017.
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[0] != 3:
        raise ValueError(f"both must be (3, H, W), got {tuple(a.shape)} and {tuple(b.shape)}")
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}")
    ya, yb = (rgb_to_ycbcr(x[None])[0] for x in (a, b))
    task = _guess_task(ya, yb) if task == "auto" else task
    la, lb = ya[:1].clamp(0, 1), yb[:1].clamp(0, 1)
    gammas = None
    if task == "exposure":
        target = float((la.mean() * lb.mean()).sqrt())
        gammas = (_gamma_to(la, target), _gamma_to(lb, target))
        la, lb = la ** gammas[0], lb ** gammas[1]
    result = fuse(
        functional=la,
        anatomical=lb,
        method=method,
        colormap="gray",
        kernel=kernel,
        bounded=bounded,
    )
    chroma = _chroma(ya[1:], yb[1:], result.weights, task)
    rgb, _ = desaturate(result.luminance[None], chroma[None])
    assert result.audit is not None  # fuse() was not told to leave it out
    audit = Audit(tuple(check for check in result.audit.checks if check.id in CHECKS))
    return FusedPicture(rgb[0], task, gammas, result, audit)


def _guess_task(ya: Tensor, yb: Tensor) -> Task:
    if _has_colour(ya[1:]) != _has_colour(yb[1:]):
        return "modality"
    gap = float((ya[0].mean() - yb[0].mean()).abs())
    return "exposure" if gap > EXPOSURE_GAP else "focus"


def _gamma_to(luminance: Tensor, mean: float) -> float:
    """Exponent that gives a picture this mean, 1/16 to 16, by bisection."""
    low, high = -4.0, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        brighter = float((luminance**2.0**middle).mean()) > mean
        low, high = (middle, high) if brighter else (low, middle)
    return float(2.0 ** ((low + high) / 2))


def _has_colour(chroma: Tensor) -> bool:
    return bool(_strength(chroma).max() > COLOURED)


def _chroma(of_a: Tensor, of_b: Tensor, weights: Tensor, task: Task) -> Tensor:
    """(2, H, W) Cb and Cr of the fused picture."""
    if task == "modality":
        return of_b if _has_colour(of_b) and not _has_colour(of_a) else of_a
    if task == "exposure":
        strength_a, strength_b = (_strength(c) for c in (of_a, of_b))
        weights = strength_b / (strength_a + strength_b).clamp_min(1e-6)
    return torch.lerp(of_a, of_b, weights)


def _strength(chroma: Tensor) -> Tensor:
    return (chroma - NEUTRAL).abs()


def fuse_files(
    a: Path,
    b: Path,
    out: Path,
    *,
    method: str = "auto",
    task: Task = "auto",
    kernel: Kernel = "binomial",
    bounded: bool = False,
    bits: int | None = None,
    keep_names: bool = False,
) -> dict[str, Any]:
    """Fuse two picture files; write the picture and, beside it, what was done as JSON.

    Parameters
    ----------
    a, b : Path
        PNG, JPEG, TIFF, WebP or BMP (`imaging.pictures.open_picture`).
    out : Path
        ``.png``.
    method, task, kernel, bounded
        As `fuse_pictures`.
    bits : int, optional
        Depth of pictures of 16-bit gray.
    keep_names : bool
        Write the names of both files, which may be those of patients.

    Returns
    -------
    dict
        The content of the JSON file.

    Raises
    ------
    UsageError
        E_SIZE if the pictures differ in size; E_SAME_IMAGE if they do not differ at all;
        E_UNSAFE_PATH if ``out`` is an input; E_FORMAT if its
        name does not end in .png.
    InputError, WeightsError, OutputError
    """
    if out.resolve() in (a.resolve(), b.resolve()):
        raise _cannot(out, "E_UNSAFE_PATH", "this is an input", "Choose another name")
    if out.suffix.lower() != ".png":
        raise _cannot(out, "E_FORMAT", "only PNG keeps every pixel", "Choose a name in .png")
    common_size(f"{a.name} and {b.name}", [a, b], SMALLEST)
    pictures = [open_picture(path, "RGB", bits=bits) for path in (a, b)]
    planes = [picture.planes[0] for picture in pictures]
    if torch.equal(*planes):
        name = f"{a.name} and {b.name}"
        cause = "both pictures have the same pixels"
        raise _cannot(Path(name), "E_SAME_IMAGE", cause, "Give two different pictures")
    fused = fuse_pictures(*planes, method=method, task=task, kernel=kernel, bounded=bounded)
    record = _record(fused, kernel, bounded=bounded)
    record["inputs"] = {
        role: {"name": path.name if keep_names else None, "sha256": file_sha256(path)}
        for role, path in (("a", a), ("b", b))
    }
    names = zip(("first", "second"), pictures, strict=True)
    record["notes"] = [f"{which} picture: {note}" for which, p in names for note in p.notes]
    content = encode_png(to_bytes(fused.rgb.permute(1, 2, 0)))
    record["output"] = {"name": out.name, "sha256": sha256(content).hexdigest()}
    write_through(out.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
    write_through(out, content)
    return record


def _record(fused: FusedPicture, kernel: Kernel, *, bounded: bool) -> dict[str, Any]:
    info = fused.result.method
    return {
        **fused.audit.to_dict(),
        "schema": SCHEMA,
        "medfuse": medfuse.__version__,
        "task": fused.task,
        "gammas": fused.gammas,
        "method": {"name": info.name, "kind": info.kind, "weights_sha256": info.weights_sha256},
        "kernel": kernel,
        "bounded": bounded,
    }


def _cannot(path: Path, code: str, cause: str, remedy: str) -> UsageError:
    return UsageError(
        code, what="Cannot fuse pictures", where=path.name, cause=cause, remedy=remedy
    )
