"""Ways to corrupt a valid file: bits, lengths, headers, chunks, and words of a text."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

PNG = b"\x89PNG\r\n\x1a\n"
# Where counters turn over, and what parsers take for "none".
NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    b"1e999", b"-1e999", b"NaN", b"Infinity", b"-0", b"1e-400", b"9" * 400, b"0x10", b"null",
    b"true", b'""', b"[]", b"{}", b"[" * 3000, b'{"a":' * 3000, b"\x00", b"\xff\xfe",
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"../../etc/passwd", b"/etc/passwd", b"=1+1", b"<script>",
    b"\r\n", b'"', b"\\", b";", b"\t", b"a" * 5000,
    "ä\u202e\U0001f600".encode(), b"-5", b"1.5", b"1,5", b"top", b"0,0", b"1e3,1e3", b"nan,nan",
)  # fmt: skip
Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]


def flip(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Turn some bits round."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if out:
            out[_place(rng, len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Put numbers at limits where headers have their sizes and offsets."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        size = rng.choice((1, 2, 4, 4))
        if len(out) > size:
            at = _place(rng, len(out) - size)
            number = (rng.choice(NUMBERS) + rng.choice((0, 0, -1, 1))) % (1 << 8 * size)
            out[at : at + size] = number.to_bytes(size, rng.choice(("big", "little")))
    return bytes(out)


def truncate(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Break off."""
    return data[: rng.randrange(len(data) + 1)]


def cut(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Take a piece out."""
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def repeat(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Write a piece twice."""
    start, end = _span(rng, data)
    return data[:end] + data[start:]


def splice(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Go on as another file does, or take a piece of it in."""
    other = rng.choice(others)
    start, end = _span(rng, other)
    at = rng.randrange(len(data) + 1)
    tail = data[at + rng.choice((0, end - start)) :]
    return data[:at] + (other[start:] if rng.random() < 0.3 else other[start:end] + tail)


def insert(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Put bytes of chance, or many of one kind, in between."""
    at = rng.randrange(len(data) + 1)
    some = rng.randbytes(rng.choice((1, 4, 60))) if rng.random() < 0.7 else b"\0" * 5000
    return data[:at] + some + data[at:]


BYTES: tuple[Mutation, ...] = (
    flip,
    flip,
    overwrite,
    overwrite,
    truncate,
    cut,
    repeat,
    splice,
    insert,
)


def png_chunks(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Corrupt chunks and correct their checksums, so that the code behind the check is reached."""
    chunks = split_png(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not chunks:
            break
        at = rng.randrange(len(chunks))
        kind, body = chunks[at]
        act = rng.randrange(6)
        if act == 0:
            del chunks[at]
        elif act == 1:
            chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
        elif act == 2:
            chunks.insert(at, rng.choice(split_png(rng.choice(others)) or chunks))
        elif act == 3:
            kind = rng.choice(
                (b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"eXIf", b"gAMA", b"pHYs", b"acTL")
            )
            chunks.insert(at, (kind, rng.randbytes(rng.choice((0, 1, 9, 40)))))
        else:
            chunks[at] = kind, rng.choice((flip, overwrite, truncate))(rng, body, others)
    return PNG + b"".join(png_chunk(kind, body) for kind, body in chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def split_png(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return (kind, body) of the chunks of a valid PNG; none for other files."""
    found, at = [], len(PNG)
    while data.startswith(PNG) and at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def tiff_entries(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Spoil tag, type, count or value of entries of the first directory."""
    out, order = bytearray(data), "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        return overwrite(rng, data, others)
    (offset,) = struct.unpack_from(order + "I", data, 4)
    if offset + 2 > len(data) or data[2:4] not in (b"*\0", b"\0*"):
        return overwrite(rng, data, others)
    (count,) = struct.unpack_from(order + "H", data, offset)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = offset + 2 + 12 * rng.randrange(max(1, count))
        part, size = rng.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 2)))
        if at + 12 <= len(out):
            number = rng.choice(
                (*NUMBERS, 254, 256, 257, 258, 259, 262, 273, 277, 279, 317, 320, 322)
            )
            small = number % (1 << 8 * size)
            out[at + part : at + part + size] = small.to_bytes(
                size, "little" if order == "<" else "big"
            )
    return bytes(out)


def words(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Put other words, numbers and signs in the place of a text's own."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        tokens = list(re.finditer(rb'"[^"]*"|-?[\d.]+|[\w./]+|[\[\]{}:,;]', data))
        if not tokens:
            break
        one = rng.choice(tokens)
        new = rng.choice(WORDS) if rng.random() < 0.7 else rng.choice(tokens)[0]
        end = one.end() if rng.random() < 0.8 else one.start()
        data = data[: one.start()] + new + data[end:]
    return data


KINDS: dict[str, tuple[Mutation, ...]] = {
    "bytes": BYTES,
    "png": (*BYTES, *(png_chunks,) * 6),
    "tiff": (*BYTES, *(tiff_entries,) * 6),
    "text": (*BYTES, *(words,) * 9),
}


def mutate(rng: Random, data: bytes, others: Sequence[bytes], kind: str) -> tuple[bytes, list[str]]:
    """Return a corrupted file and the names of what was done to it."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        one = rng.choice(KINDS[kind])
        data = one(rng, data, others)
        done.append(one.__name__)
    return data, done


def _place(rng: Random, length: int) -> int:
    """Mostly in the first or last 200 bytes, which control a decoder."""
    near = min(200, length)
    return rng.choice(
        (rng.randrange(near), length - 1 - rng.randrange(near), rng.randrange(length))
    )


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 4, 12, 64, 500)))
