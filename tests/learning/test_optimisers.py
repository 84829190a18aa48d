"""The rate at which each weight learns, by what its neuron takes in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skinray.learning.optimisers import lower_rate, new_optimizer, new_scheduler, rate_shares
from tests.support.tiny import train_settings


def layers() -> nn.Sequential:
    """Neurons of 27, 200, 400 and 100 inputs."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 5), nn.Conv2d(16, 4, 5), nn.Linear(100, 2),
    )  # fmt: skip


def test_weights_of_many_inputs_learn_at_less_of_the_rate() -> None:
    net = layers()
    shares = rate_shares(net.parameters(), 100)
    assert list(shares) == [1, 0.5, 0.25]
    assert {id(p) for p in shares[0.5]} == {id(net[1].weight)}
    assert {id(p) for p in shares[0.25]} == {id(net[2].weight)}
    assert len(shares[1.0]) == 2 + 4  # the others' weights, and every bias
    assert list(rate_shares(net.parameters(), None)) == [1]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_first_group_has_the_full_rate_even_if_nothing_learns_at_it(optimizer: str) -> None:
    wide = nn.Linear(200, 1, bias=False)
    settings = train_settings(optimizer=optimizer, learning_rate=0.1, rate_fan_in=100)
    rates = [group["lr"] for group in new_optimizer(wide.parameters(), settings).param_groups]
    assert rates == pytest.approx([0.1, 0.05])


def test_a_step_of_adam_moves_each_weight_by_its_own_rate() -> None:
    net = layers()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    settings = train_settings(optimizer="adam", learning_rate=0.1, weight_decay=0, rate_fan_in=100)
    optimizer = new_optimizer(net.parameters(), settings)
    sum(parameter.sum() for parameter in net.parameters()).backward()
    optimizer.step()
    moved = [float((a - b.detach()).mean()) for a, b in zip(before, net.parameters(), strict=True)]
    assert moved == pytest.approx([0.1, 0.1, 0.05, 0.1, 0.025, 0.1, 0.1, 0.1], rel=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_all_rates_fall_together(schedule: str) -> None:
    settings = train_settings(
        epochs=4, schedule=schedule, learning_rate=0.1, rate_fan_in=100, plateau_patience_epochs=0
    )
    optimizer = new_optimizer(layers().parameters(), settings)
    scheduler = new_scheduler(optimizer, settings)
    for _ in range(2):
        optimizer.step()
        lower_rate(scheduler, 1.0)
    first, *others = [group["lr"] for group in optimizer.param_groups]
    assert first < 0.1
    assert others == pytest.approx([first / 2, first / 4])


def test_without_it_every_weight_is_in_one_group() -> None:
    optimizer = new_optimizer(layers().parameters(), train_settings())
    assert [len(group["params"]) for group in optimizer.param_groups] == [8]
    assert isinstance(optimizer, torch.optim.Adam)
