"""How several devices compute together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skinray.models.compute import process_group, synchronised
from tests.support.tiny import ConvNetwork, train_settings

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("batch", "device", "workers", "shared"),
    [(2, GPU, 4, True), (16, GPU, 4, False), (2, GPU, 1, False), (2, CPU, 4, False)],
)
def test_batch_norm_sees_all_workers_crops_where_each_has_few_and_the_device_can(
    batch: int, device: torch.device, workers: int, shared: bool
) -> None:
    settings = train_settings(batch_size=batch)
    found = synchronised(ConvNetwork(), settings, device, workers)
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in found.modules()) == shared
    assert found.state_dict().keys() == ConvNetwork().state_dict().keys()


def test_nccl_is_for_gpus_only() -> None:
    assert (process_group(gpus=True), process_group(gpus=False)) == ("nccl", "gloo")
