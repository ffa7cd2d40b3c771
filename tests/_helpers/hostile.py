"""Files that claim more than they hold: one of each, and how reading it must end."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel as nib
import pydicom
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests._helpers import make

#: Ending by code, and words of its line.
ENDINGS = {
    "deflated": ("E_CODEC", "1 GB"),
    "deflated-long-meta": ("E_CODEC", "1 GB"),
    "far-dicom": ("E_BAD_AFFINE", "1e+12 mm from the origin"),
    "far.nii": ("E_BAD_AFFINE", "1e+12 mm from the origin"),
    "huge-spacing": ("E_BAD_AFFINE", "1e+09"),
    "tiny-spacing": ("E_BAD_AFFINE", "1e-09"),
    "tiny-spacing.nii": ("E_BAD_AFFINE", "1e-09"),
    "frames.nii.gz": ("E_TRUNCATED", "cannot hold"),
    "large.nii": ("E_TOO_LARGE", "GB of memory"),
    "nm-frames": ("E_TRUNCATED", "bytes"),
    "offset.nii.gz": ("E_CORRUPT", "voxels start at byte 9e+15"),
    "picture.png": ("E_TOO_LARGE", "million pixels"),
    "picture.tif": ("E_TOO_LARGE", "million pixels"),
    "sizes.nii": ("E_TRUNCATED", "of 250000352 bytes"),
    "zeros.nii.gz": ("E_CORRUPT", "far beyond the data"),
}


def deflated_zeros(count: int) -> bytes:
    """Raw deflate of so many zeros, from one block that is packed once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (count >> 24) + packer.flush()


def _series(folder: Path, **tags: object) -> None:
    make.write_series(folder, make.SeriesPlan())
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def _bomb(folder: Path, zeros: bytes, more_meta: int) -> None:
    make.write_series(folder, make.SeriesPlan())
    path = folder / make.file_name(2)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if more_meta:
        dataset.file_meta.FileMetaInformationVersion = bytes(more_meta)
    dataset.save_as(path)
    data = path.read_bytes()
    length = int.from_bytes(data[140:144], "little")
    path.write_bytes(data[: 144 + length] + zeros)


def _nm(folder: Path) -> None:
    """One reconstructed SPECT file of two billion frames."""
    folder.mkdir()
    make.write_enhanced(folder / "a.dcm", make.SeriesPlan(), range(2))
    dataset = pydicom.dcmread(folder / "a.dcm")
    nm = "1.2.840.10008.5.1.4.1.1.20"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = nm
    dataset.Modality, dataset.ImageType = "NM", ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    detector = pydicom.Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.DetectorInformationSequence = [detector]
    dataset.SpacingBetweenSlices, dataset.PixelSpacing = 4, [2, 2]
    dataset.NumberOfFrames = 2_000_000_000
    dataset.save_as(folder / "a.dcm")


def _nifti(path: Path, more: bytes = b"", **fields: object) -> None:
    header = nib.Nifti1Header()
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 1
    header.set_data_dtype("i2")
    header["dim"] = [3, 8, 8, 8, 1, 1, 1, 1]
    header["srow_x"], header["srow_y"], header["srow_z"] = [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]
    for name, value in fields.items():
        header[name] = value
    data = header.binaryblock + bytes(4 + 1024)
    path.write_bytes(gzip.compress(data) + more if path.suffix == ".gz" else data)


def _pictures(folder: Path) -> None:
    sides = struct.pack(">II", 60000, 60000)
    Image.new("L", (8, 8)).save(folder / "picture.png")
    data = bytearray((folder / "picture.png").read_bytes())
    data[16:24] = sides
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (folder / "picture.png").write_bytes(bytes(data))
    image = Image.new("L", (8, 8))
    image.save(folder / "picture.tif", tiffinfo={})
    tif = (folder / "picture.tif").read_bytes()
    for tag in (256, 257):
        at = tif.index(struct.pack("<H", tag), 8)
        tif = tif[: at + 2] + struct.pack("<HII", 4, 1, 60000) + tif[at + 12 :]
    (folder / "picture.tif").write_bytes(tif)


def write_hostile(folder: Path) -> None:
    """Write one of each into `folder`."""
    zeros = deflated_zeros(5 << 28)
    _bomb(folder / "deflated", zeros, 0)
    _bomb(folder / "deflated-long-meta", zeros, 5000)
    make.write_series(folder / "far-dicom", make.SeriesPlan(origin=(1e12, 0.0, 0.0)))
    _series(folder / "tiny-spacing", PixelSpacing=[1e-9, 1e-9])
    _series(folder / "huge-spacing", PixelSpacing=[1e9, 1e9])
    _nm(folder / "nm-frames")
    _nifti(folder / "far.nii", srow_x=[1, 0, 0, 1e12])
    _nifti(folder / "tiny-spacing.nii", srow_x=[1e-9, 0, 0, 0])
    _nifti(folder / "sizes.nii", dim=[3, 500, 500, 500, 1, 1, 1, 1])
    _nifti(folder / "large.nii", dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    _nifti(folder / "frames.nii.gz", dim=[4, 500, 500, 500, 30000, 1, 1, 1])
    _nifti(folder / "offset.nii.gz", vox_offset=9e15)
    bomb = b"\x1f\x8b\x08" + bytes(7) + zeros + bytes(8)
    _nifti(folder / "zeros.nii.gz", more=bomb)
    _pictures(folder)
