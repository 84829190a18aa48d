"""The device that a worker or an actor of Ray computes on."""

from __future__ import annotations

import os
from typing import Literal

import ray
import torch

from skinray.cluster.malloc import keep_freed_memory
from skinray.errors import ResourcesError
from skinray.models import compute

# Set to 1 to rehearse on machines without GPUs: their Ray nodes claim to have some.
PRETENDED_GPUS = "SKINRAY_PRETENDED_GPUS"


def assigned_device() -> torch.device:
    """Return ``cuda`` if Ray assigned this process a GPU, else ``cpu``.

    The CPU never stands in for an assigned GPU, unless ``SKINRAY_PRETENDED_GPUS=1`` is set and
    torch finds no GPU.

    Raises
    ------
    ResourcesError
        If a GPU was assigned that torch does not find.
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


def ready_device(threads: int) -> torch.device:
    """Prepare this process to compute with ``threads`` CPUs; return its assigned device."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    return assigned_device()


def process_group(gpus_per_worker: float) -> Literal["nccl", "gloo"]:
    """Return torch's backend for the workers of a training, which the driver has to name.

    NCCL needs real GPUs; workers on CPUs or pretended GPUs take gloo.
    """
    pretended = os.environ.get(PRETENDED_GPUS) == "1"
    return compute.process_group(gpus=gpus_per_worker > 0 and not pretended)
