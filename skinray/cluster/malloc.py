"""Let a process that works on image after image reuse its memory."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
KEPT_BYTES = 1 << 30
_GROWTH_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Keep up to a gibibyte of freed memory for the next image; False if malloc is not glibc's.

    glibc returns large blocks to the kernel at once, above all in threads other than the first,
    and the kernel zeroes each page again when it is next touched. Without this, a network of 15
    million weights spends a fifth of its time on a CPU that way (docs/decisions/0025).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {
        _M_ARENA_MAX: 1,
        _M_MMAP_MAX: 0,
        _M_TRIM_THRESHOLD: KEPT_BYTES,
        _M_TOP_PAD: _GROWTH_BYTES,
    }
    results = [mallopt(name, value) for name, value in settings.items()]
    return results == [1] * len(settings)
