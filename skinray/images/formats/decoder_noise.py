"""Keep decoders' messages out of logs and errors: they quote tags, and tags may name people."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import UnidentifiedImageError

# Each by its own name: a logger's filter does not apply to the loggers below it.
LOGGERS = (
    "tifffile",
    "PIL.Image",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
)

# The first match counts; codecs of compressed pixels raise exceptions of their own types.
_MEANT: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((UnidentifiedImageError,), "invalid header"),
    ((struct.error, IndexError, EOFError), "part of it is missing"),
    ((OSError,), "its pixels are truncated or invalid"),
    (
        (ValueError, TypeError, KeyError, SyntaxError),
        "its header does not match its pixels",
    ),
)


def meaning_of(error: Exception) -> str:
    """Return our own words for a decoder's error, whose message may quote the file."""
    for kinds, meaning in _MEANT:
        if isinstance(error, kinds):
            return meaning
    return f"its pixels are invalid, {type(error).__name__}"


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silence the decoders' loggers in this thread; damage still raises ImageError."""
    thread = threading.get_ident()

    def other_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(other_thread)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(other_thread)
