"""Runs cases in a separate process and reports each one; a parent watches it.

    python -m benchmarks.fuzz.worker TARGET SEED FIRST LAST

Prints a line for each case that it starts (``> NUMBER``), for each finding (``! NUMBER JSON``), and
at the end the tally (``= JSON``).
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from benchmarks.fuzz import lost_pixels, weights  # noqa: F401  (they add their targets)
from benchmarks.fuzz.mutations import mutate
from benchmarks.fuzz.targets import TARGETS, Target, seeds

# What one case may take beyond what the process had: the pixels allowed are 20,000.
MOST_MIB = 64
MOST_SPACE = 8 << 30
MOST_CPU_S = 10.0  # computing, not waiting: the machine may be shared


def case(name: str, seed: int, number: int) -> tuple[bytes, list[str]]:
    """Return the file of a case, and what was done to it: always the same."""
    rng = Random(f"{seed}/{name}/{number}")
    files = seeds(name)
    return mutate(rng, rng.choice(files), files, TARGETS[name].kind)


def judge(target: Target, data: bytes, folder: Path) -> tuple[str, str]:
    """Run one case: ``accepted``, ``refused``, or ``finding`` with what happened."""
    before = memory_mib(reset=True)
    try:
        target.run(data, folder)
        outcome, why = "accepted", ""
    except target.allowed as error:
        outcome, why = "refused", "" if str(error) else "an error without a message"
    except BaseException as error:  # everything else is a finding
        lines = traceback.format_exception(error)
        return "finding", f"{type(error).__name__}: {error}\n{''.join(lines[-4:])}"[:2000]
    grown = memory_mib() - before
    if grown > MOST_MIB:
        why = f"took {grown:.0f} MiB"
    return ("finding", why) if why else (outcome, "")


def warm(name: str, folder: Path) -> None:
    """Run the valid files once, so that what is loaded at first use is no case's memory."""
    for data in seeds(name):
        with suppress(*TARGETS[name].allowed):
            TARGETS[name].run(data, folder)


def memory_mib(reset: bool = False) -> float:
    """Return the most memory that was resident; ``reset`` starts again from the current value."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(name: str, seed: int, first: int, last: int) -> None:
    """Run cases ``first`` to before ``last``."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_SPACE, MOST_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        warm(name, Path(folder))
        for data in seeds(name):
            if judge(TARGETS[name], data, Path(folder))[0] == "finding":
                raise SystemExit("an intact file is a finding")
        for number in range(first, last):
            print(">", number, flush=True)
            data, done = case(name, seed, number)
            # When the time is up, the process is ended, whatever it does.
            signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
            outcome, why = judge(TARGETS[name], data, Path(folder))
            tally[outcome] += 1
            if outcome == "finding":
                print("!", number, json.dumps({"how": done, "why": why}), flush=True)
    print("=", json.dumps(tally), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *(int(value) for value in sys.argv[2:5]))
