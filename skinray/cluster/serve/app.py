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
from skinray.cluster.serve.ingress import Fused, Ingress, build_app
from skinray.cluster.serve.stages import LAST, LastStage, NetworkStage
from skinray.config.base import validate
from skinray.config.scoring import ServeSettings
from skinray.errors import SettingsError
from skinray.learning.bundle import check
from skinray.service.middleware.tokens import ENVIRONMENT, read_tokens
from skinray.service.routes.kinds import KINDS

# Requests beyond the images that the service itself admits: pages, health checks and refusals.
SPARE_REQUESTS = 100
# Images that a stage's replica holds: one in progress, the next one ready.
AHEAD = 2


def app(args: dict[str, Any]) -> Application:
    """Build the application from the ``args`` of a Serve YAML file.

    The replicas, CPUs and queues set here are defaults for a small machine: the YAML file overrides
    them by deployment name ("Ingress", "Fused", "NerveStage", ...).

    Raises
    ------
    SettingsError, BundleError
        If the arguments are invalid, do not suit the bundle, or its hashes are wrong.
    ResourcesError
        If the cluster needs no token.
    """
    settings = guarded(validate(ServeSettings, args, "args of skinray.cluster.serve:app"))
    if ray.is_initialized():
        refuse_open_cluster()
    path = Path(settings.bundle).absolute()
    info = check(path)
    if not settings.anyway:
        info.refuse_failed(path)
    if settings.service.labels is not None and not KINDS[info.kind].labels:
        raise SettingsError(
            f"service.labels: only crossings can be corrected, and {path} is a {info.kind} bundle: "
            "serve it without a labels folder"
        )
    ref = BundleRef.of(path, info)
    front = _front_options(settings)
    if settings.layout == "fused":
        return _front(Fused, num_cpus=2, **front).bind(settings, ref)
    most = max(AHEAD, 2 * settings.batch_size)
    networks = {
        stage: _stage(NetworkStage, stage, 1, most).bind(settings, ref, stage)
        for stage in info.stages
    }
    # Requests that still wait for their maps count as ongoing, so it takes all that are admitted.
    name = LAST[info.kind]
    last = _stage(LastStage, name, 0.5, SPARE_REQUESTS).bind(name)
    return _front(Ingress, num_cpus=0.5, **front).bind(settings, ref, networks, last)


def refuse_no_folder(labels: Path) -> None:
    """Raise SettingsError if corrections cannot be stored there, because a file is in the way."""
    there = next(place for place in (labels, *labels.absolute().parents) if place.exists())
    if not there.is_dir():
        raise SettingsError(
            f"{there}: a file, but corrected labels are stored in a folder: name a cohort folder "
            "with --labels (service.labels), an existing one or a new one"
        )


def guarded(settings: ServeSettings) -> ServeSettings:
    """Return the settings with the path of their tokens file, which is read once to check it.

    Raises
    ------
    SettingsError
        If the labels folder is a file, neither a file nor ``without_tokens`` is given, or both
        are, or the file is invalid.
    """
    service = settings.service
    if service.labels is not None:
        refuse_no_folder(Path(service.labels))
    named = service.tokens or (None if service.without_tokens else os.environ.get(ENVIRONMENT))
    if not named:
        if service.without_tokens:
            return settings
        raise SettingsError(
            f"the service needs a tokens file: name it as service.tokens or in {ENVIRONMENT}, or "
            "set service.without_tokens: true if nobody else can reach the port"
        )
    if service.without_tokens:
        raise SettingsError("service.tokens and service.without_tokens: use only one of them")
    path = Path(named).expanduser().absolute()
    read_tokens(path)
    changed = service.model_copy(update={"tokens": str(path)})
    return settings.model_copy(update={"service": changed})


def _stage(kind: type, stage: str, cpus: float, most: int) -> Any:
    """Return the deployment of a stage; YAML files know it as, for example, "NerveStage"."""
    name = f"{stage.capitalize()}Stage"
    return _deployment(kind, name, cpus, max_ongoing_requests=most)


def _front(kind: type, num_cpus: float, **options: Any) -> Any:
    """Return a deployment with the HTTP service in it, named after its class."""
    return _deployment(serve.ingress(build_app)(kind), kind.__name__, num_cpus, **options)


def _deployment(kind: type, name: str, cpus: float, **options: Any) -> Any:
    return serve.deployment(
        kind,
        name=name,
        ray_actor_options={"num_cpus": cpus},
        graceful_shutdown_timeout_s=30,
        health_check_timeout_s=30,
        **options,
    )


def _front_options(settings: ServeSettings) -> dict[str, Any]:
    """Let the service itself refuse requests; Serve's own queue is only the last resort."""
    admitted = settings.service.max_in_flight + settings.service.max_queued
    return {
        "max_ongoing_requests": admitted + SPARE_REQUESTS,
        "max_queued_requests": SPARE_REQUESTS,
        "backpressure_config": BackpressureConfig(
            status_code=503, retry_after_s=settings.service.retry_after_s
        ),
    }
