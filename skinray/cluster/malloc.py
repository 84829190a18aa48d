"""Let a process that works on image after image reuse its memory instead of fetching it anew."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
KEPT_BYTES = 1 << 30
_GROWTH_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Keep up to a gibibyte that is freed, for the next image; False where malloc is not glibc's.

    glibc gives large blocks back to the kernel at once, in threads beside the first one above
    all, and the kernel zeroes each page anew when it is touched again: without this, a network
    of 15 million weights spends a fifth of its time on a CPU so (docs/decisions/0025).
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
