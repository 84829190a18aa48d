"""Image files as people hand them in: read right, or refused with what they are and what to do."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from skinray.errors import ImageError
from skinray.images.read import decode_image

SIZE = (120, 160)


def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def jpeg(**options: object) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(picture()).save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def tiff(array: np.ndarray | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    options = {"photometric": "rgb", **options}
    tifffile.imwrite(stream, picture() if array is None else array, **options)
    return stream.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode_image(data, "image").pixels


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "reduced colour": {"subsampling": 2},
}
TRAILERS = {
    "film of a motion photo": b"\0\0\0\x18ftypmp42" + bytes(3000) + b"\xff\xda\xff\xd9" * 9,
    "second picture": jpeg(),
    "zeros": bytes(5000),
    "words": b"MotionPhoto_Data" + b"\xff\xd8\xff\xda",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trailer", TRAILERS)
def test_what_follows_a_whole_jpeg_is_ignored(kind: str, trailer: str) -> None:
    data = jpeg(**KINDS[kind])
    assert np.array_equal(pixels(data + TRAILERS[trailer]), pixels(data))


def _middle(data: bytes) -> int:
    return data.index(b"\xff\xda") + (len(data) - data.index(b"\xff\xda")) // 2


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: _middle(data)],
    "cut, with an end": lambda data: data[: _middle(data)] + b"\xff\xd9",
    "cut, with a trailer": lambda data: data[: _middle(data)] + TRAILERS["second picture"],
    "filled with zeros": lambda data: data[: _middle(data)] + bytes(len(data) - _middle(data)),
    "filled with zeros, with an end": lambda data: (
        data[: _middle(data)] + bytes(len(data) - _middle(data) - 2) + b"\xff\xd9"
    ),
    "a sector of zeros": lambda data: (
        data[: _middle(data)] + bytes(512) + data[_middle(data) + 512 :]
    ),
    "4 KiB lost": lambda data: data[: _middle(data) - 2048] + data[_middle(data) + 2048 :],
    "no end": lambda data: data[:-2],
    "another end": lambda data: data[:-40] + b"\xff\xd9",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_jpeg_is_refused(kind: str, how: str) -> None:
    with pytest.raises(ImageError, match=r"(truncated|damaged) JPEG.*copy or export it again"):
        pixels(DAMAGE[how](jpeg(**KINDS[kind])))


@pytest.mark.parametrize("how", ["filled with zeros", "a sector of zeros", "4 KiB lost"])
def test_a_damaged_jpeg_inside_a_tiff_is_refused(how: str) -> None:
    data = tiff(compression="jpeg", rowsperstrip=SIZE[0])
    start = data.index(b"\xff\xda")
    end = data.rindex(b"\xff\xd9") + 2
    assert np.array_equal(pixels(data).shape, (*SIZE, 3))
    spoilt = DAMAGE[how](data[start:end]).ljust(end - start, b"\0")[: end - start]
    with pytest.raises(ImageError, match=r"JPEG|TIFF"):
        pixels(data[:start] + spoilt + data[end:])


@pytest.mark.parametrize("scans", range(1, 9))
def test_a_progressive_jpeg_that_lacks_its_last_scans_is_refused(scans: int) -> None:
    data = jpeg(progressive=True)
    at = len(data)
    for _ in range(scans):
        at = data.rindex(b"\xff\xda", 0, at)
    with pytest.raises(ImageError, match="truncated JPEG"):
        pixels(data[:at] + b"\xff\xd9")


def test_flat_pictures_have_zeros_of_their_own() -> None:
    flat = np.full((800, 800, 3), 255, np.uint8)
    for progressive in (False, True):
        stream = io.BytesIO()
        Pillow.fromarray(flat).save(stream, "JPEG", optimize=True, progressive=progressive)
        assert (pixels(stream.getvalue()) == 255).all()


def test_a_jpeg_of_12_bits_is_named() -> None:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 4
    data[at] = 12
    with pytest.raises(ImageError, match="a JPEG of 12 bits a sample: export it with 8 bits"):
        pixels(bytes(data))


@pytest.mark.parametrize("mode", ["YCbCr", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpegs_equal_those_of_pillow(mode: str, subsampling: int) -> None:
    stream = io.BytesIO()
    options = {} if mode == "L" else {"subsampling": subsampling}
    Pillow.fromarray(picture()).convert(mode).save(stream, "JPEG", **options)
    expected = np.array(Pillow.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    assert np.array_equal(pixels(stream.getvalue()), expected)


# Colours


def wide_profile() -> bytes:
    """An ICC profile whose colours are not those of sRGB: the one of L*a*b* has no RGB."""
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # The three primaries of Display P3, as s15Fixed16 of the D50 white.
    primaries = {
        b"rXYZ": (0.51512, 0.2412, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.1571, 0.06657, 0.78407),
    }
    for tag, values in primaries.items():
        entry = srgb.index(tag)
        place = int.from_bytes(srgb[entry + 4 : entry + 8], "big") + 8
        for at, value in enumerate(values):
            stored = round(value * 65536).to_bytes(4, "big", signed=True)
            srgb[place + 4 * at : place + 4 * at + 4] = stored
    return bytes(srgb)


def test_display_p3_becomes_srgb() -> None:
    flat = np.full((8, 8, 3), (200, 80, 90), np.uint8)
    plain, tagged = io.BytesIO(), io.BytesIO()
    Pillow.fromarray(flat).save(plain, "PNG")
    Pillow.fromarray(flat).save(tagged, "PNG", icc_profile=wide_profile())
    assert np.array_equal(pixels(plain.getvalue()), flat)
    red, green, blue = pixels(tagged.getvalue())[0, 0].astype(int)
    assert red > 208  # the same red of wider primaries
    assert green < 80
    assert abs(blue - 90) < 8


@pytest.mark.parametrize("save", ["PNG", "JPEG", "TIFF"])
def test_an_srgb_or_broken_profile_changes_nothing(save: str) -> None:
    profiles = (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"x" * 200)
    found = []
    for options in ({}, *({"icc_profile": one} for one in profiles)):
        stream = io.BytesIO()
        Pillow.fromarray(picture()).save(stream, save, **options)
        found.append(pixels(stream.getvalue()))
    assert all(np.array_equal(one, found[0]) for one in found)


@pytest.mark.parametrize("compression", ["none", "lzw", "zlib"])
def test_a_tiff_in_ycbcr_has_its_colours(compression: str) -> None:
    stored = np.array(Pillow.fromarray(picture()).convert("YCbCr"))
    data = tiff(
        stored, photometric="ycbcr", compression=compression,
        extratags=[(530, 3, 2, (1, 1), True)],
    )  # fmt: skip
    assert np.abs(pixels(data).astype(int) - picture()).max() <= 3


def test_a_tiff_in_ycbcr_of_reduced_colour_is_named() -> None:
    stored = np.array(Pillow.fromarray(picture()).convert("YCbCr"))
    data = tiff(stored, photometric="ycbcr", extratags=[(530, 3, 2, (1, 1), True)])
    entry = struct.pack("<HHI", 530, 3, 2)
    whole, halved = (entry + struct.pack("<HH", at, at) for at in (1, 2))
    assert whole in data
    data = data.replace(whole, halved)
    with pytest.raises(ImageError, match="YCbCr"):
        pixels(data)


# Scale and pages


def test_imagej_goes_by_its_own_unit() -> None:
    data = tiff(resolution=(2, 2), resolutionunit="INCH", description="ImageJ=1.54f\nunit=micron\n")
    assert decode_image(data, "image").um_per_px == pytest.approx(0.5)
    data = tiff(resolution=(25400, 25400), resolutionunit="INCH", description="ImageJ=1.54f\n")
    assert decode_image(data, "image").um_per_px == pytest.approx(1)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_pyramid_that_does_not_say_so_is_named(factor: int) -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for level in range(3):
            step = factor**level
            writer.write(picture()[::step, ::step], photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match=r"a pyramid of 3 levels.*first level alone \(160x120\)"):
        pixels(stream.getvalue())


def test_pages_of_one_size_are_a_stack() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for _ in range(3):
            writer.write(picture(), photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match="contains 3 images"):
        pixels(stream.getvalue())


# Other files


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photograph.*most compatible"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "a HEIC photograph"),
        (b"\0\0\0\x1cftypavif", "an AVIF image"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP image"),
        (b"GIF89a", "a GIF image"),
        (b"BM\x36\0\0\0", "a BMP image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"%PDF-1.7", "a PDF document"),
        (b"8BPS\0\x01", "a Photoshop document"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page.*download the file again"),
        (b"<html><head>", "a web page"),
        (b"\x1f\x8b\x08\0", "compressed with gzip.*unpack it first"),
        (b"PK\x03\x04\x14\0", "a ZIP archive or an Office document"),
        (bytes(128) + b"DICM", "a DICOM file.*export the image from the viewer"),
        (b"ZISRAWFILE\0", "a Zeiss CZI slide.*QuPath"),
        (b"\xda\xce\xbe\x0a", "a Nikon ND2 image"),
        (b"Iout\0\xe4", "ImageJ regions of interest.*Create Mask"),
        (b"PK\3\4" + bytes(26) + b"0001-0042.roi", "ImageJ regions of interest.*ROI Manager"),
        (b"GARBAGE", "not a PNG, JPEG or TIFF image"),
    ],
)
def test_other_files_are_named(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        pixels(data + bytes(64))


def test_a_slide_with_its_thumbnail_is_called_so() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for scale in (1, 4):
            file.write(picture()[::scale, ::scale], description="Aperio Image Library v1|MPP = 0.5")
    with pytest.raises(ImageError, match=r"an Aperio slide \(2 images\).*from QuPath"):
        pixels(stream.getvalue())


# Several channels, and depths that are not what they seem


def ome(*colours: int, pages: tuple[int, ...] = (0, 1, 2), told: str = "") -> bytes:
    """A picture whose page ``n`` is its channel ``pages[n]``, with the channels' colours stated."""
    channels = "".join(
        f'<Channel ID="Channel:0:{at}" Color="{colour}"/>' for at, colour in enumerate(colours)
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="160" SizeY="120" '
        f'SizeC="3" SizeZ="1" SizeT="1">{channels}{told or "<TiffData/>"}</Pixels></Image></OME>'
    )
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for at, page in enumerate(pages):
            file.write(
                picture()[..., page], photometric="minisblack", metadata=None,
                description=xml if at == 0 else None,
            )  # fmt: skip
    return stream.getvalue()


R, G, B = -16776961, 16711935, 65535


def test_channels_are_placed_by_their_colours() -> None:
    assert np.array_equal(pixels(ome()), picture())
    assert np.array_equal(pixels(ome(R, G, B)), picture())
    assert np.array_equal(pixels(ome(B, G, R, pages=(2, 1, 0))), picture())
    assert np.array_equal(pixels(ome(-1, -1, -1)), picture())


def test_channels_are_placed_by_their_pages() -> None:
    told = "".join(f'<TiffData FirstC="{c}" IFD="{2 - c}"/>' for c in range(3))
    assert np.array_equal(pixels(ome(pages=(2, 1, 0), told=told)), picture())


def test_stains_are_no_picture() -> None:
    with pytest.raises(ImageError, match="three channels of the colours #00ffff, #00ff00, #ff0000"):
        pixels(ome(16777215, G, R))


@pytest.mark.parametrize("planes", [2, 3])
def test_channels_without_a_colour_are_refused(planes: int) -> None:
    stack = picture()[..., :planes]
    with pytest.raises(ImageError, match=f"{planes} channels without a colour: flatten it"):
        pixels(tiff(stack, photometric="minisblack", planarconfig="contig"))


def test_numbers_with_a_sign_are_refused() -> None:
    values = picture()[..., 0].astype(np.uint16) * 16 + np.uint16(32768)
    said = "ImageJ=1.54f\nmin=32768.0\nmax=36863.0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n"
    data = tiff(values, photometric="minisblack", metadata=None, description=said)
    with pytest.raises(ImageError, match="16-bit numbers with a sign"):
        pixels(data)


def test_a_white_margin_does_not_hide_an_unknown_depth() -> None:
    values = picture()[..., 0].astype(np.uint16) * 16
    values[:, :6] = 65535
    stream = io.BytesIO()
    Pillow.fromarray(values).save(stream, "PNG")
    with pytest.raises(ImageError, match=r"fewer bits per sample than it says.*read\.bits=12"):
        pixels(stream.getvalue())


def test_a_picture_that_shows_nothing_is_refused() -> None:
    stream = io.BytesIO()
    clear = np.dstack([picture(), np.zeros(SIZE, np.uint8)])
    Pillow.fromarray(clear, "RGBA").save(stream, "PNG")
    with pytest.raises(ImageError, match="alpha is 0 everywhere"):
        pixels(stream.getvalue())


def test_a_progressive_picture_with_a_thumbnail_is_checked_too() -> None:
    """The thumbnail in the EXIF has a scan of its own, before the picture's."""
    data, small = jpeg(progressive=True), io.BytesIO()
    Pillow.fromarray(picture()).resize((40, 30)).save(small, "JPEG")
    inside = small.getvalue()
    tags = struct.pack("<HIHHIIHHIII", 0, 14, 2, 0x201, 4, 1, 44, 0x202, 4, 1, len(inside))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags + struct.pack("<I", 0)
    whole = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + len(inside) + 2) + exif + inside
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xc4"]
    cut = next(at for at in scans if at > data.find(b"\xff\xda"))
    assert np.array_equal(pixels(whole + data[2:]), pixels(data))
    with pytest.raises(ImageError, match="truncated JPEG"):
        pixels(whole + data[2:cut] + b"\xff\xd9")
