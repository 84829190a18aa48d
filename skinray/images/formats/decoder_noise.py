"""Keep decoders' own words out of logs and errors: they quote tags, and tags tell of people."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import UnidentifiedImageError

# Each by its own name: a filter does not hold for the loggers below its own.
LOGGERS = (
    "tifffile",
    "PIL.Image",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
)

# The first that fits; codecs of compressed pixels have error types of their own.
_MEANT: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((UnidentifiedImageError,), "its header is not sound"),
    ((struct.error, IndexError, EOFError), "a part of it is missing"),
    ((OSError,), "its pixels break off or are not sound"),
    (
        (ValueError, TypeError, KeyError, SyntaxError),
        "its header does not fit its pixels",
    ),
)


def meaning_of(error: Exception) -> str:
    """Say in our own words what a decoder met: its own words may quote the file."""
    for kinds, meaning in _MEANT:
        if isinstance(error, kinds):
            return meaning
    return f"its pixels are not sound, {type(error).__name__}"


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silence the decoders' loggers for this thread; damage is raised as ImageError anyway."""
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
