"""What a job holds on its cluster: placement groups and actors, so that none stays behind."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import ray
from ray.util.state import list_actors, list_placement_groups
from ray.util.state.exception import RayStateApiException

log = logging.getLogger(__name__)

# Actors of which Ray Data keeps one for all of its pipelines, until the job ends.
STANDING = {"_StatsActor", "_AutoscalingCoordinatorActor", "ActorLocationTracker"}
MOST = 10_000
ASK_EVERY_S = 0.5


@dataclass(frozen=True)
class Held:
    """Placement groups by id, and actors by id with their class."""

    groups: frozenset[str]
    actors: dict[str, str]

    def beyond(self, before: Held) -> list[str]:
        """Name what is held now and was not before."""
        groups = sorted(self.groups - before.groups)
        actors = [name for key, name in self.actors.items() if key not in before.actors]
        return [f"placement group {group}" for group in groups] + [
            f"actor {name}" for name in sorted(actors)
        ]


def held() -> Held | None:
    """Return what this job holds; None where Ray cannot say, as without its dashboard."""
    if not ray.is_initialized():
        return None
    job = ray.get_runtime_context().get_job_id()
    try:
        groups = list_placement_groups(
            filters=[("creator_job_id", "=", job), ("state", "!=", "REMOVED")], limit=MOST
        )
        actors = list_actors(filters=[("job_id", "=", job), ("state", "!=", "DEAD")], limit=MOST)
    except (RayStateApiException, ConnectionError) as error:
        log.info("what trainings leave behind is not checked: %s", error)
        return None
    return Held(
        frozenset(group.placement_group_id for group in groups),
        {a.actor_id: a.class_name for a in actors if a.class_name not in STANDING},
    )


def left_behind(before: Held | None, patience_s: float) -> list[str]:
    """Wait until this job holds no more than before; name what it still holds after that."""
    if before is None:
        return []
    until = time.monotonic() + patience_s
    while True:
        now = held()
        left = [] if now is None else now.beyond(before)
        if not left or time.monotonic() > until:
            return left
        time.sleep(ASK_EVERY_S)
