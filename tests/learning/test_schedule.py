from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skinray.learning.checkpoint import TrainState
from skinray.learning.loop import Batch, fit
from tests.support.tiny import same_weights, train_settings
from tests.support.toy_training import CPU, network, train


class Unmoved(nn.Module):
    """A network that no training changes: its loss stays flat."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] + 0 * self.weight


def test_a_flat_loss_lowers_the_learning_rate() -> None:
    settings = train_settings(
        epochs=6, learning_rate=1e-2, weight_decay=0, plateau_patience_epochs=1, plateau_factor=0.1
    )
    rates = [end.learning_rate for end in train(Unmoved(), settings).history]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4])


def test_the_rate_follows_a_cosine_to_the_end() -> None:
    settings = train_settings(epochs=4, learning_rate=1e-2, schedule="cosine")
    rates = [end.learning_rate for end in train(network(), settings).history]
    assert rates == pytest.approx([1e-2, 0.5e-2 * (1 + 0.5**0.5), 0.5e-2, 0.5e-2 * (1 - 0.5**0.5)])


def scored(values: list[float], **settings: Any) -> tuple[TrainState, list[TrainState]]:
    """Train with a validation that gives these values in turn; every epoch's state besides."""
    states: list[TrainState] = []
    told = iter(values)

    def validate(net: nn.Module) -> float:
        assert not net.training
        return next(told)

    state = train(
        network(), train_settings(validate_every_epochs=1, **settings),
        validate=validate, on_epoch=lambda end, snapshot: states.append(snapshot()),
    )  # fmt: skip
    return state, states


def test_the_best_epochs_weights_are_kept() -> None:
    state, states = scored([0.1, 0.5, 0.4, 0.5], epochs=4, keep="best")
    assert [end.validation for end in state.history] == [0.1, 0.5, 0.4, 0.5]
    assert state.best_score == 0.5
    assert same_weights(state.kept, states[1].model)
    assert not same_weights(state.model, states[1].model)


def test_the_last_weights_are_kept_where_that_is_wished() -> None:
    state, states = scored([0.5, 0.1], epochs=2, keep="last")
    assert state.best is None
    assert same_weights(state.kept, states[1].model)


def test_training_stops_early_and_stays_stopped() -> None:
    state, states = scored([0.1, 0.5, 0.4, 0.3, 0.6], epochs=9, keep="best", early_stop_epochs=2)
    assert len(state.history) == 4
    settings = train_settings(epochs=9, early_stop_epochs=2)
    again = train(network(), settings, start=state, batches=lambda epoch, row: 1 / 0)
    assert len(again.history) == 4
    assert same_weights(state.kept, states[1].model)


def test_without_validation_the_loss_decides() -> None:
    settings = train_settings(epochs=9, weight_decay=0, early_stop_epochs=3, keep="best")
    state = train(Unmoved(), settings)
    assert len(state.history) == 4
    assert state.best is not None
    assert state.best_score == -state.history[0].loss


@pytest.mark.parametrize(("epochs", "due"), [(7, [2, 5, 6]), (6, [2, 5]), (1, [0])])
def test_validation_comes_every_few_epochs_and_at_the_end(epochs: int, due: list[int]) -> None:
    settings = train_settings(epochs=epochs, validate_every_epochs=3)
    state = train(network(), settings, validate=lambda net: 0.5)
    assert [end.epoch for end in state.history if end.validation is not None] == due


def test_stale_epochs_count_from_the_best_also_where_few_are_scored() -> None:
    scores = iter([0.5, 0.4, 0.3, 0.2])
    settings = train_settings(epochs=20, validate_every_epochs=3, early_stop_epochs=6)
    state = train(network(), settings, validate=lambda net: next(scores))
    assert len(state.history) == 9


class Climber(nn.Module):
    """A number that goes up by the rate at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        self.seen += 1
        return -self.at


def climb(**settings: Any) -> tuple[TrainState, list[float], list[float]]:
    """Take three steps of 1 in each of two epochs; what validation saw of number and buffer."""
    climber, seen, buffers = Climber(), [], []
    one = Batch(torch.zeros(1, 4, 4, 3).byte(), torch.zeros(1, 4, 4).byte(), 1)

    def validate(net: nn.Module) -> float:
        assert isinstance(net, Climber)
        seen.append(float(net.at.detach()))
        buffers.append(float(net.seen))
        return -seen[-1]

    how = train_settings(
        epochs=2, optimizer="sgd", momentum=0, learning_rate=1, weight_decay=0,
        validate_every_epochs=1, **settings,
    )  # fmt: skip
    state = fit(
        climber, climber, how, lambda epoch, row: [one] * 3, seed=0, device=CPU, validate=validate
    )
    return state, seen, buffers


def test_a_running_mean_of_the_weights_is_validated_and_kept() -> None:
    state, seen, buffers = climb(average=0.25)
    mean, expected = 1.0, []
    for update, weight in enumerate([2.0, 3.0, 4.0, 5.0, 6.0], 1):
        share = min(0.25, (1 + update) / (10 + update))
        mean = share * mean + (1 - share) * weight
        expected.append(mean)
    assert seen == pytest.approx([expected[1], expected[4]])
    assert float(state.model["at"]) == 6
    assert float(state.kept["at"]) == pytest.approx(expected[4])
    assert state.kept.keys() == state.model.keys()
    assert buffers == [3, 6]


def test_the_best_epochs_mean_is_kept() -> None:
    state, seen, _ = climb(average=0.25, keep="best")
    assert seen[0] < seen[1]
    assert float(state.kept["at"]) == seen[0]


def test_without_a_mean_the_weights_themselves_are_kept() -> None:
    state, seen, _ = climb()
    assert seen == [3, 6]
    assert state.average is None
    assert float(state.kept["at"]) == 6
