"""What one training takes of the cluster that is joined: chosen, shown, and waited for."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace

from ray.util.placement_group import placement_group, remove_placement_group
from rich.console import Console

from skinray.cluster.autoscaler import alive_nodes, capacity_at_hand
from skinray.cluster.capacity import HEAD, Capacity, in_words, side_by_side
from skinray.cluster.session import offered
from skinray.cluster.train.resources import Resources, bundles_of, plan
from skinray.config.training import ClusterSettings
from skinray.errors import ResourcesError
from skinray.learning.spec import TrialSpec

LOG = logging.getLogger("skinray.cluster")
WAITING_SAID_EVERY_S = 30.0


def trial_resources(settings: ClusterSettings, console: Console | None = None) -> Resources:
    """Work out what one training takes on the cluster that is joined, and wait until it is there.

    Parameters
    ----------
    console : shows the choice between GPUs and CPUs, and what is waited for.

    Raises
    ------
    ResourcesError
        If the cluster can never offer it; or, where nothing says what its autoscaler can add, did
        not within ``resources_timeout_s``.
    """
    console = console or Console()
    capacity = capacity_at_hand()
    gpus = settings.gpus_per_worker
    if gpus == "auto":
        gpus = _gpus(capacity, settings, console)
    _await(plan(settings, gpus, capacity), capacity, settings, console)
    if capacity.addable is None:
        capacity = replace(capacity, nodes=alive_nodes())  # those that have come count
    return plan(settings, gpus, capacity, os.cpu_count() or 1)


def kept_resources(
    settings: ClusterSettings, others: Resources, specs: Sequence[TrialSpec]
) -> Resources:
    """Work out what a training takes of a network that the run hands out in its bundle.

    Parameters
    ----------
    others : what any other training takes.
    specs : these trainings.
    """
    step = min((spec.step for spec in specs), default=0)
    return plan(settings, others.gpus_per_worker, capacity_at_hand(), os.cpu_count() or 1, step)


def _gpus(capacity: Capacity, settings: ClusterSettings, console: Console) -> float:
    """Choose: a GPU for each worker where there are any or any can come, else none."""
    now, later = capacity.gpus()
    if now >= 1:
        more = f", and its autoscaler can add {later:g}" if later else ""
        _say(console, f"training on GPUs: the cluster has {now:g}{more}")
        return 1.0
    if later >= 1:
        _say(
            console, f"no GPU on the cluster now; its autoscaler can add up to {later:g}: asking "
            "for them",
        )  # fmt: skip
        return 1.0
    if capacity.addable is not None:
        _say(console, "no GPU here and none can be added: training on CPUs")
        return 0.0
    patience = settings.resources_timeout_s
    _say(
        console, "no GPU on the cluster now, and nothing says whether its autoscaler can add any: "
        f"asking for one, for {patience:g} s",
    )  # fmt: skip
    if offered([{"GPU": 1.0}], patience):
        _say(console, "a GPU has come: training on GPUs")
        return 1.0
    _say(
        console, "no GPU has come: training on CPUs; if GPUs take longer, raise "
        "cluster.resources_timeout_s",
    )  # fmt: skip
    return 0.0


def _await(one: Resources, capacity: Capacity, settings: ClusterSettings, console: Console) -> None:
    """Wait until the cluster offers a training's fewest workers; without end where it can."""
    bundles = bundles_of(one, one.workers[0])
    asked = in_words(bundles)
    remedy = "lower cluster.workers, cpus_per_worker or gpus_per_worker, or add nodes"
    if one.data_workers[0]:
        remedy += (
            f"; cluster.data_workers=0 needs {one.actor_cpus:g} CPU less for each worker, which "
            "then augments by itself"
        )
    can = side_by_side(capacity.at_most(one.worker), bundles) > 0
    if not can and capacity.addable is not None:
        raise ResourcesError(
            f"the cluster can never offer {asked}: {capacity.words(one.worker)}; {remedy}"
        )
    patience = math.inf if can else settings.resources_timeout_s
    began = time.monotonic()
    group = placement_group([bundle for bundle in bundles if HEAD not in bundle])
    try:
        while not group.wait(min(WAITING_SAID_EVERY_S, began + patience - time.monotonic())):
            waited = time.monotonic() - began
            if waited >= patience:
                raise ResourcesError(
                    f"the cluster did not offer {asked} within {patience:g} s: "
                    f"{capacity.words(one.worker)}; {remedy}, or raise "
                    "cluster.resources_timeout_s where nodes start slowly"
                )
            _say(
                console,
                f"waiting for {asked}, since {waited:.0f} s: {capacity.words(one.worker)}",
            )
    finally:
        remove_placement_group(group)


def _say(console: Console, text: str) -> None:
    LOG.info(text)
    console.print(text, highlight=False, soft_wrap=True)
