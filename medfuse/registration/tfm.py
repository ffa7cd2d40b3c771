"""ITK's transform files: written by ourselves, since ITK takes no path that is not UTF-8."""

from __future__ import annotations

import shutil
import tempfile
from decimal import Decimal
from pathlib import Path

import SimpleITK as sitk

from medfuse.imaging.grid import Matrix
from medfuse.registration.refine import itk_transform

#: Powers of ten between which ITK writes a number without an exponent.
_PLAIN = (-7, 21)


def tfm_text(matrix: Matrix) -> str:
    """A linear RAS map as the text that ITK itself would write (LPS, mm).

    References
    ----------
    ITK, TxtTransformIO; numbers as in ECMAScript (Number::toString).
    """
    transform = itk_transform(matrix)
    name = f"{transform.GetName()}_double_3_3"
    parameters, fixed = (
        " ".join(map(_number, values))
        for values in (transform.GetParameters(), transform.GetFixedParameters())
    )
    return (
        f"#Insight Transform File V1.0\n#Transform 0\nTransform: {name}\n"
        f"Parameters: {parameters}\nFixedParameters: {fixed}\n"
    )


def itk_bytes(transform: sitk.Transform, suffix: str) -> bytes:
    """A transform as the file that ITK writes: ``.h5``, or text for ``.tfm`` and ``.txt``."""
    with tempfile.TemporaryDirectory(prefix="medfuse-") as folder:
        path = Path(folder) / f"transform{suffix}"
        sitk.WriteTransform(transform, str(path))
        return path.read_bytes()


def read_itk(path: Path) -> sitk.Transform:
    """Read a transform file wherever it lies.

    Raises
    ------
    RuntimeError
        ITK cannot read it.
    OSError
    """
    try:
        found: sitk.Transform = sitk.ReadTransform(str(path).encode().decode())
    except UnicodeEncodeError:  # ITK would end the process
        with tempfile.TemporaryDirectory(prefix="medfuse-") as folder:
            copy = Path(folder) / f"transform{path.suffix}"
            shutil.copyfile(path, copy)
            found = sitk.ReadTransform(str(copy))
    return found


def _number(value: float) -> str:
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # not finite maps are refused before
    if not any(digits):
        return "0"
    text, point = "".join(map(str, digits)), len(digits) + exponent
    minus = "-" if sign else ""
    if not _PLAIN[0] < point - 1 < _PLAIN[1]:
        power = point - 1
        mantissa = f"{text[0]}.{text[1:]}" if text[1:] else text
        return f"{minus}{mantissa}e{'+' if power > 0 else ''}{power}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    if point >= len(text):
        return f"{minus}{text}{'0' * (point - len(text))}"
    return f"{minus}{text[:point]}.{text[point:]}"
