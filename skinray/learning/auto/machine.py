"""What a machine can do in an hour: its cores and GPUs, and the measured cost of a network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

import torch

from skinray.config.training import ArmSettings
from skinray.learning.loop import Objective
from skinray.learning.optimisers import new_optimizer
from skinray.models import build
from skinray.models.compute import placed

# Hours of a run that names none.
CPU_HOURS, GPU_HOURS = 0.5, 4.0


@dataclass(frozen=True)
class MachineFacts:
    """What the run computes on: CPU cores, or GPUs."""

    cores: int
    gpus: int = 0

    @property
    def device(self) -> torch.device:
        """The device of one training."""
        return torch.device("cuda" if self.gpus else "cpu")

    @property
    def at_once(self) -> int:
        """Trainings side by side."""
        return self.gpus or self.cores

    @property
    def hours(self) -> float:
        """The budget of a run that names none."""
        return GPU_HOURS if self.gpus else CPU_HOURS


@dataclass(frozen=True)
class Cost:
    """Seconds of a step, and of a prediction per megapixel that the network sees."""

    step_s: float
    megapixel_s: float


Timer = Callable[[ArmSettings, int, torch.device], Cost]


def machine_facts() -> MachineFacts:
    """Look at this machine."""
    return MachineFacts(os.cpu_count() or 1, torch.cuda.device_count())


def measure(
    arm: ArmSettings, crop_px: int, device: torch.device, threads: int = 1, at_once: int = 1
) -> Cost:
    """Time an arm's training step and its prediction.

    Parameters
    ----------
    threads : of a training on a CPU.
    at_once : trainings side by side on a CPU, which share its caches and memory.
    """
    if device.type != "cpu":
        return _timed(arm, crop_px, device)
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(at_once, "", torch.set_num_threads, (threads,)) as pool:
            found = list(pool.map(lambda _: _timed(arm, crop_px, device), range(at_once)))
    finally:
        torch.set_num_threads(before)
    return Cost(fmean(cost.step_s for cost in found), fmean(cost.megapixel_s for cost in found))


def _timed(arm: ArmSettings, crop_px: int, device: torch.device) -> Cost:
    network = placed(build(arm.model.name, **arm.model.options), device)
    objective = Objective(network, arm.train)
    optimizer = new_optimizer(objective.parameters(), arm.train)
    batch = arm.train.batch_size
    image = torch.randint(0, 255, (batch, crop_px, crop_px, 3), dtype=torch.uint8).to(device)
    truth = torch.randint(0, 2, (batch, crop_px, crop_px), dtype=torch.uint8).to(device)
    half = arm.train.precision == "bfloat16"

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            loss = objective(image, truth)
        loss.backward()
        optimizer.step()
        _wait(device)

    def look() -> None:
        with torch.inference_mode():
            network(image.permute(0, 3, 1, 2).float() / 255)
        _wait(device)

    seen = batch * crop_px**2 / 1e6
    return Cost(step_s=_shortest(step), megapixel_s=_shortest(look) / seen)


def _shortest(call: Callable[[], None], times: int = 2) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
