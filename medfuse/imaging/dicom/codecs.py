"""Which decoders read a transfer syntax here, and what to do where none does."""

from __future__ import annotations

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medfuse.errors import InputError
from medfuse.imaging.dicom.header import DicomFile, integer
from medfuse.imaging.volume import Place

#: Compressed transfer syntaxes that the extra `codecs` brings a decoder for (JPEG Extended:
#: of 8 bits); a test decodes each.
EXTRA_READS = frozenset(
    {
        *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1),
        *(JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000),
        *(HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K, RLELossless),
    }
)
#: Tried in this order, so that a file reads alike wherever its decoders are installed.
_ORDER = ("pydicom", "pyjpegls", "pylibjpeg", "pillow", "gdcm")
_VIDEO = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7.")
_ON_A_SERVER = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (94, 95, 204, 205))


def decoders(file: DicomFile) -> list[str]:
    """Names of pydicom's plugins that may read the pixels of a compressed file, the best first."""
    found = get_decoder(file.transfer_syntax).available_plugins
    if file.transfer_syntax == JPEGExtended12Bit and (integer(file.header, "BitsStored") or 8) > 8:
        found = tuple(name for name in found if name == "pylibjpeg")  # the others have 8 bits only
    return sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else 99, name))


def require_codec(file: DicomFile, place: Place) -> None:
    """Refuse a transfer syntax that nothing installed reads (``E_CODEC``), with a way that works.

    The extra is named only for what it does read.
    """
    syntax = file.transfer_syntax
    if syntax.is_transfer_syntax and not syntax.is_private and not syntax.is_compressed:
        return
    try:
        if decoders(file):
            return
    except NotImplementedError:
        pass
    known = syntax.is_transfer_syntax and not syntax.is_private
    raise place.error(
        InputError,
        "E_CODEC",
        f"no decoder for {syntax.name if known else 'an unknown transfer syntax'} is installed",
        _remedy(file),
        where=file.name,
    )


def _remedy(file: DicomFile) -> str:
    syntax = file.transfer_syntax
    if syntax == JPEGExtended12Bit:  # a licence (GPL) that the extra should not bring unasked
        return (
            "Install a decoder with: pip install pylibjpeg pylibjpeg-libjpeg, or export "
            "uncompressed images"
        )
    if syntax in EXTRA_READS:
        return (
            "Install the codecs with: pip install 'medfuse[codecs]', or export uncompressed images"
        )
    if syntax.startswith(_VIDEO):
        return "This is a film; give the images of the scan"
    if syntax in _ON_A_SERVER:
        return "The pixels are on a server, not in the file: fetch the images with their pixels"
    return (
        "medfuse has no decoder for it: export the series uncompressed (explicit VR little endian)"
    )
