"""Which device a process computes on, and what carries the gradients between several.

``SKINRAY_PRETENDED_GPUS=1`` rehearses a cluster with GPUs on machines without. Ray hands a
variable of the environment to the workers of its own node only, so every node and the job itself
need it: set it where ``ray start`` runs, and in the job's runtime environment.
"""

from __future__ import annotations

import os

import ray
import torch

from skinray.cluster.resources import Resources
from skinray.errors import ResourcesError
from skinray.learning import compute

# Rehearsals of an autoscaling cluster on a machine without GPUs: its nodes say they have some.
PRETENDED_GPUS = "SKINRAY_PRETENDED_GPUS"


def assigned_device() -> torch.device:
    """Return ``cuda`` if Ray assigned this process a GPU, else ``cpu``.

    Where ``SKINRAY_PRETENDED_GPUS=1`` is set and torch finds none, an assigned GPU is taken for a
    pretended one and the CPU computes; the CPU is never used instead unless asked for.

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


def process_group(resources: Resources) -> str:
    """Return torch's backend for the workers of a training; the driver has to name it.

    NCCL works between GPUs alone, so workers whose GPUs are pretended take gloo, as CPUs do.
    """
    pretended = os.environ.get(PRETENDED_GPUS) == "1"
    return compute.process_group(gpus=resources.gpus_per_worker > 0 and not pretended)
