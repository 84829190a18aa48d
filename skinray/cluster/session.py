"""Join a running Ray cluster, or start one on this machine."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from rich.console import Console

from skinray.cluster.autoscaler import alive_nodes, capacity_at_hand
from skinray.cluster.capacity import HEAD, Bundle, Capacity, in_words, side_by_side
from skinray.cluster.job_metrics import measured_job
from skinray.cluster.ray_token import refuse_open_cluster, show_token
from skinray.cluster.resources import ACTOR_CPUS_FOR_CPU, Resources, bundles_of, plan
from skinray.config import ClusterSettings
from skinray.errors import ResourcesError
from skinray.learning.spec import TrialSpec

LOG = logging.getLogger("skinray.cluster")
# Ray Train, Data and Tune each hold logical CPUs; fewer than this and they wait for each other.
LEAST_LOGICAL_CPUS = 4
REACH_TIMEOUT_S = 10.0
WAITING_SAID_EVERY_S = 30.0
# Ray's helpers on one machine take part of the cores that the work itself needs: they wake less
# often, and what looks out for nodes about to be taken away has nothing to look out for.
ONE_MACHINE = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",  # nothing gathers them
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon the end of a training is seen
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_num_workers_soft_limit": "0",  # a worker without work ends after a second
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "10",
}


@contextmanager
def session(*, trains: bool = False) -> Iterator[None]:
    """Use the cluster that ``RAY_ADDRESS`` names (a submitted job has it), else a local one.

    Parameters
    ----------
    trains : starts Ray's dashboard too, on a local cluster: without it Ray Train does not find out
        whether a group of workers has ended, and its CPUs may stay taken.

    Raises
    ------
    ResourcesError
        If the cluster cannot be reached or started, or asks for no token.
    """
    _quiet()
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        show_token()
        _reach(address)
    ours = {} if address else {k: v for k, v in ONE_MACHINE.items() if k not in os.environ}
    os.environ.update(ours)
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(
                address="local",
                num_cpus=logical_cpus(os.cpu_count() or 1, trains=trains),
                log_to_driver=False,
                include_dashboard=trains,  # its processes take a part of a small machine
                logging_level=logging.WARNING,
                _node_ip_address="127.0.0.1",
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address}" if address else "a local Ray"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ResourcesError(
            f"{where} cannot be used: {reason}; "
            + (
                "check RAY_ADDRESS, and that this user's Ray token is the cluster's"
                if address
                else "free memory and disk in the temporary folder, then run again"
            )
        ) from error
    try:
        if address:
            refuse_open_cluster()
        with measured_job():
            yield
    finally:
        ray.shutdown()
        for name in ours:  # a later session of this process may join a cluster
            os.environ.pop(name, None)


def logical_cpus(cores: int, *, trains: bool) -> int:
    """Return the CPUs that a local Ray counts: trainings on all cores still need to be fed."""
    wanted = math.ceil(cores * (1 + ACTOR_CPUS_FOR_CPU)) if trains else cores
    return max(LEAST_LOGICAL_CPUS, wanted)


def _reach(address: str) -> None:
    """Try the port of a HOST:PORT first: Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return  # "auto", or an address of another kind, that Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()
    except OSError as error:
        raise ResourcesError(
            f"the Ray cluster at {address} does not answer ({error.strerror or error}): check "
            "RAY_ADDRESS and that the head node runs, or unset it to use this machine alone"
        ) from None


def _quiet() -> None:
    """Keep Ray's banners out of the way of our own progress; its warnings still show.

    Also in a session that someone else has started: what is off here is work of this process.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Ctrl-C ends the run here and now; Tune would end its part and hand back half a result.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    # Each trial logs its own epochs; three more logs of each would only cost time.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    logging.getLogger("ray.tune").setLevel(logging.WARNING)
    logging.getLogger("ray.tune.utils.util").setLevel(logging.ERROR)  # timings of its own
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    # Says on every local start that the cluster is guarded by a token, which is as it should be.
    setup = "ray._private.authentication.authentication_token_setup"
    logging.getLogger(setup).setLevel(logging.ERROR)


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


def offered(bundles: Sequence[Bundle], timeout_s: float) -> bool:
    """Return whether the cluster can place all bundles at once; nothing stays reserved.

    The request also prompts an autoscaler.
    """
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        return bool(group.wait(timeout_s))
    finally:
        remove_placement_group(group)
