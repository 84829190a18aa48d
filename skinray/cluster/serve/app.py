"""The service as a Ray Serve application: ``import_path: skinray.cluster.serve:app``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig

from skinray.cluster.ray_token import refuse_open_cluster
from skinray.cluster.serve.bundles import BundleRef
from skinray.cluster.serve.ingress import Fused, Ingress
from skinray.cluster.serve.stages import LAST, NETWORKS
from skinray.config.base import validate
from skinray.config.scoring import ServeSettings
from skinray.errors import SettingsError
from skinray.learning.bundle import check
from skinray.service.middleware.tokens import ENVIRONMENT, read_tokens

# Beyond the images that the service itself admits: pages, health, and refusals in the making.
SPARE_REQUESTS = 100
# Images a stage's replica holds: one in work, the next at hand.
AHEAD = 2


def app(args: dict[str, Any]) -> Application:
    """Build the application from the ``args`` of a Serve YAML file.

    What is set here of replicas, CPUs and queues are defaults for a small machine: YAML sets
    them by the deployments' names.

    Raises
    ------
    SettingsError, BundleError
        If the arguments do not fit, together or the bundle, or its hashes are wrong.
    ResourcesError
        If the cluster asks for no token.
    """
    settings = guarded(validate(ServeSettings, args, "args of skinray.cluster.serve:app"))
    if ray.is_initialized():
        refuse_open_cluster()
    path = Path(settings.bundle).absolute()
    info = check(path)
    if info.kind != "biopsy" and settings.service.labels is not None:
        raise SettingsError(
            f"service.labels: corrections are of crossings, and {path} is a {info.kind} bundle: "
            "serve it without a labels folder"
        )
    ref = BundleRef.of(path, info)
    front = _front_options(settings)
    if settings.layout == "fused":
        cpus = {"num_cpus": 2}
        return _deployment(Fused, http=True, ray_actor_options=cpus, **front).bind(settings, ref)
    stage: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": 1},
        "max_ongoing_requests": max(AHEAD, 2 * settings.batch_size),
    }
    networks = {
        name: _deployment(NETWORKS[name], **stage).bind(settings, ref) for name in info.stages
    }
    # It counts as ongoing what still waits for its maps, so it takes all that is admitted.
    last = _deployment(
        LAST[info.kind], ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=SPARE_REQUESTS
    ).bind()
    ingress = _deployment(Ingress, http=True, ray_actor_options={"num_cpus": 0.5}, **front)
    return ingress.bind(settings, ref, networks, last)


def guarded(settings: ServeSettings) -> ServeSettings:
    """Return the settings with their tokens file found and read once.

    Raises
    ------
    SettingsError
        If no file is named and ``without_tokens`` is not said, both are, or the file does not fit.
    """
    service = settings.service
    named = service.tokens or (None if service.without_tokens else os.environ.get(ENVIRONMENT))
    if not named:
        if service.without_tokens:
            return settings
        raise SettingsError(
            f"the service asks for tokens: name their file as service.tokens or in {ENVIRONMENT}, "
            "or say service.without_tokens: true where nobody else reaches the port"
        )
    if service.without_tokens:
        raise SettingsError("service.tokens and service.without_tokens: take one of them")
    path = Path(named).expanduser().absolute()
    read_tokens(path)
    changed = service.model_copy(update={"tokens": str(path)})
    return settings.model_copy(update={"service": changed})


def _deployment(kind: type, http: bool = False, **options: Any) -> Any:
    name = kind.__name__
    return serve.deployment(
        serve.ingress()(kind) if http else kind,
        name=name,
        graceful_shutdown_timeout_s=30,
        health_check_timeout_s=30,
        **options,
    )


def _front_options(settings: ServeSettings) -> dict[str, Any]:
    """Let the service refuse by itself; Serve's own queue is the last line behind it."""
    admitted = settings.service.max_in_flight + settings.service.max_queued
    return {
        "max_ongoing_requests": admitted + SPARE_REQUESTS,
        "max_queued_requests": SPARE_REQUESTS,
        "backpressure_config": BackpressureConfig(
            status_code=503, retry_after_s=settings.service.retry_after_s
        ),
    }
