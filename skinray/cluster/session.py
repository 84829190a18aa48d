"""Join a running Ray cluster, or start one on this machine."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
import torch
from ray.util.metrics import Counter, Gauge
from ray.util.placement_group import placement_group, remove_placement_group

from skinray.cluster.capacity import Bundle
from skinray.cluster.ray_token import refuse_open_cluster, show_token
from skinray.cluster.train.resources import ACTOR_CPUS_FOR_CPU, Resources
from skinray.errors import ResourcesError
from skinray.logs import RUN
from skinray.models import compute
from skinray.progress import listening

LOG = logging.getLogger("skinray.cluster")
# Ray Train, Data and Tune each hold logical CPUs; fewer than this and they wait for each other.
LEAST_LOGICAL_CPUS = 4
REACH_TIMEOUT_S = 10.0
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


def offered(bundles: Sequence[Bundle], timeout_s: float) -> bool:
    """Return whether the cluster can place all bundles at once; nothing stays reserved.

    The request also prompts an autoscaler.
    """
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        return bool(group.wait(timeout_s))
    finally:
        remove_placement_group(group)


# Rehearsals of an autoscaling cluster on a machine without GPUs: its nodes say they have some.
PRETENDED_GPUS = "SKINRAY_PRETENDED_GPUS"


def assigned_device() -> torch.device:
    """Return ``cuda`` if Ray assigned this process a GPU, else ``cpu``.

    Where ``SKINRAY_PRETENDED_GPUS=1`` is set and torch finds none, an assigned GPU is taken for a
    pretended one and the CPU computes; the CPU is never used instead unless asked for.

    Raises
    ------
    ResourcesError
        If a GPU was assigned, torch finds none, and none was said to be pretended.
    """
    if not ray.get_gpu_ids():
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get(PRETENDED_GPUS) == "1":
        return torch.device("cpu")
    raise ResourcesError(
        f"node {ray.util.get_node_ip_address()} offers a GPU that torch does not find: install "
        "the driver there (`skinray doctor` says what is missing), or set gpus_per_worker or "
        "gpus_per_actor to 0 to compute on CPUs"
    )


def process_group(resources: Resources) -> str:
    """Return torch's backend for the workers of a training; the driver has to name it.

    NCCL works between GPUs alone, so workers whose GPUs are pretended take gloo, as CPUs do.
    """
    pretended = os.environ.get(PRETENDED_GPUS) == "1"
    return compute.process_group(gpus=resources.gpus_per_worker > 0 and not pretended)


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


# A last line of a traceback, "ValueError: no room"; Ray's own errors only pass others on.
_REASON = re.compile(r"^(?!ray\.)[\w.]*(?:Error|Exception|Interrupt): .+$", re.MULTILINE)


def reason(said: str) -> str:
    """Return why a trial failed, out of the tracebacks that Ray nests around it."""
    found: list[str] = _REASON.findall(said)
    return found[-1] if found else said.splitlines()[-1]
