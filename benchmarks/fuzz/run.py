"""Fuzz every decoder and parser: corrupted files must give a valid result or a plain error.

    python -m benchmarks.fuzz.run --cases 100000            # `make fuzz`
    python -m benchmarks.fuzz.run --cases 500 --only tiff   # one parser
    python -m benchmarks.fuzz.run --case tiff/0/17 --keep findings   # repeat one case

A finding is any other exception, a crash of the process, more than 64 MiB for a case, or ten
seconds of computing. Each case follows from its name: target, seed, number. Exit code 1 if there is
a finding.
"""

from __future__ import annotations

import argparse
import json
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz import lost_pixels, weights  # noqa: F401  (they add their targets)
from benchmarks.fuzz.targets import TARGETS
from benchmarks.fuzz.worker import MOST_CPU_S, case

WAIT_S = 120.0  # for a case that does nothing; the worker itself ends one that computes
START_S = 300.0  # imports, and the valid files
ROOT = Path(__file__).parents[2]
WORKER = ("-m", "benchmarks.fuzz.worker")


@dataclass
class Tally:
    """What the cases of one target came to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many were run."""
        return sum(self.outcomes.values())


def fuzz(name: str, seed: int, first: int, last: int, tally: Tally) -> None:
    """Run cases in workers; after a crash or a hang, the next worker continues after that case."""
    while first < last:
        first = _one_worker(name, seed, first, last, tally)


def _one_worker(name: str, seed: int, first: int, last: int, tally: Tally) -> int:
    """Return the case to continue with."""
    command = [sys.executable, *WORKER, name, str(seed), str(first), str(last)]
    at: int | None = None
    found = 0
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as worker:
        for line in _lines(worker):
            mark, _, rest = line.partition(" ")
            if mark == ">":
                at = int(rest)
            elif mark == "!":
                number, _, facts = rest.partition(" ")
                tally.findings.append(f"{name}/{seed}/{number} {json.loads(facts)}")
                found += 1
            elif mark == "=":
                tally.outcomes.update(json.loads(rest))
                return last
        hung = worker.poll() is None
        worker.kill()
        said = worker.stderr.read().decode(errors="replace")[-1000:] if worker.stderr else ""
    if at is None:
        raise RuntimeError(f"{name}: the worker did not start: {said}")
    word = f"no end within {WAIT_S:.0f} s" if hung else _death(worker.returncode, said)
    tally.findings.append(f"{name}/{seed}/{at} {word}")
    # Those before it ended well, but whether by an answer or a refusal died with the worker.
    tally.outcomes.update({"finding": found + 1, "before a death": at - first - found})
    return at + 1


def _death(code: int, said: str) -> str:
    if code == -signal.SIGPROF:
        return f"computed for more than {MOST_CPU_S:.0f} s"
    return f"died with {code}: {said}"


def _lines(worker: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield lines as they come; ends with the worker, or when it says nothing for too long."""
    assert worker.stdout is not None  # noqa: S101 - piped
    patience, rest = START_S, b""
    with selectors.DefaultSelector() as waiting:
        waiting.register(worker.stdout, selectors.EVENT_READ)
        while waiting.select(patience):
            data = worker.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not data:
                worker.wait()
                return
            patience = WAIT_S
            *whole, rest = (rest + data).split(b"\n")
            yield from (line.decode() for line in whole)


def main() -> int:
    """Run, print a line for each target, and a table at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1200, help="over all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of each target's first case")
    parser.add_argument("--only", nargs="*", choices=[*TARGETS], default=[*TARGETS])
    parser.add_argument("--case", help="TARGET/SEED/NUMBER: one case again")
    parser.add_argument("--keep", type=Path, help="folder to write the files of findings to")
    chosen = parser.parse_args()
    if chosen.case:
        name, seed, number = chosen.case.split("/")
        chosen.only, chosen.seed, chosen.first, chosen.cases = [name], int(seed), int(number), 1
    each = -(-chosen.cases // len(chosen.only))
    total = 0
    for name in chosen.only:
        tally, began = Tally(), time.monotonic()
        fuzz(name, chosen.seed, chosen.first, chosen.first + each, tally)
        total += len(tally.findings)
        took = time.monotonic() - began
        print(f"{name}: {tally.cases} cases in {took:.0f} s: {dict(tally.outcomes)}", flush=True)
        for finding in tally.findings:
            print(f"  FOUND {finding}", flush=True)
            if chosen.keep:
                keep(chosen.keep, finding)
    return 1 if total else 0


def keep(folder: Path, finding: str) -> None:
    """Write the file of a finding as ``TARGET-SEED-NUMBER``; a target's name may have spaces."""
    target, seed, rest = finding.split("/", 2)
    number = rest.partition(" ")[0]
    folder.mkdir(parents=True, exist_ok=True)
    data, _ = case(target, int(seed), int(number))
    (folder / f"{target}-{seed}-{number}").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
