"""Ray's own token: whoever reaches a cluster without one runs code there, so none is joined."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, MutableMapping

import ray

from skinray.errors import ResourcesError

LOG = logging.getLogger("skinray.cluster")
MODE = "RAY_AUTH_MODE"
# Says aloud that a cluster without a token may be used.
OPEN = "SKINRAY_OPEN_CLUSTER"
KNOCK_S = 10.0


def show_token(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have this client show Ray's token: clients do so only in this mode.

    Raises
    ------
    ResourcesError
        If the environment switches tokens off, and does not say that this is meant.
    """
    mode = environment.setdefault(MODE, "token")
    if mode.lower() != "token" and not _meant(environment):
        raise ResourcesError(
            f"{MODE} is {mode}: a cluster without a token runs the code of anyone who reaches it; "
            f"set {MODE}=token, or {OPEN}=1 where nobody else does"
        )


def refuse_open_cluster() -> None:
    """Knock at the joined cluster without a token, as a stranger would.

    Raises
    ------
    ResourcesError
        If it answers, and the environment does not say that this is meant.
    """
    if not answers_strangers(ray.get_runtime_context().gcs_address):
        return
    if not _meant(os.environ):
        raise ResourcesError(
            "the Ray cluster asks for no token and runs the code of anyone who reaches it: start "
            f"its nodes with {MODE}=token (`ray get-auth-token --generate` makes one), or set "
            f"{OPEN}=1 where nobody else reaches it"
        )
    LOG.warning("the Ray cluster asks for no token; %s says that this is meant", OPEN)


def answers_strangers(gcs_address: str) -> bool:
    """Whether the head at HOST:PORT tells of itself to a client that shows nothing."""
    import grpc
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated import gcs_service_pb2_grpc as services

    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(gcs_address, options=options) as channel:
        nodes = services.NodeInfoGcsServiceStub(channel)
        try:
            nodes.GetClusterId(messages.GetClusterIdRequest(), timeout=KNOCK_S)
        except grpc.RpcError:  # refused, or, where Ray runs under TLS, not even heard
            return False
    return True


def _meant(environment: Mapping[str, str]) -> bool:
    return environment.get(OPEN) == "1"
