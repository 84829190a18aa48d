"""The device that Ray gave to this process: a GPU only where torch finds one too."""

from __future__ import annotations

import os

import ray
import torch

from skinray.errors import ResourcesError

# Rehearsals of an autoscaling cluster on a machine without GPUs: its nodes say they have some.
PRETENDED_GPUS = "SKINRAY_PRETENDED_GPUS"


def assigned_device() -> torch.device:
    """Return ``cuda`` if Ray assigned this process a GPU, else ``cpu``.

    Where ``SKINRAY_PRETENDED_GPUS=1`` is set and torch finds none, an assigned GPU is taken for a
    pretended one and the CPU computes; nothing falls back to the CPU unless it is told to.

    Raises
    ------
    ResourcesError
        If a GPU was assigned, torch finds none, and none was said to be pretended.
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
