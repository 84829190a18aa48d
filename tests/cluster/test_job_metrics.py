"""What Prometheus gets from a job: how far each step is, and how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from skinray.cluster import session
from skinray.cluster.session import measured_job
from skinray.progress import Steps


class Kept:
    """Stands in for Ray's metrics: keeps what it is given."""

    all: dict[str, list[tuple[float, dict[str, str]]]]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.values = self.all.setdefault(name, [])
        self.keys = set(tag_keys)

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == self.keys
        self.values.append((float(value), tags))

    inc = set


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    Kept.all = {}
    monkeypatch.setattr(session, "Gauge", Kept)
    monkeypatch.setattr(session, "Counter", Kept)
    monkeypatch.setenv("SKINRAY_RUN_ID", "r1")
    return Kept.all


def test_steps_are_reported_while_they_run_and_when_they_end(kept: dict[str, Any]) -> None:
    with measured_job():
        with Steps("Training", 4) as steps:
            steps.set(1)
            steps.set(4)
        with pytest.raises(ValueError, match="x"), Steps("Scoring", 2):
            raise ValueError("x")
    tags = {"run": "r1", "step": "Training"}
    assert kept["skinray_job_done"][:3] == [(1, tags), (4, tags), (4, tags)]
    assert kept["skinray_job_parts"][0] == (4, tags)
    assert [value for value, _ in kept["skinray_job_running"]] == [1, 1, 0, 0]
    assert [tags["outcome"] for _, tags in kept["skinray_job_steps"]] == ["done", "stopped"]


def test_nothing_is_reported_outside_a_job(kept: dict[str, Any]) -> None:
    with measured_job():
        pass
    with Steps("Training", 4) as steps:
        steps.set(1)
    assert kept["skinray_job_done"] == []
