"""A wall clock that jumps back; Python loads this file at its start if the folder is on the path.

From the moment ``CHAOS_JUMP_AT`` (true seconds since 1970) on, every process subtracts
``CHAOS_JUMP_S`` from its time of day, like a clock that is corrected while programs run.
"""

import os
import time

_time, _localtime, _strftime = time.time, time.localtime, time.strftime
_at, _by = float(os.environ["CHAOS_JUMP_AT"]), float(os.environ["CHAOS_JUMP_S"])


def _now():
    now = _time()
    return now - _by if now >= _at else now


time.time = _now
time.time_ns = lambda: int(_now() * 1e9)
time.localtime = lambda seconds=None: _localtime(_now() if seconds is None else seconds)
time.strftime = lambda form, at=None: _strftime(form, time.localtime() if at is None else at)
