"""Kill -9 of replicas under steady load: with one retry, a client hardly notices."""

from __future__ import annotations

import pytest

from benchmarks.serve.replica_kill import ASKED, measure

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(400)]


@pytest.mark.parametrize("layout", ["fused", "separate"])
def test_answers_stay_correct_while_replicas_are_killed(layout: str) -> None:
    replies, right, killed = measure(layout, seconds=60, pause_s=12)
    assert len(killed) >= 2
    assert len(replies) > 100
    assert right >= ASKED * len(replies)
