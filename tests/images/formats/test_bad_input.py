"""Files that are not what they should be: each refused as a whole, with file, reason, remedy."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.errors import ImageError
from skinray.images.read import decode_image, read_image

SMALL = ReadSettings(max_pixels=20_000)


@cache
def photo() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


@cache
def sound_files() -> dict[str, bytes]:
    """One small valid file of each kind."""
    files = {}
    for kind, options in {
        "png": {"format": "PNG"},
        "jpeg": {"format": "JPEG", "quality": 90},
        "progressive": {"format": "JPEG", "progressive": True},
        "tiff-pil": {"format": "TIFF", "dpi": (300, 300)},
    }.items():
        buffer = io.BytesIO()
        Pillow.fromarray(photo()).save(buffer, **options)
        files[kind] = buffer.getvalue()
    for compression in ("none", "lzw", "zlib", "packbits", "jpeg"):
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer, photo(), photometric="rgb", compression=compression, rowsperstrip=16
        )
        files[f"tiff-{compression}"] = buffer.getvalue()
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, photo(), ome=True, photometric="rgb", tile=(16, 16))
    files["ome"] = buffer.getvalue()
    return files


KINDS = tuple(sound_files())


def refused(data: bytes, source: str = "case.png") -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, source, SMALL)
    message = str(caught.value)
    assert message.startswith(f"{source}: ")
    assert message.count(": ") >= 2  # file: reason: remedy
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_the_sound_files_are_sound(kind):
    assert decode_image(sound_files()[kind], kind, SMALL).pixels.shape == (48, 40, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_refused(kind):
    data = sound_files()[kind]
    lengths = {*range(0, len(data), max(1, len(data) // 150)), *range(len(data) - 8, len(data))}
    for length in sorted(lengths):
        try:
            image = decode_image(data[:length], kind, SMALL)
        except ImageError:
            continue
        # What a file may lose is what stands after its pixels (an OME footer, padding).
        assert np.array_equal(image.pixels, decode_image(data, kind, SMALL).pixels), length
        assert kind in ("ome", "tiff-pil"), length


@pytest.mark.parametrize("kind", ["jpeg", "progressive"])
def test_a_jpeg_padded_to_its_length_is_refused(kind):
    data = sound_files()[kind]
    assert "truncated JPEG" in refused(data[:-100] + bytes(100))


def test_every_changed_byte_of_a_png_is_noticed():
    data = sound_files()["png"]
    for at in range(8, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 0x10
        refused(bytes(changed))


def test_no_image_at_all(tmp_path):
    assert "the file is empty" in refused(b"")
    assert "not a PNG, JPEG or TIFF image" in refused(b"image,subject\n1.png,7\n")
    assert "not a PNG, JPEG or TIFF image" in refused(b"GIF89a" + bytes(100))
    assert "without an image" in refused(b"II*\0" + bytes(100), "case.tif")
    assert "frame header" in refused(b"\xff\xd8\xff" + bytes(100), "case.jpg")
    for path, reason in ((tmp_path / "no.png", "no such file"), (tmp_path, "not a file")):
        with pytest.raises(ImageError, match=f"{path}: {reason}: "):
            read_image(path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / ("n" * 300))


def test_a_pipe_is_not_an_image_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a file"):
        read_image(tmp_path / "pipe.png")


def test_a_file_far_too_large_is_not_even_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(bytes(SMALL.max_pixels * 16 + (1 << 20) + 1))
    with pytest.raises(ImageError, match="too large for an image within the limit"):
        read_image(path, SMALL)


def test_an_animated_png():
    buffer = io.BytesIO()
    frames = [Pillow.fromarray(photo()), Pillow.fromarray(photo()[::-1])]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    assert "animated" in refused(buffer.getvalue())


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb_png(side: int) -> bytes:
    """A one-bit image of side x side: 400 megapixels in 49 kB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bomb_tiff() -> bytes:
    """A header that states 400 megapixels over a few bytes."""
    data = bytearray(sound_files()["tiff-zlib"])
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        tags = tiff.pages[0].tags
        for name in ("ImageWidth", "ImageLength"):
            struct.pack_into("<I", data, tags[name].valueoffset, 20_000)
    return bytes(data)


def bomb_jpeg() -> bytes:
    data = bytearray(sound_files()["jpeg"])
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, 20_000, 20_000)
    return bytes(data)


@pytest.mark.parametrize("bomb", [lambda: bomb_png(20_000), bomb_tiff, bomb_jpeg])
def test_bombs_are_refused_from_their_header(bomb):
    with pytest.raises(ImageError, match=r"20000x20000 is 400 megapixels.*raise read.max_pixels"):
        decode_image(bomb(), "bomb")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_bomb_takes_little_memory(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb_png(20_000))
    assert path.stat().st_size < 60_000
    # VmHWM, not ru_maxrss: that of a child starts with the memory of the parent it came from.
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from skinray.errors import ImageError\n"
        "from skinray.images.read import read_image\n"
        "try:\n"
        "    read_image(Path(sys.argv[1]))\n"
        "except ImageError:\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert 0 < int(run.stdout) < 300_000


def test_a_jpeg_tile_larger_than_its_page_is_refused():
    small, large = photo()[:16, :16], np.tile(photo()[:16, :16], (4, 4, 1))
    buffer, inner = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(buffer, small, photometric="rgb", compression="jpeg")
    Pillow.fromarray(large).save(inner, "JPEG")
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        tags = tiff.pages[0].tags
        struct.pack_into("<I", data, tags["StripOffsets"].valueoffset, len(data))
        width = {3: "<H", 4: "<I"}[int(tags["StripByteCounts"].dtype)]
        struct.pack_into(width, data, tags["StripByteCounts"].valueoffset, len(inner.getvalue()))
    assert "larger than its page" in refused(bytes(data) + inner.getvalue(), "tile.tif")


def test_a_circular_chain_of_pages_is_refused():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(3):
            writer.write(photo(), photometric="rgb", metadata=None)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        second, third = (tiff.pages[index].offset for index in (1, 2))
    entries = struct.unpack_from("<H", data, third)[0]
    struct.pack_into("<I", data, third + 2 + 12 * entries, second)
    assert "a circular chain" in refused(bytes(data), "ring.tif")


def test_ome_xml_cannot_expand_or_reach_outside():
    evil = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><OME>&b;</OME>'
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, photo(), description=evil, metadata=None, photometric="rgb")
    assert "document type" in refused(buffer.getvalue(), "evil.ome.tif")


@pytest.mark.parametrize("compression", ["zstd", "webp", "lzma"])
def test_unusual_compressions_are_refused(compression):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, photo(), photometric="rgb", compression=compression)
    assert f"TIFF compression {compression.upper()}" in refused(buffer.getvalue(), "odd.tif")


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_mutated_files_are_decoded_or_refused(kind, data):
    """Whatever the bytes, the only error is ImageError (here: nothing else comes through)."""
    file = bytearray(sound_files()[kind])
    # Mostly the header and the directory: there lie the fields that steer a decoder.
    places = st.one_of(
        st.integers(0, min(400, len(file) - 1)),
        st.integers(max(0, len(file) - 400), len(file) - 1),
        st.integers(0, len(file) - 1),
    )
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        file[at] = value
    file = file[: data.draw(st.integers(0, len(file)))] if data.draw(st.booleans()) else file
    try:
        image = decode_image(bytes(file), kind, SMALL)
    except ImageError:
        return
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape[2] == 3
    assert image.pixels.shape[0] * image.pixels.shape[1] <= SMALL.max_pixels


@settings(max_examples=100, deadline=None)
@given(
    magic=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0+"]),
    rest=st.binary(max_size=300),
)
def test_random_bytes_behind_a_magic_number_are_refused(magic, rest):
    refused(magic + rest)
