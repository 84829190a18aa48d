"""Join the Ray cluster at hand, or start one on this machine; never wait for ever."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from skinray.cluster.job_metrics import measured_job
from skinray.cluster.ray_token import refuse_open_cluster, show_token
from skinray.config import ClusterSettings
from skinray.errors import ResourcesError

# Ray Train, Data and Tune each hold logical CPUs; fewer than this and they wait for each other.
LEAST_LOGICAL_CPUS = 4
REACH_TIMEOUT_S = 10.0
HEAD = "node:__internal_head__"
# Ray's helpers on one machine take part of the cores that the work itself needs: they wake less
# often, and what looks out for nodes about to be taken away has nothing to look out for.
ONE_MACHINE = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",  # there is no dashboard to show them
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_num_workers_soft_limit": "0",  # a worker without work ends after a second
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "10",
}


@dataclass(frozen=True)
class Resources:
    """What one trial takes, and how many trials may run at once.

    Attributes
    ----------
    data_workers : actors that augment for a trial of several workers; 0: they do it themselves.
    """

    cpus_per_worker: int
    gpus_per_worker: float
    workers: tuple[int, int]
    at_once: int | None
    data_workers: int = 0

    @property
    def nested(self) -> bool:
        """Whether a trial is several workers that train together."""
        return self.workers[1] > 1


@contextmanager
def session() -> Iterator[None]:
    """Use the cluster that ``RAY_ADDRESS`` names (a submitted job has it), else a local one.

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
    else:
        for name, value in ONE_MACHINE.items():
            os.environ.setdefault(name, value)
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(
                address="local",
                num_cpus=max(LEAST_LOGICAL_CPUS, os.cpu_count() or 1),
                log_to_driver=False,
                include_dashboard=False,  # its processes take a part of a small machine
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


def _reach(address: str) -> None:
    """Knock at a HOST:PORT first: Ray itself would knock for minutes."""
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


def trial_resources(settings: ClusterSettings) -> Resources:
    """Work out what one trial takes on the cluster that is joined.

    Raises
    ------
    ResourcesError
        If the cluster does not offer it within ``resources_timeout_s``.
    """
    gpus = settings.gpus_per_worker
    if gpus == "auto":
        gpus = 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
    actors = settings.data_workers
    if actors == "auto":
        # Workers that train on CPUs leave no core to a pool, and one that waits delays them all.
        actors = 1 if gpus else 0
    wanted = Resources(settings.cpus_per_worker, gpus, settings.worker_range, None, actors)
    _await(wanted, settings)
    return replace(wanted, at_once=_at_once(wanted))


def _at_once(wanted: Resources) -> int | None:
    """Return how many trials may run side by side; None: as many as fit.

    On one machine without GPUs the logical CPUs outnumber the cores, and trials would only
    slow each other down. Trials of several workers also need CPUs for the data that feeds
    them: without a limit, their workers could take every CPU and wait for data for ever.
    """
    cpus = wanted.workers[1] * wanted.cpus_per_worker + wanted.data_workers * wanted.nested
    if len(ray.nodes()) == 1 and not wanted.gpus_per_worker:
        return max(1, (os.cpu_count() or 1) // cpus)
    if wanted.nested:
        return max(1, int(ray.cluster_resources().get("CPU", 0) // cpus))
    return None


def _await(wanted: Resources, settings: ClusterSettings) -> None:
    bundle = {"CPU": float(wanted.cpus_per_worker)}
    if wanted.gpus_per_worker:
        bundle["GPU"] = wanted.gpus_per_worker
    bundles = [bundle] * wanted.workers[0]
    if wanted.nested:
        bundles = [*bundles, *[{"CPU": 1.0}] * wanted.data_workers]
    if not offered(bundles, settings.resources_timeout_s):
        have = {k: v for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}
        raise ResourcesError(
            f"the cluster has {have or 'nothing'} and did not offer {bundles} within "
            f"{settings.resources_timeout_s:g} s: lower cluster.workers, cpus_per_worker or "
            "gpus_per_worker, add nodes, or raise cluster.resources_timeout_s where nodes "
            "start slowly"
        )


def offered(bundles: list[dict[str, float]], timeout_s: float) -> bool:
    """Say whether the cluster offers all bundles at once; an autoscaler hears of it and may add.

    Nothing stays reserved.
    """
    group = placement_group(bundles)
    try:
        return bool(group.wait(timeout_s))
    finally:
        remove_placement_group(group)
