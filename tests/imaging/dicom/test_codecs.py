"""Compressed pixels: everything that the extra brings a decoder for is decoded, the rest named."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    AllTransferSyntaxes,
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

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.codecs import EXTRA_READS
from medfuse.imaging.dicom.series import read_dicom
from medfuse.imaging.memory import memory_limit
from tests._helpers import make

LOSSLESS_BY_GDCM = {
    JPEGLossless: "JPEGLosslessProcess14",
    JPEGLosslessSV1: "JPEGLosslessProcess14_1",
    JPEGLSLossless: "JPEGLSLossless",
    JPEG2000Lossless: "JPEG2000Lossless",
    RLELossless: "RLELossless",
}
LOSSY_BY_GDCM = {JPEGLSNearLossless: "JPEGLSNearLossless", JPEG2000: "JPEG2000"}
#: The first slice of the phantom (11 x 8, 16 bits) by OpenJPH 0.26.3, lossless.
HTJ2K_STREAM = base64.b64decode(
    "/0//UQApQAAAAAALAAAACAAAAAAAAAAAAAAACwAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wA"
    "EyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAE0AAf+TwAAllwUHdAAAwAASgPAAx3"
    "QAoAAJgLS0AEI0AMAAEkAAFQD6m3MAWAz7AOR3VQCgABWApjHGmOAA9gAB7LgA/9k="
)


def _by_gdcm(folder: Path, name: str) -> None:
    gdcm = pytest.importorskip("gdcm")
    for path in sorted(folder.iterdir()):
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), None
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(path))
        assert writer.Write()


def _with_streams(folder: Path, streams: dict[str, bytes], syntax: UID) -> None:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PixelData = encapsulate([streams[path.name]])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)


@pytest.mark.parametrize("syntax", LOSSLESS_BY_GDCM, ids=LOSSLESS_BY_GDCM.values())
@pytest.mark.parametrize("lowest", [0, -1000], ids=["unsigned", "signed"])
def test_lossless_syntaxes_are_read_to_the_last_bit(
    tmp_path: Path, syntax: UID, lowest: int
) -> None:
    values = (make.phantom() + lowest).astype("u2" if lowest == 0 else "i2")
    make.write_series(tmp_path, make.SeriesPlan(values=values))
    _by_gdcm(tmp_path, LOSSLESS_BY_GDCM[syntax])
    assert pydicom.dcmread(tmp_path / make.file_name(0)).file_meta.TransferSyntaxUID == syntax
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.values, values)
    assert not volume.meta["source"]["lossy"]


@pytest.mark.parametrize("syntax", LOSSY_BY_GDCM, ids=LOSSY_BY_GDCM.values())
def test_lossy_syntaxes_of_gdcm_are_read_closely(tmp_path: Path, syntax: UID) -> None:
    values = make.phantom().astype("u2")
    make.write_series(tmp_path, make.SeriesPlan(values=values))
    _by_gdcm(tmp_path, LOSSY_BY_GDCM[syntax])
    np.testing.assert_allclose(read_dicom(tmp_path).values, values, atol=40)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_jpeg_of_eight_bits_is_read_and_said_to_be_lossy(tmp_path: Path, syntax: UID) -> None:
    values = (make.phantom() // 16).astype("u1")

    def edit(dataset: pydicom.Dataset, k: int) -> None:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = values[:, :, k].T.tobytes()

    make.write_series(tmp_path, make.SeriesPlan(values=values, edit=edit))
    streams = {}
    for k in range(make.SHAPE[2]):
        stream = io.BytesIO()
        PIL.Image.fromarray(values[:, :, k].T).save(stream, "JPEG", quality=100)
        streams[make.file_name(k)] = stream.getvalue()
    _with_streams(tmp_path, streams, syntax)
    volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.values, values, atol=2)
    assert any("lossy compression" in note for note in volume.meta["notes"])


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
def test_high_throughput_jpeg_2000_is_read(tmp_path: Path, syntax: UID) -> None:
    values = make.phantom().astype("u2")
    make.write_series(tmp_path, make.SeriesPlan(values=values))
    streams = dict.fromkeys(map(make.file_name, range(make.SHAPE[2])), HTJ2K_STREAM)
    _with_streams(tmp_path, streams, syntax)
    expected = np.repeat(values[:, :, :1], make.SHAPE[2], axis=2)
    np.testing.assert_array_equal(read_dicom(tmp_path).values, expected)


def test_the_tests_above_decode_all_that_the_extra_is_named_for() -> None:
    eight_bits = {JPEGBaseline8Bit, JPEGExtended12Bit}
    decoded = {*LOSSLESS_BY_GDCM, *LOSSY_BY_GDCM, *eight_bits}
    assert decoded | {HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K} == EXTRA_READS


@pytest.mark.parametrize("syntax", [u for u in AllTransferSyntaxes if UID(u).is_compressed])
def test_what_cannot_be_decoded_is_refused_without_naming_the_extra(
    tmp_path: Path, syntax: UID
) -> None:
    make.write_series(tmp_path)
    _with_streams(tmp_path, dict.fromkeys(map(make.file_name, range(6)), b"none"), syntax)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    if syntax in EXTRA_READS - {JPEGExtended12Bit}:
        assert caught.value.code == "E_CORRUPT"
    else:
        assert caught.value.code == "E_CODEC"
        assert "medfuse[codecs]" not in str(caught.value)


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.4.104", "This is a film"),
        ("1.2.840.10008.1.2.4.94", "on a server"),
        ("1.2.840.10008.1.2.4.51", "pylibjpeg-libjpeg"),
        ("1.2.840.10008.1.2.4.53", "export the series uncompressed"),
        ("1.2.840.113619.5.2", "unknown transfer syntax"),
    ],
)
def test_the_remedy_fits_the_syntax(tmp_path: Path, syntax: str, words: str) -> None:
    make.write_series(tmp_path)
    _with_streams(tmp_path, dict.fromkeys(map(make.file_name, range(6)), b"none"), UID(syntax))
    with pytest.raises(MedfuseError, match=words):
        read_dicom(tmp_path)


def test_deflated_files_are_unpacked(tmp_path: Path) -> None:
    plan = make.write_series(tmp_path)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        dataset.save_as(path)
    np.testing.assert_array_equal(read_dicom(tmp_path).values, plan.values)


@pytest.mark.parametrize("keep", [0.6, 0.95])
def test_a_deflated_file_that_is_cut_off_is_refused(tmp_path: Path, keep: float) -> None:
    test_deflated_files_are_unpacked(tmp_path)
    path = tmp_path / make.file_name(2)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(MedfuseError, match="deflated data set is damaged"):
        read_dicom(tmp_path)


def test_a_deflated_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_deflated_files_are_unpacked(tmp_path)
    monkeypatch.setattr("medfuse.imaging.memory.MAX_UNPACKED_BYTES", 500)
    with pytest.raises(MedfuseError, match=r"larger than 4.66e-07 GB.* out of the folder\. \["):
        read_dicom(tmp_path)
    with memory_limit(None), pytest.raises(MedfuseError, match="allow more with max_memory=GB"):
        read_dicom(tmp_path)
    with memory_limit(1):  # raised by the user
        read_dicom(tmp_path)
    with memory_limit(1e-6), pytest.raises(MedfuseError, match=r"larger than 9\.99e-07 GB"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("has_offsets", [True, False])
@pytest.mark.parametrize("wanted", [0, 2, "mean"])
def test_compressed_frames_of_one_file_are_found_with_and_without_offsets(
    tmp_path: Path, has_offsets: bool, wanted: int | str
) -> None:
    values = np.concatenate([make.phantom() * np.int16(t + 1) for t in range(3)], axis=2)
    plan = make.SeriesPlan(values=values.astype("i2"))
    make.write_enhanced(tmp_path / "a.dcm", plan, range(values.shape[2]))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    for n, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        position = [float(v) for v in plan.position(0, 0, n % make.SHAPE[2])]
        group.PlanePositionSequence[0].ImagePositionPatient = position
    frames = [np.ascontiguousarray(values[:, :, k].T) for k in range(values.shape[2])]
    dataset.compress(RLELossless, np.stack(frames), generate_instance_uid=False)
    if not has_offsets:
        streams = list(generate_frames(dataset.PixelData, number_of_frames=len(frames)))
        dataset.PixelData = encapsulate(streams, has_bot=False)
    dataset.save_as(tmp_path / "a.dcm")
    expected = make.phantom() * (2 if wanted == "mean" else int(wanted) + 1) * 2.0 - 1000
    np.testing.assert_allclose(read_dicom(tmp_path, frame=wanted).values, expected)  # type: ignore[arg-type]
