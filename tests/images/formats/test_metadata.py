"""What a photograph says of itself may be odd or broken: its pixels stand, its words are not told.

A program wrote a name where the orientation belongs, and a decoder quotes it in its error: that
error is in no answer, table or log.
"""

from __future__ import annotations

import io
import struct
import traceback
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from skinray.errors import ImageError
from skinray.images.formats.raster import orientation_of
from skinray.images.read import decode_image
from tests.images.test_read import DEEP, RGB, TURNS, ome_xml, pixels, raw_png, saved, tiff

CANARY = "CANARY-GPS-4711"
ASCII, SHORT, LONG, RATIONAL = 2, 3, 4, 5
ORIENTATION = 274


def directory(tag: int, kind: int, count: int, value: bytes) -> bytes:
    """One tag in the form of TIFF, as EXIF holds it; the canary stands behind it in any case."""
    inline = len(value) <= 4
    stored = value.ljust(4, b"\0") if inline else struct.pack("<I", 26)
    entry = struct.pack("<HHI", tag, kind, count) + stored
    behind = (b"" if inline else value) + CANARY.encode()
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4) + behind


NOT_1_TO_8 = {
    "a name": (ASCII, len(CANARY) + 1, CANARY.encode() + b"\0"),
    "a digit in words": (ASCII, 2, b"6\0"),
    "0": (SHORT, 1, struct.pack("<H", 0)),
    "9": (SHORT, 1, struct.pack("<H", 9)),
    "six wholes": (RATIONAL, 1, struct.pack("<II", 6, 1)),
    "a large number": (LONG, 1, struct.pack("<I", 65536 + 6)),
}
BROKEN = {
    "no directory": CANARY.encode(),
    "cut off": directory(ORIENTATION, *NOT_1_TO_8["a name"])[:20],
    "value beyond its end": directory(ORIENTATION, ASCII, 9999, CANARY.encode()),
    "unknown kind": directory(ORIENTATION, 99, 1, CANARY.encode()),
    "more tags than there are": b"II*\0" + struct.pack("<IH", 8, 65535) + CANARY.encode(),
    "directory beyond its end": b"MM\0*" + struct.pack(">I", 4_000_000_000) + CANARY.encode(),
    "nothing": b"",
}


@pytest.fixture(autouse=True)
def nothing_told(caplog, capfd):
    """No log, warning or line of output has the canary."""
    caplog.set_level(1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    told = [record.getMessage() for record in caplog.records if record.name.startswith("skinray")]
    told += [str(one.message) for one in warned] + list(capfd.readouterr())
    assert [text for text in told if "canary" in text.lower()] == []


def blocks() -> np.ndarray:
    """A photograph that JPEG keeps to a level or two."""
    return np.kron(np.array([[0, 255, 255], [0, 0, 255]], np.uint8), np.ones((16, 16), np.uint8))


def with_exif(kind: str, exif: bytes) -> tuple[bytes, np.ndarray, int]:
    """A photograph with this EXIF, the pixels it was written with, and how far off they may be."""
    written = Pillow.fromarray(RGB if kind == "PNG" else blocks())
    # Without a density in its header, Pillow looks for one in EXIF while it opens a JPEG.
    options = {"dpi": (72, 72)} if kind == "JPEG with density" else {}
    options |= {} if kind == "PNG" else {"quality": 100}
    data = saved(written, kind.split()[0], exif=b"Exif\0\0" + exif, **options)
    return data, np.array(written.convert("RGB")), 0 if kind == "PNG" else 2


KINDS = ("PNG", "JPEG", "JPEG with density")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stated", NOT_1_TO_8)
def test_an_invalid_orientation_leaves_a_photograph_as_it_is(kind, stated):
    data, expected, off = with_exif(kind, directory(ORIENTATION, *NOT_1_TO_8[stated]))
    assert CANARY.encode() in data
    found = pixels(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= off


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_orientation_turns_a_photograph(kind):
    """Else the test above would prove nothing."""
    data, expected, off = with_exif(kind, directory(ORIENTATION, SHORT, 1, struct.pack("<H", 6)))
    assert np.abs(pixels(data).astype(int) - TURNS[6](expected)).max() <= off


@pytest.mark.parametrize("stated", NOT_1_TO_8)
def test_an_invalid_orientation_leaves_a_tiff_as_it_is(stated):
    assert np.array_equal(pixels(with_entry(ORIENTATION, *NOT_1_TO_8[stated])), RGB)


def test_orientations_are_whole_numbers_from_1_to_8():
    assert [orientation_of(stated) for stated in range(-1, 10)] == [1, 1, *range(1, 9), 1]
    odd = (None, "6", b"\x06", 6.0, (6,), (6, 6), CANARY)
    assert {orientation_of(stated) for stated in odd} == {1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("broken", BROKEN)
def test_damaged_exif_does_not_spoil_a_photograph(kind, broken):
    data, expected, off = with_exif(kind, BROKEN[broken])
    found = pixels(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= off


def test_exif_as_old_programs_write_it_into_a_png():
    text = f"tEXtRaw profile type exif\0\nexif\n    {len(CANARY)}\n{CANARY}".encode("latin-1")
    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    assert np.array_equal(pixels(raw_png(7, 5, 8, 2, rows, text)), RGB)


def with_entry(tag: int, kind: int, count: int, value: bytes, of: bytes | None = None) -> bytes:
    """A TIFF whose entry of a tag is replaced; its value, if long, at the end of the file."""
    data = bytearray(of or tiff(RGB, photometric="rgb", extratags=[(ORIENTATION, 3, 1, 1, True)]))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    places = [first + 2 + 12 * at for at in range(entries)]
    (place,) = [at for at in places if struct.unpack_from("<H", data, at) == (tag,)]
    stored = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", len(data))
    data[place : place + 12] = struct.pack("<HHI", tag, kind, count) + stored
    return bytes(data) + (value if len(value) > 4 else b"") + CANARY.encode()


def tags_of(data: bytes) -> list[int]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return [tag.code for tag in file.pages[0].tags]


def outcome(data: bytes) -> str:
    """``sound``, or all that a trace of the error tells."""
    try:
        decode_image(data, "photograph")
    except ImageError as error:
        return "".join(traceback.format_exception(error))
    return "sound"


def test_a_tiff_with_text_for_numbers_is_read_or_refused_without_quoting_it():
    """Tag by tag: those that pixels hang on are refused, the others are passed over."""
    options = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    options |= {"extratags": [(ORIENTATION, 3, 1, 1, True), (281, 3, 1, 65535, True)]}
    whole = tiff(DEEP, photometric="rgb", compression="zlib", predictor=True, **options)
    words = (ASCII, len(CANARY) + 1, CANARY.encode() + b"\0")
    told = {tag: outcome(with_entry(tag, *words, of=whole)) for tag in tags_of(whole)}
    sound = {tag for tag, text in told.items() if text == "sound"}
    assert {ORIENTATION, 281, 282, 283, 296} <= sound
    assert {256, 257, 259, 262} <= told.keys() - sound
    assert [text for text in told.values() if "canary" in text.lower()] == []
    unscaled = decode_image(with_entry(282, *words, of=whole), "photograph")
    assert unscaled.um_per_px is None
    assert np.array_equal(unscaled.pixels, DEEP >> 8)
    assert decode_image(whole, "photograph").um_per_px == pytest.approx(0.5)


@pytest.mark.parametrize(
    "xml",
    [
        f"<OME><{CANARY}></OME>",
        f"<OME>&{CANARY};</OME>",
    ],
)
def test_invalid_ome_xml_is_refused_without_quoting_it(xml):
    told = outcome(tiff(RGB, description=xml))
    assert told != "sound"
    assert "canary" not in told.lower()
    assert "invalid OME-XML" in told or "damaged TIFF" in told


@pytest.mark.parametrize("nonsense", [CANARY, "", "0,5", "-1", "0", "nan", "12 px"])
@pytest.mark.parametrize("attribute", ["SizeC", "SizeZ", "SignificantBits", "PhysicalSizeX"])
def test_nonsense_in_ome_xml_is_unknown_not_damage(attribute, nonsense):
    others = 'SizeT="1" PhysicalSizeY="0.5"' if attribute == "PhysicalSizeX" else 'SizeT="1"'
    xml = ome_xml(f'{attribute}="{nonsense}"', others)
    image = decode_image(tiff(RGB, description=xml), "photograph")
    assert np.array_equal(image.pixels, RGB)
    assert image.um_per_px is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_damage_is_reported_without_quoting_the_file(kind):
    """Cut off anywhere, or changed: whatever the decoder says of it."""
    if kind == "TIFF":
        data = with_entry(ORIENTATION, *NOT_1_TO_8["a name"])
    else:
        data, *_ = with_exif(kind, directory(ORIENTATION, *NOT_1_TO_8["a name"]))
    told = {outcome(data[:at]) for at in range(8, len(data) - 24, 3)}
    for at in range(8, min(len(data), 300)):
        told.add(outcome(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]))
    assert len(told) >= 2  # a PNG's checksum finds every change
    assert [text for text in told if "canary" in text.lower()] == []


def test_damage_is_reported_in_helpful_words():
    jpeg = saved(Pillow.fromarray(np.tile(RGB, (20, 20, 1))), "JPEG")
    table = jpeg.index(b"\xff\xc4") + 5  # of Huffman codes: how many there are of each length
    zipped = bytearray(tiff(np.tile(RGB, (20, 20, 1)), photometric="rgb", compression="zlib"))
    zipped[-200:-100] = bytes(100)
    for data, reason in (
        (
            jpeg[:table] + b"\xff" * 16 + jpeg[table + 16 :],
            r"JPEG \(its pixels are truncated or invalid\)",
        ),
        (tiff(RGB, photometric="rgb")[:60], r"TIFF \(part of it is missing\)"),
        (bytes(zipped), r"TIFF \(its pixels are invalid, \w+Error\)"),
    ):
        with pytest.raises(ImageError, match=rf"{reason}: copy or export it again"):
            decode_image(data, "photograph")
