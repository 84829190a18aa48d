"""Which device a worker computes on: an assigned GPU, or the CPU if that is asked for."""

from __future__ import annotations

import pytest
import ray
import torch

from skinray.cluster.device import PRETENDED_GPUS, assigned_device, process_group
from skinray.errors import ResourcesError


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(PRETENDED_GPUS, raising=False)


def assign(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: gpus)


def test_without_an_assigned_gpu_the_cpu_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assign(monkeypatch, [])
    assert assigned_device() == torch.device("cpu")


def test_an_assigned_gpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assign(monkeypatch, ["0"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(PRETENDED_GPUS, "1")
    assert assigned_device() == torch.device("cuda")


def test_an_assigned_gpu_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assign(monkeypatch, ["0"])
    with pytest.raises(ResourcesError, match="torch does not find: install the driver"):
        assigned_device()


def test_a_pretended_gpu_computes_on_the_cpu_only_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assign(monkeypatch, ["0"])
    monkeypatch.setenv(PRETENDED_GPUS, "1")
    assert assigned_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("gpus", "pretended", "backend"),
    [(0, False, "gloo"), (0, True, "gloo"), (1, False, "nccl"), (1, True, "gloo")],
)
def test_workers_use_nccl_only_between_real_gpus(
    gpus: float, pretended: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pretended:
        monkeypatch.setenv(PRETENDED_GPUS, "1")
    assert process_group(gpus) == backend
