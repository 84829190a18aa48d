"""What every accepted file becomes: exact pixels, masks and scales."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.errors import ImageError, LabelError
from skinray.images.read import decode_image, read_image, read_mask

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), np.uint16)


def saved(image: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array: np.ndarray, **options: object) -> bytes:
    return saved(Pillow.fromarray(array), "PNG", **options)


def tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **{"metadata": None, **options})
    return buffer.getvalue()


def raw_png(width: int, height: int, bits: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG written by hand: what Pillow cannot write (16-bit colour)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    extra = b"".join(chunk(body[:4], body[4:]) for body in more)
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def raw_rows(array: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(array.dtype.newbyteorder(">")).tobytes() for row in array)


def pixels(data: bytes) -> np.ndarray:
    image = decode_image(data, "test image")
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape[2] == 3
    return image.pixels


def scale(data: bytes) -> float | None:
    return decode_image(data, "test image").um_per_px


THREE_GREY = np.repeat(GREY[..., None], 3, axis=2)


@pytest.mark.parametrize("encode", [png, tiff])
def test_8_bit_grey_and_rgb_stay_as_they_are(encode):
    assert np.array_equal(pixels(encode(RGB)), RGB)
    assert np.array_equal(pixels(encode(GREY)), THREE_GREY)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"planarconfig": "separate"}])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_layouts_give_equal_pixels(compression, layout, order):
    stored = np.moveaxis(RGB, 2, 0) if "planarconfig" in layout else RGB
    data = tiff(stored, photometric="rgb", compression=compression, byteorder=order, **layout)
    assert np.array_equal(pixels(data), RGB)


def test_predictors_are_undone():
    for compression in ("lzw", "zlib"):
        data = tiff(RGB, photometric="rgb", compression=compression, predictor=True)
        assert np.array_equal(pixels(data), RGB)


def test_bigtiff_is_read():
    assert np.array_equal(pixels(tiff(RGB, bigtiff=True)), RGB)


def test_16_bit_is_shifted_and_never_stretched():
    dark = np.full((4, 6), 300, np.uint16)
    dark[0, 0] = 20_000  # less than a quarter of the range would leave the depth open
    assert (pixels(tiff(dark))[1:] == 1).all()
    assert (pixels(png(dark))[1:] == 1).all()
    assert np.array_equal(pixels(tiff(DEEP, photometric="rgb")), DEEP >> 8)
    assert np.array_equal(pixels(png(DEEP[..., 0]))[..., 1], DEEP[..., 0] >> 8)
    assert np.array_equal(pixels(raw_png(7, 5, 16, 2, raw_rows(DEEP))), DEEP >> 8)


def test_a_declared_depth_of_12_bits_is_used():
    values = np.array([[0, 16, 2048, 4095]], np.uint16)
    expected = [0, 1, 128, 255]
    by_tag = tiff(values, extratags=[(281, 3, 1, 4095, True)])
    assert pixels(by_tag)[0, :, 0].tolist() == expected
    by_ome = tiff(values, description=ome_xml('SignificantBits="12"'))
    assert pixels(by_ome)[0, :, 0].tolist() == expected
    by_imagej = tiff(values, imagej=True, metadata={"min": 0.0, "max": 4095.0})
    assert pixels(by_imagej)[0, :, 0].tolist() == expected
    statistic = tiff(values * 16, extratags=[(281, 3, 1, 4000, True)])
    assert pixels(statistic)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("top", "bits"), [(0, 8), (255, 8), (1023, 10), (4095, 12), (16383, 14)])
@pytest.mark.parametrize("save", [png, tiff])
def test_a_depth_that_nobody_declares_is_refused_until_the_user_states_it(save, top, bits):
    data = save(np.array([[0, top // 2, top]], np.uint16))
    with pytest.raises(ImageError, match=f"only {top} of 65535.*read.bits={bits}"):
        decode_image(data, "camera")
    read = decode_image(data, "camera", ReadSettings(bits=bits))
    assert read.pixels[0, -1, 0] == top >> (bits - 8)


@pytest.mark.parametrize("kind", [2, 6])
def test_16_bits_of_colour_in_a_png_keep_their_depth(kind):
    channels = 3 if kind == 2 else 4
    deep = np.full((8, 9, channels), 40_000, np.uint16)
    deep[..., 3:] = 65_535
    read = decode_image(raw_png(9, 8, 16, kind, raw_rows(deep)), "png").pixels
    assert (read == 40_000 >> 8).all()
    camera = np.minimum(deep, 4_000)
    if kind == 6:
        camera[..., 3] = 65_535
    with pytest.raises(ImageError, match=r"read\.bits=12"):
        decode_image(raw_png(9, 8, 16, kind, raw_rows(camera)), "png")


def test_16_bits_of_colour_make_a_mask(tmp_path):
    small = np.zeros((8, 9, 3), np.uint16)
    small[4:] = 1
    found = mask_of(tmp_path, raw_png(9, 8, 16, 2, raw_rows(small)))
    assert found == [0] * 36 + [1] * 36


@pytest.mark.parametrize("save", [png, tiff])
def test_a_scale_bar_does_not_hide_the_depth(save):
    camera = np.random.default_rng(0).integers(0, 4096, (80, 100)).astype(np.uint16)
    camera[70:72, 60:90] = 65_535
    with pytest.raises(ImageError, match=r"read\.bits=12"):
        decode_image(save(camera), "camera")


def test_the_depth_that_is_proposed_holds_bright_nerves():
    """A confocal image of 12 bits: 98 of 100 pixels would fit into 8."""
    camera = np.full((80, 100), 150, np.uint16)
    camera[::80, 10:30] = 3_700
    with pytest.raises(ImageError, match=r"only 3700 of 65535.*read\.bits=12"):
        decode_image(tiff(camera), "camera")
    assert decode_image(tiff(camera), "camera", ReadSettings(bits=12)).pixels.max() == 231
    camera[0, 0] = 60_000
    said = "98% of its values are at most 150 of 65535, and the largest is 60000"
    with pytest.raises(ImageError, match=rf"{said}.*read\.bits=16"):
        decode_image(tiff(camera), "camera")
    assert decode_image(tiff(camera), "camera", ReadSettings(bits=16)).pixels[0, 0, 0] == 234


def test_what_a_file_declares_counts_more_than_the_setting():
    values = np.array([[0, 512, 1023]], np.uint16)
    declared = tiff(values, description=ome_xml('SignificantBits="10"'))
    for bits in (None, 12):
        read = decode_image(declared, "image", ReadSettings(bits=bits))
        assert read.pixels[0, :, 0].tolist() == [0, 128, 255]
    wrong = tiff(values * 4, description=ome_xml('SignificantBits="10"'))
    read = decode_image(wrong, "image", ReadSettings(bits=12))
    assert read.pixels[0, :, 0].tolist() == [0, 128, 255]


def test_values_beyond_the_depth_are_refused_not_made_white():
    deep = np.linspace(0, 65_535, 200).astype(np.uint16).reshape(10, 20)
    for data in (
        tiff(deep, extratags=[(281, 3, 1, 4095, True)]),
        tiff(deep, imagej=True, metadata={"min": 0.0, "max": 4095.0}),
    ):
        with pytest.raises(ImageError, match="more than 12 bits hold"):
            decode_image(data, "image")
    with pytest.raises(ImageError, match="more than 12 bits hold"):
        decode_image(tiff(deep), "image", ReadSettings(bits=12))


def test_alpha_is_composited_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = (255, 0, 51)
    expected = [[200, 0, 0], [255, 255, 255], [244, 204, 204]]
    assert pixels(png(rgba))[0].tolist() == expected
    assert (
        pixels(tiff(rgba, photometric="rgb", extrasamples=["unassalpha"]))[0].tolist() == expected
    )
    deep = tiff(rgba.astype(np.uint16) * 257, photometric="rgb", extrasamples=["unassalpha"])
    assert pixels(deep)[0].tolist() == expected


def test_premultiplied_alpha_is_not_multiplied_again():
    rgba = np.array([[[40, 0, 0, 51]]], np.uint8)
    data = tiff(rgba, photometric="rgb", extrasamples=["assocalpha"])
    assert pixels(data)[0, 0].tolist() == [244, 204, 204]


def test_grey_with_alpha_and_transparent_grey():
    layer = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert pixels(png(layer))[0, :, 0].tolist() == [10, 255]
    clear = raw_png(2, 1, 16, 0, raw_rows(np.array([[0x8000, 512]], np.uint16)), b"tRNS\x02\x00")
    assert pixels(clear)[0, :, 0].tolist() == [128, 255]


def test_palettes_are_looked_up():
    image = Pillow.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9])
    expected = [[10, 20, 30], [200, 100, 0], [7, 8, 9]]
    assert pixels(saved(image, "PNG"))[0].tolist() == expected
    assert pixels(saved(image, "TIFF"))[0].tolist() == expected
    clear = saved(image, "PNG", transparency=1)
    assert pixels(clear)[0].tolist() == [expected[0], [255, 255, 255], expected[2]]


def test_bilevel_and_inverted_grey():
    assert pixels(raw_png(4, 1, 2, 0, b"\0\x1b"))[0, :, 0].tolist() == [0, 85, 170, 255]
    bits = np.array([[0, 1, 1, 0]], bool)
    assert pixels(png(bits))[0, :, 0].tolist() == [0, 255, 255, 0]
    assert pixels(tiff(bits, photometric="minisblack"))[0, :, 0].tolist() == [0, 255, 255, 0]
    assert pixels(tiff(bits, photometric="miniswhite"))[0, :, 0].tolist() == [255, 0, 0, 255]
    inverted = tiff(GREY, photometric="miniswhite")
    assert np.array_equal(pixels(inverted), 255 - THREE_GREY)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind):
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 1] = 255  # magenta
    options = {"quality": 100} if kind == "JPEG" else {}
    data = saved(Pillow.fromarray(ink, "CMYK"), kind, **options)
    assert np.abs(pixels(data)[8, 8].astype(int) - [255, 0, 255]).max() <= 3


def test_jpeg_equals_pillow():
    data = saved(Pillow.fromarray(RGB), "JPEG")
    assert np.array_equal(pixels(data), np.array(Pillow.open(io.BytesIO(data))))
    inside_tiff = tiff(np.tile(RGB[:1, :1], (16, 16, 1)), photometric="rgb", compression="jpeg")
    assert np.abs(pixels(inside_tiff)[8, 8].astype(int) - RGB[0, 0]).max() <= 4


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_is_applied(orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    upright = TURNS[orientation](RGB)
    assert np.array_equal(pixels(png(RGB, exif=exif)), upright)
    assert np.array_equal(pixels(tiff(RGB, extratags=[(274, 3, 1, orientation, True)])), upright)
    blocks = np.kron(np.array([[0, 255, 255], [0, 0, 255]], np.uint8), np.ones((16, 16), np.uint8))
    data = saved(Pillow.fromarray(blocks), "JPEG", exif=exif, quality=100)
    turned = pixels(data)[..., 0].astype(int)
    assert np.abs(turned - TURNS[orientation](blocks)).max() <= 2


def ome_xml(pixels_attributes: str, planes: str = 'SizeC="1" SizeZ="1" SizeT="1"') -> str:
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return (
        f'<?xml version="1.0"?><OME xmlns="{space}"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" {planes} {pixels_attributes}></Pixels></Image></OME>'
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (20000, 20000), "resolutionunit": "NONE"}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (96, 96), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1200, 1200), "resolutionunit": "INCH"}, None),
        ({"resolution": (1300, 1300), "resolutionunit": "INCH"}, 25400 / 1300),
        ({}, None),
    ],
)
def test_scale_of_tiff_tags(options, expected):
    assert scale(tiff(RGB, **options)) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.25"', 0.25),
        ('PhysicalSizeX="250" PhysicalSizeXUnit="nm"', 0.25),
        ('PhysicalSizeX="0.00025" PhysicalSizeXUnit="mm"', 0.25),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel"', 0.5),
        ('PhysicalSizeX="352.8" PhysicalSizeY="352.8"', None),
    ],
)
def test_ome_overrides_the_tags(attributes, expected):
    options = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    data = tiff(RGB, description=ome_xml(attributes), **options)
    assert scale(data) == (None if expected is None else pytest.approx(expected))


def test_imagej_gives_its_unit_as_a_word():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    assert scale(buffer.getvalue()) == pytest.approx(0.25)


def test_scale_of_png_and_jpeg():
    assert scale(png(RGB, dpi=(50800, 50800))) == pytest.approx(0.5)
    assert scale(png(RGB, dpi=(96, 96))) is None
    assert scale(png(RGB)) is None
    assert scale(raw_png(7, 5, 8, 2, raw_rows(RGB), b"pHYs" + struct.pack(">IIB", 9, 9, 0))) is None
    assert scale(saved(Pillow.fromarray(RGB), "JPEG", dpi=(50800, 50800))) == pytest.approx(0.5)
    assert scale(saved(Pillow.fromarray(RGB), "JPEG", dpi=(72, 72))) is None


def test_pixels_that_are_not_square_are_refused():
    with pytest.raises(ImageError, match="not square"):
        decode_image(tiff(RGB, description=ome_xml('PhysicalSizeX="1" PhysicalSizeY="2"')), "x")


def test_a_pyramid_gives_its_largest_level():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, ome=True) as writer:
        big = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
        writer.write(big, subifds=1, photometric="rgb", metadata={"axes": "YXS"})
        writer.write(big[::2, ::2], subfiletype=1, photometric="rgb")
    assert np.array_equal(pixels(buffer.getvalue()), big)
    flat = io.BytesIO()
    with tifffile.TiffWriter(flat) as writer:
        writer.write(big, photometric="rgb")
        writer.write(big[::2, ::2], subfiletype=1, photometric="rgb")
    assert np.array_equal(pixels(flat.getvalue()), big)


def test_three_ome_channels_are_red_green_blue():
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.moveaxis(RGB, 2, 0), ome=True, photometric="minisblack", metadata={"axes": "CYX"}
    )
    assert np.array_equal(pixels(buffer.getvalue()), RGB)


@pytest.mark.parametrize("kind", [{"imagej": True}, {"ome": True, "metadata": {"axes": "ZYX"}}, {}])
def test_stacks_are_refused_with_a_remedy(kind):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((4, 8, 8), np.uint8), photometric="minisblack", **kind)
    with pytest.raises(ImageError, match=r"contains 4 images.*flatten"):
        decode_image(buffer.getvalue(), "stack.tif")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_other_sample_types_are_refused(dtype):
    with pytest.raises(ImageError, match="export it as 8-bit"):
        decode_image(tiff(np.zeros((4, 4), dtype)), "deep.tif")


def test_source_and_hash_are_kept(tmp_path: Path):
    path = tmp_path / "a.dat"  # the name's ending is of no importance
    path.write_bytes(png(RGB))
    image = read_image(path)
    assert image.source == str(path)
    assert image.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(image.pixels, RGB)


def mask_of(tmp_path: Path, data: bytes) -> list[int]:
    path = tmp_path / "mask"
    path.write_bytes(data)
    mask = read_mask(path, ReadSettings())
    assert mask.dtype == bool
    return mask.astype(int).ravel().tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255], [0, 1]),
        ([0, 1], [0, 1]),
        ([1, 2], [0, 1]),
        ([0, 0], [0, 0]),
        ([1, 1], [1, 1]),
        ([255, 255], [1, 1]),
        # Soft edges, of more levels than classes would have.
        (
            [*[0] * 40, 30, 60, 90, 110, 127, 128, 150, 200, *[255] * 20],
            [*[0] * 45, *[1] * 23],
        ),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mask_values(tmp_path, values, expected, dtype):
    array = np.array([values], dtype)
    if dtype == np.uint16 and len(values) > 2:
        array = array * 257  # full range; low values are kept low on purpose
    assert mask_of(tmp_path, png(array)) == expected
    assert mask_of(tmp_path, tiff(array)) == expected


def test_white_is_zero_masks_count_as_stored(tmp_path):
    assert mask_of(tmp_path, tiff(np.array([[0, 1, 1]], bool), photometric="miniswhite")) == [
        0,
        1,
        1,
    ]


def test_a_map_of_classes_is_not_a_mask(tmp_path):
    with pytest.raises(LabelError, match=r"4 values \(0, 1, 2, 3\).*export one class"):
        mask_of(tmp_path, png(np.array([[0, 1, 2, 3]], np.uint8)))


def test_masks_in_colour_and_palette(tmp_path):
    red = np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)
    assert mask_of(tmp_path, png(red)) == [1, 0]
    image = Pillow.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    assert mask_of(tmp_path, saved(image, "PNG")) == [0, 1]


def test_a_transparent_layer_is_foreground_where_opaque(tmp_path):
    black = np.zeros((1, 3, 4), np.uint8)
    black[0, 1, 3] = 255
    assert mask_of(tmp_path, png(black)) == [0, 1, 0]
    two = black.copy()
    two[0, 2] = 255  # a white pixel drawn over a black ground, the first one clear
    assert mask_of(tmp_path, png(two)) == [0, 0, 1]
    assert mask_of(tmp_path, png(np.zeros((1, 3, 4), np.uint8))) == [0, 0, 0]


def test_jpeg_rims_do_not_reach_the_mask(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    path = tmp_path / "mask.jpg"
    path.write_bytes(saved(Pillow.fromarray(mask), "JPEG", quality=60))
    assert np.array_equal(read_mask(path), mask > 0)
    path.write_bytes(saved(Pillow.fromarray(np.full((16, 16), 3, np.uint8)), "JPEG"))
    assert not read_mask(path).any()


def test_a_mask_that_cannot_be_read_is_a_label_error(tmp_path):
    with pytest.raises(LabelError, match=r"gone\.png: no such file: correct the path"):
        read_mask(tmp_path / "gone.png")


@pytest.mark.real_data
def test_real_masks_and_images(real_data):
    for mask in sorted((real_data / "abd_skin/masks").iterdir())[:5]:
        share = read_mask(mask).mean()
        assert 0.05 < share < 0.99
    for image in sorted((real_data / "drive").rglob("*.*"))[:5]:
        if image.suffix in (".png", ".jpg", ".tif"):
            assert read_image(image).pixels.shape[0] > 100
