"""Loaded by Python at its start where this folder is on the path: a wall clock that jumps back.

Every process takes ``CHAOS_JUMP_S`` off its time of day from the moment ``CHAOS_JUMP_AT`` (true
seconds since 1970) on, as a clock does that is set right while programs run.
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
