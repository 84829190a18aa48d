"""One session with Ray: join a running cluster or start one here, and report what the job does.

While a session lasts, Prometheus sees each step that progress shows. Ray's banners stay out of the
user's sight, and a failed trial's nested tracebacks come down to their reason.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import ray
from ray.util.metrics import Counter, Gauge

from skinray.cluster.capacity import logical_cpus
from skinray.cluster.ray_internals import TOKEN_LOGGER, on_loopback, sigterm_kept, without_helpers
from skinray.cluster.ray_token import refuse_open_cluster, show_token
from skinray.errors import ResourcesError
from skinray.logs import RUN
from skinray.progress import listening
from skinray.service.middleware.front import FRONT, SETTING

REACH_TIMEOUT_S = 10.0
# On one machine, Ray's own processes compete with the work for cores. These settings make them wake
# less often and start no spare workers.
ONE_MACHINE = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",  # nothing gathers them
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon the end of a training is seen
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_num_workers_soft_limit": "0",  # a worker without work ends after a second
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    # Serve's proxy is drained when it has sent its last answer, not half a minute later.
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.001",
    SETTING: FRONT,
}
QUIET = {
    "ray.tune": logging.WARNING,
    "ray.tune.utils.util": logging.ERROR,  # timings of its own
    "ray.tune.analysis.experiment_analysis": logging.ERROR,
    "ray.train": logging.WARNING,
    TOKEN_LOGGER: logging.ERROR,
}
# Steps of a job, as metrics. The run is named as in its log.
TAGS = ("run", "step")
# A last line of a traceback, "ValueError: no room"; Ray's own errors only wrap others.
REASON = re.compile(r"^(?!ray\.)[\w.]*(?:Error|Exception|Interrupt): .+$", re.MULTILINE)


@contextmanager
def session(*, trains: bool = False) -> Iterator[None]:
    """Use the cluster that ``RAY_ADDRESS`` names (a submitted job has it), else a local one.

    Parameters
    ----------
    trains : also start Ray's dashboard on a local cluster: without it Ray Train does not notice
        that a group of workers has ended, and its CPUs may stay taken.

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
    with ExitStack() as stack:
        loopback = {} if address else stack.enter_context(on_loopback())
        try:
            _start(address, loopback, trains=trains)
            if address:
                refuse_open_cluster()
            with measured_job():
                yield
        finally:
            ray.shutdown()
            for name in ours:  # a later session of this process may join a cluster
                os.environ.pop(name, None)


def _start(address: str | None, loopback: dict[str, str], *, trains: bool) -> None:
    local = {
        "address": "local",
        "num_cpus": logical_cpus(os.cpu_count() or 1, trains=trains),
        "include_dashboard": trains,  # its processes take a part of a small machine
        **loopback,
    }
    try:
        with sigterm_kept(), nullcontext() if address else without_helpers(dashboard=trains):
            ray.init(
                log_to_driver=False, logging_level=logging.WARNING, **({} if address else local)
            )
    except Exception as error:  # Ray raises a bare one if a process of its own starts too slowly
        where = f"the Ray cluster at {address}" if address else "a local Ray"
        said = (str(error).strip() or repr(error)).splitlines()[0]
        remedy = "free memory and disk space in the temporary folder, then run again"
        if address:
            remedy = "check RAY_ADDRESS, and that your Ray token is the cluster's token"
        raise ResourcesError(f"{where} cannot be used: {said}; {remedy}") from error


def _reach(address: str) -> None:
    """Try the port of a HOST:PORT first: Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return  # "auto", or an address of another kind, which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()
    except OSError as error:
        raise ResourcesError(
            f"the Ray cluster at {address} does not answer ({error.strerror or error}): check "
            "RAY_ADDRESS and that the head node runs, or unset it to use this machine alone"
        ) from None


def _quiet() -> None:
    """Silence Ray's banners and minor logs, even if someone else started Ray."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Ctrl-C ends the run here and now; Tune would end its part and return half a result.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    # Each trial logs its own epochs; three more logs of each would only cost time.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)


@contextmanager
def measured_job() -> Iterator[None]:
    """Report the steps of the block to Prometheus, where metric names begin with ``ray_``.

    A step is what progress shows one bar for, such as decoding, grid search or training.
    """
    run = os.environ.get(RUN, "unnamed")
    done_parts = Gauge("skinray_job_done", "parts of a step that are done", TAGS)
    parts = Gauge("skinray_job_parts", "parts of a step", TAGS)
    running = Gauge("skinray_job_running", "1 while a step is in progress", TAGS)
    ended = Counter("skinray_job_steps", "steps ended", (*TAGS, "outcome"))

    def report(step: str, done: int, total: int, state: str) -> None:
        tags = {"run": run, "step": step}
        done_parts.set(done, tags)
        parts.set(total, tags)
        running.set(state == "running", tags)
        if state != "running":
            ended.inc(1, {**tags, "outcome": state})

    with listening(report):
        yield


def reason(said: str) -> str:
    """Return why a trial or a task failed, from the tracebacks that Ray nests around it."""
    found: list[str] = REASON.findall(said)
    return found[-1] if found else said.splitlines()[-1]
