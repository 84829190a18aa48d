"""The service as the committed YAML files describe it, at the size of a test."""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests
import yaml
from numpy.typing import NDArray
from stand_in import SEES_GREEN, bundle_of

from skinray.config import ModelSettings
from skinray.learning.bundle import STAGES, read_info, save
from skinray.models import build

CONFIGS = Path(__file__).parents[2] / "serve_configs"
BLIND = {"weights": (0.0, 0.0, 0.0), "bias": -30.0}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_config(layout: str, bundle: Path, port: int, **service: Any) -> dict[str, Any]:
    """Return ``local.yaml`` or ``gpu.yaml`` with fewer CPUs and no GPU."""
    name = "local.yaml" if layout == "fused" else "gpu.yaml"
    config: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    config["proxy_location"] = "HeadOnly"
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    application = config["applications"][0]
    application["args"]["bundle"] = str(bundle)
    application["args"]["service"] |= service
    for deployment in application["deployments"]:
        if deployment.pop("autoscaling_config", None) or "num_replicas" in deployment:
            deployment["num_replicas"] = 1
        deployment["ray_actor_options"] = {"num_cpus": 0.5}
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
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate(config), _blocking=True)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        states = [one.status for one in serve.status().applications.values()]
        if states and all(state == "RUNNING" for state in states):
            return
        assert "DEPLOY_FAILED" not in states, serve.status()
        time.sleep(0.1)
    raise AssertionError(serve.status())


def blind_bundle(folder: Path) -> Path:
    """Write a bundle that sees no nerve anywhere."""
    nerve = ModelSettings(name="pixel", options=BLIND)
    return bundle_of(folder, nerve, ModelSettings(name="pixel", options=SEES_GREEN))


def sick_bundle(folder: Path) -> Path:
    """Write a bundle with right hashes, whose nerve network gives no number."""
    info = read_info(blind_bundle(folder))
    nerve, dermis = (build(info.models[s].name, **info.models[s].options) for s in STAGES)
    for values in nerve.parameters():
        values.data.fill_(float("nan"))
    return save(folder, info, nerve, dermis)


def png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1])[1])


def post(
    address: str, data: bytes, um_per_px: float = 0.5, timeout: float = 60
) -> requests.Response:
    return requests.post(
        f"{address}/v1/biopsies",
        files={"image": ("image.png", io.BytesIO(data), "image/png")},
        data={"um_per_px": str(um_per_px)},
        timeout=timeout,
    )
