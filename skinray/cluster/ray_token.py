"""Ray's token: we join no cluster without one, as anyone who reaches it can run code there."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, MutableMapping

import ray

from skinray.cluster.ray_internals import answers_strangers
from skinray.errors import ResourcesError

LOG = logging.getLogger("skinray.cluster")
MODE = "RAY_AUTH_MODE"
# Set to 1 to use a cluster without a token.
OPEN = "SKINRAY_OPEN_CLUSTER"


def show_token(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make this client show Ray's token, which clients do only in this mode.

    Raises
    ------
    ResourcesError
        If the environment switches tokens off and does not allow an open cluster.
    """
    mode = environment.setdefault(MODE, "token")
    if mode.lower() != "token" and not _allowed(environment):
        raise ResourcesError(
            f"{MODE} is {mode}: anyone who reaches a cluster without a token can run code on it. "
            f"Set {MODE}=token, or set {OPEN}=1 if nobody else can reach the cluster"
        )


def refuse_open_cluster() -> None:
    """Try the joined cluster without a token, as a stranger would.

    Raises
    ------
    ResourcesError
        If it answers, and the environment does not allow an open cluster.
    """
    if not answers_strangers(ray.get_runtime_context().gcs_address):
        return
    if not _allowed(os.environ):
        raise ResourcesError(
            "the Ray cluster asks for no token, so anyone who reaches it can run code on it. Start "
            f"its nodes with {MODE}=token (`ray get-auth-token --generate` makes a token), or set "
            f"{OPEN}=1 if nobody else can reach the cluster"
        )
    LOG.warning("the Ray cluster asks for no token; %s=1 allows this", OPEN)


def _allowed(environment: Mapping[str, str]) -> bool:
    return environment.get(OPEN) == "1"
