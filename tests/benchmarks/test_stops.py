"""The judge of stops and starts: it finds what was lost, answered twice, or written beside JSON."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.serve.stops import Attempts, Outcome, _found

STOPPED = 100.0


def judged(
    folder: Path,
    outcomes: dict[str, str],
    served: list[str],
    begun: float = 90.0,
    requests: int = 2,
    beside: str = "",
) -> Outcome:
    attempts = Attempts(begun=dict.fromkeys(outcomes, begun), outcome=outcomes)
    log = folder / "log"
    lines = [json.dumps({"request": name, "code": 200}) for name in served]
    lines += [json.dumps({"request": "r0-9", "code": 503}), json.dumps({"message": "began"})]
    log.write_text("\n".join([*lines, *([beside] if beside else [])]))
    return _found(attempts, log, requests, [STOPPED], [1], [0], [], [2.0])


def test_refused_and_sent_again_is_sound(tmp_path: Path) -> None:
    outcomes = {"r0-0": "stopping", "r0-1": "no connection", "r0-2": "answered", "r1-0": "answered"}
    assert judged(tmp_path, outcomes, ["r0-2", "r1-0"]).sound


def test_what_was_lost_is_found(tmp_path: Path) -> None:
    both = {"r0-1": "answered", "r1-0": "answered"}
    served = ["r0-1", "r1-0"]
    for bad in ("cut off", "half an answer", "wrong", "ReadTimeout", "500", "404"):
        found = judged(tmp_path, both | {"r0-0": bad}, served)
        assert (found.lost, found.sound) == ([f"r0-0: {bad}"], False)
    # One that came after the signal may be cut off before it is answered, and nothing worse.
    assert judged(tmp_path, both | {"r0-0": "cut off"}, served, begun=STOPPED + 1).sound
    late = judged(tmp_path, both | {"r0-0": "half an answer"}, served, begun=STOPPED + 1)
    assert not late.sound
    found = judged(tmp_path, both | {"r0-0": "stopping"}, ["r0-0", *served])
    assert found.lost == ["r0-0: served, but not received"]
    assert judged(tmp_path, {"r0-0": "answered"}, ["r0-0"]).unanswered == ["r1"]


def test_what_was_answered_twice_or_is_no_json_is_found(tmp_path: Path) -> None:
    both = {"r0-0": "answered", "r1-0": "answered"}
    assert judged(tmp_path, both, ["r0-0", "r0-0", "r1-0"]).twice == ["r0-0"]
    assert judged(tmp_path, both | {"r0-1": "answered"}, ["r0-0", "r0-1", "r1-0"]).twice == ["r0"]
    assert judged(tmp_path, both, ["r0-0", "r1-0"], beside="(raylet) retries").impure
