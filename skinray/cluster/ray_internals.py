"""Everything that skinray takes from inside Ray, where Ray has no public call for it.

A new version of Ray may change each of these; ``tests/cluster`` tries them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from skinray.errors import ResourcesError

# Announces token authentication at each local start, as a warning; no option switches it off.
TOKEN_LOGGER = "ray._private.authentication.authentication_token_setup"  # noqa: S105 - a name
# A local Ray listens here. The public options let Ray choose an address that the network reaches.
LOOPBACK = {"_node_ip_address": "127.0.0.1"}
CLUSTER, NAMESPACE = "RAY_CLUSTER_NAME", "RAY_CLUSTER_NAMESPACE"
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# A question to the control service. Every public client shows its token if it has one, so none can
# find out whether the service also answers without.
CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
ANSWER_S = 10.0


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
