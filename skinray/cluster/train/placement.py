"""What one training takes of the joined cluster: choose it, show it, and wait until it is free."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace

from ray.util.placement_group import placement_group, remove_placement_group
from rich.console import Console

from skinray.cluster.autoscaler import alive_nodes, capacity_at_hand, offered
from skinray.cluster.capacity import HEAD, Capacity, in_words, side_by_side
from skinray.cluster.train.resources import Resources, bundles_of, plan
from skinray.config.training import ClusterSettings
from skinray.errors import ResourcesError
from skinray.learning.spec import TrialSpec

LOG = logging.getLogger("skinray.cluster")
WAITING_SHOWN_EVERY_S = 30.0


def trial_resources(settings: ClusterSettings, console: Console | None = None) -> Resources:
    """Work out what one training takes on the joined cluster, and wait until it is free.

    Parameters
    ----------
    console : shows the choice between GPUs and CPUs, and what the run waits for.

    Raises
    ------
    ResourcesError
        If the cluster can never offer it; or, where the autoscaler's limits are unknown, did not
        within ``resources_timeout_s``.
    """
    console = console or Console()
    capacity = capacity_at_hand()
    gpus = settings.gpus_per_worker
    if gpus == "auto":
        gpus = _gpus(capacity, settings, console)
    _await(plan(settings, gpus, capacity), capacity, settings, console)
    if capacity.addable is None:
        capacity = replace(capacity, nodes=alive_nodes())  # count the nodes that were added
    return plan(settings, gpus, capacity, os.cpu_count() or 1)


def kept_resources(
    settings: ClusterSettings, others: Resources, specs: Sequence[TrialSpec]
) -> Resources:
    """Work out what the training of a network of the bundle takes.

    Parameters
    ----------
    others : what any other training takes.
    specs : these trainings.
    """
    step = min((spec.step for spec in specs), default=0)
    return plan(settings, others.gpus_per_worker, capacity_at_hand(), os.cpu_count() or 1, step)


def _gpus(capacity: Capacity, settings: ClusterSettings, console: Console) -> float:
    """Choose a GPU for each worker if the cluster has GPUs or can add them, else none."""
    now, later = capacity.gpus()
    if now >= 1:
        more = f", and its autoscaler can add {later:g}" if later else ""
        _show(console, f"Training on GPUs: the cluster has {now:g}{more}.")
        return 1.0
    if later >= 1:
        _show(
            console,
            f"No GPU on the cluster yet; its autoscaler can add up to {later:g}: requesting them.",
        )
        return 1.0
    if capacity.addable is not None:
        _show(console, "No GPU here, and none can be added: training on CPUs.")
        return 0.0
    patience = settings.resources_timeout_s
    _show(
        console,
        "No GPU on the cluster yet, and whether its autoscaler can add one is unknown. Requesting "
        f"one and waiting up to {patience:g} s.",
    )
    if offered([{"GPU": 1.0}], patience):
        _show(console, "A GPU has been added: training on GPUs.")
        return 1.0
    _show(
        console,
        "No GPU was added: training on CPUs. If GPUs take longer to start, raise "
        "cluster.resources_timeout_s.",
    )
    return 0.0


def _await(one: Resources, capacity: Capacity, settings: ClusterSettings, console: Console) -> None:
    """Wait until the cluster offers a training's fewest workers, without limit if it can."""
    bundles = bundles_of(one, one.workers[0])
    asked, has = in_words(bundles), capacity.words(one.worker)
    remedy = "lower cluster.workers, cpus_per_worker or gpus_per_worker, or add nodes"
    if one.data_workers[0]:
        remedy += (
            f"; with cluster.data_workers=0 each worker augments its own images and needs "
            f"{one.actor_cpus:g} CPU less"
        )
    can = side_by_side(capacity.at_most(one.worker), bundles) > 0
    if not can and capacity.addable is not None:
        raise ResourcesError(f"the cluster can never offer {asked}: {has}; {remedy}")
    patience = math.inf if can else settings.resources_timeout_s
    began = time.monotonic()
    group = placement_group([bundle for bundle in bundles if HEAD not in bundle])
    try:
        while not group.wait(min(WAITING_SHOWN_EVERY_S, began + patience - time.monotonic())):
            waited = time.monotonic() - began
            if waited >= patience:
                raise ResourcesError(
                    f"the cluster did not offer {asked} within {patience:g} s: {has}; {remedy}. "
                    "If nodes start slowly, raise cluster.resources_timeout_s"
                )
            _show(console, f"Waiting for {asked} for {waited:.0f} s: {has}.")
    finally:
        remove_placement_group(group)


def _show(console: Console, text: str) -> None:
    LOG.info(text)
    console.print(text, highlight=False, soft_wrap=True)
