"""What a job holds on its cluster, so that no placement group or actor outlives its training."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)
from ray.util.state import list_actors, list_placement_groups
from ray.util.state.exception import RayStateApiException

LOG = logging.getLogger(__name__)

# Actors that Ray Data keeps for all of its pipelines until the job ends, and the one that takes
# Train's reports to Tune, which ends with the trial.
STANDING = {"_StatsActor", "_AutoscalingCoordinatorActor", "ActorLocationTracker", "_QueueActor"}
MOST = 10_000
ASK_EVERY_S = 0.5


@dataclass(frozen=True)
class Held:
    """Placement groups by id, and actors by id with their class."""

    groups: frozenset[str]
    actors: dict[str, str]

    def beyond(self, before: Held) -> list[str]:
        """Name what is held now but was not before."""
        groups = sorted(self.groups - before.groups)
        actors = [name for key, name in self.actors.items() if key not in before.actors]
        return [f"placement group {group}" for group in groups] + [
            f"actor {name}" for name in sorted(actors)
        ]


def held(patience_s: float = 5.0) -> Held | None:
    """Return what this job holds; None if Ray cannot tell, for example without its dashboard.

    Parameters
    ----------
    patience_s : how long to try, as a dashboard may still be starting.
    """
    until = time.monotonic() + patience_s
    while ray.is_initialized():
        try:
            return _listed()
        except (RayStateApiException, ConnectionError) as error:
            if time.monotonic() > until:
                LOG.info("cannot check what trials leave on the cluster: %s", error)
                break
            time.sleep(ASK_EVERY_S)
    return None


def _listed() -> Held:
    context = ray.get_runtime_context()
    # With the address, since another run on this machine may have a Ray of its own.
    job, where = context.get_job_id(), context.gcs_address
    groups = list_placement_groups(
        where, filters=[("creator_job_id", "=", job), ("state", "!=", "REMOVED")], limit=MOST
    )
    actors = list_actors(where, filters=[("job_id", "=", job), ("state", "!=", "DEAD")], limit=MOST)
    return Held(
        frozenset(group.placement_group_id for group in groups),
        {a.actor_id: a.class_name for a in actors if a.class_name not in STANDING},
    )


def unplaced(bundle: Mapping[str, float]) -> bool:
    """Return whether a placement group with such a bundle is waiting for room on the cluster."""
    return any(
        group["state"] in ("PENDING", "RESCHEDULING") and bundle in group["bundles"].values()
        for group in placement_group_table().values()
    )


def left_behind(before: Held | None, patience_s: float) -> list[str]:
    """Wait until this job holds no more than before; name what it still holds in the end.

    Removes the placement groups among them, so that the next training finds their CPUs free.
    """
    if before is None:
        return []
    until = time.monotonic() + patience_s
    while True:
        now = held()
        left = [] if now is None else now.beyond(before)
        if now is None or not left:
            return []
        if time.monotonic() > until:
            for group in now.groups - before.groups:
                remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))
            return left
        time.sleep(ASK_EVERY_S)
