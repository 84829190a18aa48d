"""Keep what decoders say of a file out of the logs: they quote tags, and tags tell of people."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Each by its own name: a filter does not hold for the loggers below its own.
LOGGERS = (
    "tifffile",
    "PIL.Image",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
)


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
