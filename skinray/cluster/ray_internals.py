"""Everything that skinray takes from inside Ray, where Ray has no public call for it.

A new version of Ray may change each of these; ``tests/cluster`` tries them all.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from skinray.errors import ResourcesError

if TYPE_CHECKING:
    from ray.data import DataContext

# Announces token authentication at each local start, as a warning; no option switches it off.
TOKEN_LOGGER = "ray._private.authentication.authentication_token_setup"  # noqa: S105 - a name
ADDRESS = "127.0.0.1"
# Ray replaces a loopback address by one that the network reaches, wherever it believes that other
# machines may join; this variable, made for Windows and macOS, says that none will.
ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Ray's actors in front of Serve's HTTP; their names begin like this.
PROXY, SERVE = "SERVE_PROXY_ACTOR", "serve"
CLUSTER, NAMESPACE = "RAY_CLUSTER_NAME", "RAY_CLUSTER_NAMESPACE"
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# A question to the control service. Every public client shows its token if it has one, so none can
# find out whether the service also answers without.
CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
ANSWER_S = 10.0
# Far less than a block of crops takes to be used.
REST_S = 0.02


@contextmanager
def on_loopback() -> Iterator[dict[str, str]]:
    """Yield the options with which ``ray.init`` starts a Ray that listens on 127.0.0.1 alone.

    All its processes inherit this, so the block must last as long as that Ray.
    """
    from ray._private import ray_constants

    before = os.environ.get(ALONE), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[ALONE], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield {"_node_ip_address": ADDRESS}
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            os.environ.pop(ALONE, None)
        else:
            os.environ[ALONE] = before[0]


def replica_on_loopback() -> None:
    """Let this replica listen on 127.0.0.1 alone, if its Ray does; call it before it is ready.

    Serve gives each replica a port for the others, on all interfaces; it asks for Ray's token.
    """
    if os.environ.get(ALONE) != "0":
        return
    from ray.serve._private import replica

    theirs = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: theirs(
        server, address.replace("[::]", ADDRESS)
    )


@contextmanager
def without_helpers(*, dashboard: bool) -> Iterator[None]:
    """Start a Ray for one machine with fewer processes; a context around ``ray.init``.

    Ray starts an autoscaler, a process that sends logs to the driver and a server of the dashboard
    even where they have nothing to do. Each is a separate Python process that takes half a second
    of CPU time or more while the job's workers start, and ``ray.init`` waits for the last.

    Parameters
    ----------
    dashboard : start its server.
    """
    from ray._private import parameter, services

    theirs = parameter.RayParams, services.start_api_server
    parameter.RayParams = partial(theirs[0], no_monitor=True, include_log_monitor=False)
    if not dashboard:
        services.start_api_server = lambda *args, **options: (None, None)
    try:
        yield
    finally:
        parameter.RayParams, services.start_api_server = theirs


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep ``ray.init`` from taking SIGTERM away from the program; a context around that call.

    If the program has set a handler, Ray's Python would replace it by one that exits wherever the
    program happens to be. In any case Ray's C++ puts its own in front: it dumps the stack, lets
    Python's handler begin, and aborts the process three seconds later by an alarm.
    """
    from ray._private import utils

    theirs = utils.set_sigterm_handler
    if callable(signal.getsignal(signal.SIGTERM)):
        utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = theirs
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
            signal.alarm(0)


def unhurried(context: DataContext) -> None:
    """Let Ray Data's scheduler, a thread of this process, rest after each of its steps.

    While its output is held back it does not wait: it takes half of a core, and the GIL, from a
    training in the same process, which then took twice as long for as long as crops were made.
    """
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Rest(ExecutionCallback):  # type: ignore[misc]  # Ray's types are not read
        def on_execution_step(self, executor: Any) -> None:
            time.sleep(REST_S)

    context.custom_execution_callback_classes.append(Rest)


def proxies() -> list[Any]:
    """Return the actors in front of Serve's HTTP."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [
        ray.get_actor(one["name"], namespace=SERVE)
        for one in named
        if one["namespace"] == SERVE and one["name"].startswith(PROXY)
    ]


def autoscaler_config(gcs_address: str) -> dict[str, Any] | None:
    """Return the autoscaler's config; empty if the cluster has no autoscaler, None if unknown.

    Ray's control service has a place for it, but neither autoscaler of Ray 2.60 writes there.
    Call this on the head node, and take an error for "unknown". `ray up` and `ray start` name a
    file on the command line of the head's monitor process. KubeRay's autoscaler runs in a
    container of its own and reads the cluster's resource from Kubernetes at each step.
    """
    port = gcs_address.rpartition(":")[2]
    for command in _commands():
        words = dict(word.partition("=")[::2] for word in command)
        if words.get("--gcs-address", "").rpartition(":")[2] != port or not any(
            "autoscaler" in word and word.endswith("monitor.py") for word in command
        ):
            continue
        file = words.get("--autoscaling-config")
        if file is None:
            return {}
        return dict(yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8")))
    if CLUSTER not in os.environ:
        return None
    from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

    namespace = os.environ.get(NAMESPACE) or POD_NAMESPACE.read_text(encoding="utf-8").strip()
    return dict(AutoscalingConfigProducer(os.environ[CLUSTER], namespace)())


def _commands() -> Iterator[list[str]]:
    """Yield the command line of every process that can be seen."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # the process has ended
            continue


def answers_strangers(gcs_address: str) -> bool:
    """Whether the head at HOST:PORT gives the cluster's id to a client that shows no token.

    Raises
    ------
    ResourcesError
        If this version of Ray does not know the question.
    """
    import grpc

    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(gcs_address, options=options) as channel:
        try:
            channel.unary_unary(CLUSTER_ID)(b"", timeout=ANSWER_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise ResourcesError(
                    "cannot tell whether the Ray cluster asks for a token: this version of Ray is "
                    "not supported; install Ray 2.60, with which skinray is tested"
                ) from None
            return False  # refused; or Ray runs under TLS, and did not even listen
    return True
