"""The service as serve_configs describes it, at the size of a small machine."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from skinray.learning.bundle.info import read_info

CONFIGS = Path(__file__).parents[2] / "serve_configs"


DEPLOY_S = 240  # many replicas start slowly on two cores


def behind_haproxy() -> bool:
    """Return whether Serve runs HAProxy in place of its own proxy."""
    return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"


def proxy() -> str:
    """Return what the proxy in use is called."""
    return "HAProxy" if behind_haproxy() else "Serve's own proxy"


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_config(
    layout: str,
    bundle: Path,
    port: int,
    replicas: int = 1,
    cpus: float = 0.5,
    args: dict[str, Any] | None = None,
    **service: Any,
) -> dict[str, Any]:
    """Return the file for the layout and the bundle's kind, with fewer CPUs and no GPU."""
    separate = {"biopsy": "gpu.yaml", "photo": "photos.yaml"}[read_info(bundle).kind]
    name = "local.yaml" if layout == "fused" else separate
    config: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    config["proxy_location"] = "HeadOnly"
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    application = config["applications"][0]
    application["args"]["bundle"] = str(bundle)
    application["args"] |= args or {}
    # Who measures or tests is the only one on this machine's loopback.
    application["args"]["service"].pop("tokens")
    application["args"]["service"] |= {"without_tokens": True} | service
    for deployment in application["deployments"]:
        deployment.pop("autoscaling_config", None)
        deployment["num_replicas"] = replicas
        deployment["ray_actor_options"] = {"num_cpus": cpus}
        deployment["graceful_shutdown_timeout_s"] = 5
        if deployment["name"] in ("Ingress", "Fused"):
            deployment["user_config"] = {"bundle": str(bundle)}
    return config


def name_bundle(config: dict[str, Any], bundle: Path) -> dict[str, Any]:
    """Name another bundle to the running service."""
    for deployment in config["applications"][0]["deployments"]:
        if "user_config" in deployment:
            deployment["user_config"] = {"bundle": str(bundle)}
    return config


def deploy(config: dict[str, Any]) -> None:
    """Do as ``serve deploy`` does, and wait until it is done."""
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    serve.start(proxy_location="HeadOnly", http_options=config["http_options"])
    client = _get_global_client()
    with suppress(TimeoutError):  # its own patience is shorter
        client.deploy_apps(ServeDeploySchema.model_validate(config), _blocking=True)
    until = time.monotonic() + DEPLOY_S
    while time.monotonic() < until:
        states = [one.status for one in serve.status().applications.values()]
        if states and all(state == "RUNNING" for state in states):
            return
        if "DEPLOY_FAILED" in states:
            break
        time.sleep(0.1)
    raise RuntimeError(f"not deployed: {serve.status()}")
