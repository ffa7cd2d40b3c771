"""One reader of pictures: what a viewer shows is what is read, or the refusal says what it is."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from medfuse.errors import InputError
from medfuse.imaging.pictures import common_size, open_picture, over_black, read_picture

ROWS, COLUMNS = 20, 31
RAMP = (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) * 255 // (ROWS * COLUMNS - 1)).astype("u1")
RGB = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
#: What undoes an orientation tag of EXIF: the stored pixels of an upright picture.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    Image.fromarray(np.ascontiguousarray(array), mode).save(path, **options)
    return path


def png(path: Path, pixels: bytes, depth: int, color: int, *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG of any depth: rows of big-endian samples, each without filter."""
    line = len(pixels) // ROWS
    rows = b"".join(b"\0" + pixels[k * line : (k + 1) * line] for k in range(ROWS))
    head = struct.pack(">IIBBBBB", COLUMNS, ROWS, depth, color, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        crc = zlib.crc32(kind + data)
        made += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    path.write_bytes(made)
    return path


def bytes_of(path: Path, mode: str = "RGB") -> np.ndarray:
    planes = read_picture(path, mode)[0].numpy()
    return np.rint(255 * planes).astype(int).transpose(1, 2, 0).squeeze()


# What is seen ------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_a_picture_is_turned_by_its_tag(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif}
    if suffix == ".webp":
        options["lossless"] = True
    if suffix == ".jpg":
        options |= {"quality": 100, "subsampling": 0}
    path = save(tmp_path / f"a{suffix}", STORED[orientation](RGB), **options)
    assert common_size("a", [path], 8) == (COLUMNS, ROWS)
    assert np.abs(bytes_of(path) - RGB).max() <= (16 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_gray_tiffs_are_turned_too(tmp_path: Path, orientation: int, kind: str) -> None:
    stored = STORED[orientation](RAMP.astype(kind) * (257 if kind == "u2" else 1))
    path = save(tmp_path / "a.tif", stored, tiffinfo={0x0112: orientation})
    assert np.array_equal(bytes_of(path, "L"), RAMP)
    assert np.array_equal(bytes_of(path)[..., 1], RAMP)


ALPHA = np.where(np.arange(COLUMNS) > 9, 255, np.arange(COLUMNS) * 20).astype("u1") + 0 * RAMP


@pytest.mark.parametrize("hidden", [0, 127, 255])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "webp", "tif", "P", "tRNS"])
def test_transparent_parts_are_as_over_black(tmp_path: Path, kind: str, hidden: int) -> None:
    gray = kind in ("LA", "tRNS")
    color = np.where(ALPHA[..., None] > 0, RGB, hidden).astype("u1")
    alpha = ALPHA
    if kind == "LA":
        path = save(tmp_path / "a.png", np.dstack([color[..., 0], ALPHA]), "LA")
    elif kind == "tRNS":
        plane = np.where(ALPHA == 255, np.clip(RAMP, 2, 255), 1).astype("u1")
        alpha, color = np.where(plane == 1, 0, 255), np.dstack([plane] * 3)
        path = png(tmp_path / "a.png", plane.tobytes(), 8, 0, (b"tRNS", b"\0\1"))
    elif kind == "P":
        image = Image.fromarray((RAMP // 2).astype("u1"), "P")
        image.putpalette([v for k in range(256) for v in (hidden if k == 3 else k, k, 255 - k)])
        image.save(tmp_path / "a.png", transparency=3)
        path, index = tmp_path / "a.png", RAMP // 2
        alpha = np.where(index == 3, 0, 255)
        color = np.dstack([index, index, 255 - index])
    else:
        suffix = {"webp": ".webp", "tif": ".tif"}.get(kind, ".png")
        more = {"lossless": True, "exact": True} if kind == "webp" else {}
        path = save(tmp_path / f"a{suffix}", np.dstack([color, ALPHA]), "RGBA", **more)
    expected = color.astype(float) * (alpha / 255)[..., None]
    expected = expected[..., [0, 0, 0]] if gray else expected
    found = open_picture(path, "RGB")
    assert np.abs(255 * found.planes[0].numpy().transpose(1, 2, 0) - expected).max() < 1.01
    assert found.notes == ("its transparent parts were taken as over black",)


def test_an_alpha_that_hides_nothing_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.dstack([RGB, 0 * RAMP + 255]), "RGBA")
    assert open_picture(path, "RGB").notes == ()
    assert np.array_equal(bytes_of(path), RGB)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_depth_of_the_detector_is_found_and_told(
    tmp_path: Path, bits: int, suffix: str
) -> None:
    white = (1 << bits) - 1
    stored = np.rint(RAMP / 255 * white).astype("u2")
    path = save(tmp_path / f"a{suffix}", stored)
    found = open_picture(path, "L")
    assert np.abs(255 * found.planes[0, 0].numpy() - RAMP).max() < 0.51
    assert [f"read as {bits} bits" in note for note in found.notes] == ([True] if bits < 16 else [])
    asked = open_picture(path, "L", bits=16)
    assert float(asked.planes.max()) == pytest.approx(white / 65535)
    assert asked.notes == ()


def test_white_is_zero_where_a_tiff_says_so(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", 65535 - RAMP.astype("u2") * 257, tiffinfo={262: 0})
    assert np.array_equal(bytes_of(path, "L"), RAMP)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palettes_bits_and_gray_are_what_they_show(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / f"a{suffix}")
    assert np.array_equal(bytes_of(tmp_path / f"a{suffix}"), np.asarray(image.convert("RGB")))


def test_colors_of_another_profile_are_brought_to_srgb(tmp_path: Path) -> None:
    """A profile that swaps red and blue: nobody can mistake whether it was heeded."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[132 + 12 * k : 136 + 12 * k]): 132 + 12 * k for k in range(profile[131])}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    places = bytes(profile[red + 4 : red + 12]), bytes(profile[blue + 4 : blue + 12])
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = places[1], places[0]
    swapped = bytes(profile).replace("sRGB".encode("utf-16-be"), "xBGR".encode("utf-16-be"))
    path = save(tmp_path / "a.png", RGB[..., ::-1], icc_profile=swapped)
    found = open_picture(path, "RGB")
    assert "color profile" in found.notes[0]
    assert np.abs(bytes_of(path) - RGB).max() <= 3
    save(path, RGB, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert open_picture(path, "RGB").notes == ()
    assert np.array_equal(bytes_of(path), RGB)
    save(path, RGB, icc_profile=b"no profile")
    assert "left out" in open_picture(path, "RGB").notes[0]
    assert np.array_equal(bytes_of(path), RGB)


# What is refused ---------------------------------------------------------------------------------


def animation(suffix: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    form = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF"}[suffix]
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def one_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_pages_and_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(animation(suffix))
    with pytest.raises(InputError, match=r"holds 2 (pages|frames).*E_FRAMES"):
        read_picture(path, "RGB")


@pytest.mark.parametrize("color", [2, 4, 6])
def test_colors_of_sixteen_bits_are_refused(tmp_path: Path, color: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[color]
    pixels = np.arange(ROWS * COLUMNS * channels, dtype=">u2").tobytes()
    with pytest.raises(InputError, match=r"16 bits a channel.*E_DTYPE"):
        read_picture(png(tmp_path / "a.png", pixels, 16, color), "RGB")


@pytest.mark.parametrize(
    ("array", "mode", "words"),
    [
        (RAMP.astype("f4") / 255, None, "float pixels have no known range"),
        (RAMP.astype("i4") * 1000, None, "no known range"),
        (np.dstack([RGB, RAMP]), "CMYK", "its colors are CMYK"),
        (RGB, "LAB", "its colors are LAB"),
    ],
)
def test_numbers_and_inks_without_a_meaning_are_refused(
    tmp_path: Path, array: np.ndarray, mode: str | None, words: str
) -> None:
    path = save(tmp_path / "a.tif", array, mode)
    with pytest.raises(InputError, match=rf"{words}.*E_DTYPE"):
        read_picture(path, "RGB")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E_EMPTY_FILE"),
        (b"no picture", "E_UNREADABLE"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "E_NO_CONTENT"),
        (b"/annex/objects/MD5E-s1--0.png\n", "E_NO_CONTENT"),
        (one_png()[:-40], "E_CORRUPT"),
    ],
)
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=code):
        read_picture(path, "RGB")


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_arrays_with_alpha_are_as_over_black(kind: str) -> None:
    whole = np.iinfo(kind).max if kind[0] == "u" else 1
    rgba = (np.dstack([RGB, ALPHA]) / 255 * whole).astype(kind)
    expected = (RGB / 255) * (ALPHA / 255)[..., None]
    assert np.abs(over_black(rgba) - expected).max() < 0.01
    assert np.abs(over_black(rgba[..., :3]) - RGB / 255).max() < 0.01
