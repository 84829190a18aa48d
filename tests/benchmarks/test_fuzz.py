"""The short form of `make fuzz`: some cases of every target, old findings, and the harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz import lost_pixels, weights  # noqa: F401  (they add their targets)
from benchmarks.fuzz import run as fuzz
from benchmarks.fuzz.mutations import KINDS, mutate, png_chunk, split_png
from benchmarks.fuzz.targets import TARGETS, GarbageError, Target, png_files, run_image, seeds
from benchmarks.fuzz.worker import case, judge, warm
from skinray.errors import ImageError

FOUND = Path(__file__).parent / "fuzz"  # TARGET-WHAT: what was wrong once
CASES = {name: 60 if name == "request" else 150 for name in TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_corrupted_files_give_a_valid_result_or_a_plain_error(name: str, tmp_path: Path) -> None:
    outcomes = set()
    warm(name, tmp_path)
    for number in range(CASES[name]):
        data, done = case(name, 1, number)
        outcome, why = judge(TARGETS[name], data, tmp_path)
        assert outcome != "finding", (f"{name}/1/{number}", done, why)
        outcomes.add(outcome)
    assert "refused" in outcomes or name == "request"


@pytest.mark.parametrize("name", TARGETS)
def test_intact_files_are_accepted(name: str, tmp_path: Path) -> None:
    warm(name, tmp_path)
    outcomes = [judge(TARGETS[name], data, tmp_path) for data in seeds(name)]
    found = {outcome for outcome, _ in outcomes}
    if name == "weights":  # each is read under a name that is not its own as well
        assert found == {"refused"}
    elif TARGETS[name].run is run_image:
        assert found == {"accepted"}, outcomes
    else:
        assert "finding" not in found, outcomes
        assert "accepted" in found


@pytest.mark.parametrize("file", sorted(FOUND.iterdir()), ids=lambda file: file.name)
def test_earlier_findings_stay_fixed(file: Path, tmp_path: Path) -> None:
    target = TARGETS[file.name.split("-")[0]]
    assert judge(target, file.read_bytes(), tmp_path)[0] != "finding"


def test_damage_never_changes_the_pixels_of_a_png_unnoticed() -> None:
    """Thanks to checksums, what is still accepted has its old pixels, and hardly anything is.

    A decoder that ignored the checksums would accept most of these files.
    """
    from random import Random

    from skinray.images.read import decode_image

    known = {decode_image(data, "seed").pixels.tobytes() for data in png_files()}
    refused = 0
    for number in range(150):
        rng = Random(number)
        data, _ = mutate(rng, rng.choice(png_files()), png_files(), "bytes")
        try:
            pixels = decode_image(data, "case").pixels
        except ImageError:
            refused += 1
            continue
        assert pixels.tobytes() in known, number
    assert refused > 100


def runs(action: object) -> Target:
    def run(data: bytes, folder: Path) -> None:
        if isinstance(action, Exception):
            raise action
        if callable(action):
            action()

    return Target("bytes", lambda: [b"x"], run, (ImageError,))


def test_everything_else_is_a_finding(tmp_path: Path) -> None:
    assert judge(runs(None), b"", tmp_path)[0] == "accepted"
    assert judge(runs(ImageError("torn: copy it")), b"", tmp_path)[0] == "refused"
    for bad in (
        ValueError("x"),
        MemoryError(),
        RecursionError(),
        GarbageError("y"),
        ImageError(""),
    ):
        assert judge(runs(bad), b"", tmp_path)[0] == "finding", bad


HUNGRY = """
import json, sys
from pathlib import Path
import numpy as np
from benchmarks.fuzz.targets import Target
from benchmarks.fuzz.worker import judge

for mib in (1, 100):
    eat = lambda data, folder: np.ones(mib << 20, np.uint8).sum()
    print(json.dumps(judge(Target("bytes", lambda: [b"x"], eat, ()), b"", Path())))
"""


def test_memory_taken_by_a_case_is_a_finding() -> None:
    """In a separate process: one whose malloc keeps freed memory may have 100 MiB to spare."""
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    little, much = map(json.loads, done.stdout.splitlines())
    assert little == ["accepted", ""]
    assert (much[0], "MiB" in much[1]) == ("finding", True)


WORKER = """
import os, sys, json
first, last = int(sys.argv[3]), int(sys.argv[4])
for number in range(first, last):
    print(">", number, flush=True)
    if number == 2: os.abort()
    if number == 4: print("!", number, json.dumps({"how": [], "why": "wrong"}), flush=True)
print("=", json.dumps({"refused": last - first - 1, "finding": 1}), flush=True)
"""


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(fuzz, "WORKER", (str(tmp_path / "worker.py"),))


def test_a_crash_is_a_finding_and_the_rest_runs(dying: None) -> None:
    tally = fuzz.Tally()
    fuzz.fuzz("png", 0, 0, 6, tally)
    assert [finding.split(" ")[0] for finding in tally.findings] == ["png/0/2", "png/0/4"]
    assert "died with -6" in tally.findings[0]
    assert tally.cases == 6
    assert dict(tally.outcomes) == {"before a death": 2, "finding": 2, "refused": 2}


def test_cases_follow_from_their_names() -> None:
    assert case("png", 3, 7) == case("png", 3, 7)
    assert len({case("png", 3, number)[0] for number in range(40)}) > 35
    assert set(KINDS) == {target.kind for target in TARGETS.values()}


def test_chunks_are_split_and_joined_as_they_were() -> None:
    for data in png_files():
        chunks = split_png(data)
        assert data == data[:8] + b"".join(png_chunk(kind, body) for kind, body in chunks)
    assert split_png(json.dumps({}).encode()) == []
