"""Scoring in actors that do all stages: the driver hands them whole batches, without Ray Data.

A batch is seconds of work in one place, and nothing streams between stages. Ray Data's loop and
helpers would only take CPU time, more of it with more actors (decision 28).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from skinray.cluster.score.claims import ClaimActors
from skinray.cluster.score.pools import Pool
from skinray.cluster.score.stages import Scorer
from skinray.scoring.score_image import Job

AHEAD = 2  # batches that an actor has: the one it works on, and the next
MOST_STARTS = 8  # this many actors in a row that die before they are ready end the round


class Team:
    """Actors of all stages, and what each of them has to do.

    An actor that dies is replaced wherever there is room; until its replacement is ready, the
    others do its batches.

    Parameters
    ----------
    job, claims : of the run.
    pool : how many actors, and what each takes. Actors without room wait until the cluster has
        grown.
    batches : how many there are, each of ``images_per_part`` images.
    """

    def __init__(self, job: Job, claims: ClaimActors, pool: Pool, batches: int) -> None:
        options = ray.remote(num_cpus=pool.cpus, num_gpus=pool.gpus, scheduling_strategy="SPREAD")
        self._new: Callable[[], Any] = partial(options(Scorer).remote, job, claims)
        self.pending, self.left = deque(range(batches)), batches
        self.starts: dict[Any, int] = {}  # by actor: how many before it died at their start
        self.load: Counter[Any] = Counter()  # by actor that is ready: how many batches it has
        self.calls: dict[Any, tuple[Any, int | None]] = {}
        for _ in range(pool.most):
            self._start()

    def __iter__(self) -> Iterator[int]:
        """Yield the number of images of each batch as it is committed.

        Raises
        ------
        RayError
            What an actor raised; or its death, if it dies at every start.
        """
        while self.left:
            ref = ray.wait(list(self.calls))[0][0]
            actor, batch = self.calls.pop(ref)
            try:
                images = ray.get(ref)
            except (
                RayTaskError
            ):  # raised by the work itself, even if it is the death of another actor
                raise
            except (RayActorError, OutOfMemoryError) as death:
                self._died(actor, batch, death)
            else:
                if batch is None:
                    self.load[actor] = 0
                else:
                    self.left -= 1
                    if actor in self.load:  # else it has died since, in its next batch
                        self.load[actor] -= 1
                    yield images
            self._feed()

    def end(self) -> None:
        """End the actors, even in the middle of a batch."""
        for actor in self.starts:
            ray.kill(actor)

    def _start(self, before: int = 0) -> None:
        actor = self._new()
        self.starts[actor] = before
        self.calls[actor.ready.remote()] = (actor, None)

    def _died(self, actor: Any, batch: int | None, death: Exception) -> None:
        if batch is not None:
            self.pending.appendleft(batch)
        if actor not in self.starts:  # seen before, with its other batch
            return
        before = self.starts.pop(actor)
        ray.kill(actor)  # it may be alive and only out of reach
        if self.load.pop(actor, None) is not None:
            self._start()
        elif before + 1 < MOST_STARTS and not getattr(death, "actor_init_failed", False):
            self._start(before + 1)
        else:
            raise death

    def _feed(self) -> None:
        while self.pending and self.load:
            actor = min(self.load, key=lambda one: self.load[one])
            if self.load[actor] >= AHEAD:
                return
            batch = self.pending.popleft()
            self.calls[actor.score.remote(batch)] = (actor, batch)
            self.load[actor] += 1
