"""How far a job has come, as Ray metrics: each node offers them to Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ray.util.metrics import Counter, Gauge

from skinray.logs import RUN
from skinray.progress import listening

_TAGS = ("run", "step")


class JobMeter:
    """Hears of every step of a training or scoring; names have ``ray_`` before in Prometheus.

    A step is what progress shows one bar for: checking images, decoding, grid search, training,
    scoring. ``run`` is the id of the run, as in its log.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._done = Gauge("skinray_job_done", "parts of a step that are done", _TAGS)
        self._total = Gauge("skinray_job_parts", "parts of a step", _TAGS)
        self._running = Gauge("skinray_job_running", "1 while a step is worked on", _TAGS)
        self._ended = Counter("skinray_job_steps", "steps ended", (*_TAGS, "outcome"))

    def tell(self, step: str, done: int, total: int, state: str) -> None:
        """Take how far a step has come: ``running``, ``done`` or ``stopped``."""
        tags = {"run": self._run, "step": step}
        self._done.set(done, tags)
        self._total.set(total, tags)
        self._running.set(state == "running", tags)
        if state != "running":
            self._ended.inc(1, {**tags, "outcome": state})


@contextmanager
def measured_job() -> Iterator[None]:
    """Offer the steps of the block to Prometheus; within a joined or started Ray."""
    with listening(JobMeter(os.environ.get(RUN, "unnamed")).tell):
        yield
