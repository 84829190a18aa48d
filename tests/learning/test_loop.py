from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skinray.errors import TrainingError
from skinray.learning.checkpoint import EpochEnd, TrainState
from skinray.learning.loop import (
    Batch,
    Objective,
    Snapshot,
    World,
    agreed,
    fit,
    passes,
)
from skinray.learning.losses import bce_loss, dice_loss
from skinray.models import build
from skinray.models.compute import bfloat16_pays
from tests.support.tiny import ConvNetwork, same_weights, train_settings
from tests.support.toy_training import CPU, IMAGES, TRUTHS, batches, measured, network, train

# learning


def test_a_drawn_line_can_be_overfitted() -> None:
    settings = train_settings(epochs=60, learning_rate=0.03, weight_decay=0)
    state = train(
        network(), settings, batches=lambda epoch, row: [Batch(IMAGES[:2], TRUTHS[:2], 2)]
    )
    losses = [end.loss for end in state.history]
    assert losses[0] > 0.5
    assert losses[-1] < 0.05


def test_the_weights_that_come_back_are_the_networks() -> None:
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = train(net)
    assert same_weights(state.model, net.state_dict())
    assert not same_weights(state.model, before)


def test_the_history_tells_of_every_epoch() -> None:
    state = train(network(), train_settings(epochs=3))
    assert [end.epoch for end in state.history] == [0, 1, 2]
    assert [end.images for end in state.history] == [6, 6, 6]
    assert state.epoch == 3
    assert (state.row, state.steps, state.loss_sum) == (0, 0, 0.0)


def test_the_reported_loss_is_the_mean_over_steps() -> None:
    settings = train_settings(epochs=1, learning_rate=1e-30)  # does not move
    net = network()
    with torch.no_grad():
        expected = [
            Objective(net.train(), settings)(image, truth).item()
            for image, truth, _ in batches(0, 0)
        ]
    assert train(net, settings).history[0].loss == pytest.approx(sum(expected) / 3, abs=1e-7)


@pytest.mark.parametrize("loss", ["dice", "bce"])
def test_the_objective_is_the_named_loss_of_the_network(loss: str) -> None:
    net = network().eval()
    x = IMAGES.permute(0, 3, 1, 2).float() / 255
    truth = TRUTHS[:, None].float()
    logits = net(x)
    expected = dice_loss(logits.sigmoid(), truth) if loss == "dice" else bce_loss(logits, truth)
    found = Objective(net, train_settings(loss=loss))(IMAGES, TRUTHS)
    torch.testing.assert_close(found, expected)


def test_side_outputs_count_where_they_are_weighed() -> None:
    hed = build("hed", width=1 / 16, convolutions=(1, 1), channels=(64, 128)).eval()
    plain = Objective(hed, train_settings())(IMAGES, TRUTHS)
    weighed = Objective(hed, train_settings(side_weight=0.5))(IMAGES, TRUTHS)
    *sides, fused = hed.forward_sides(IMAGES.permute(0, 3, 1, 2).float() / 255)
    truth = TRUTHS[:, None].float()
    side = torch.stack([dice_loss(s.sigmoid(), truth) for s in sides]).mean()
    torch.testing.assert_close(plain, dice_loss(fused.sigmoid(), truth))
    torch.testing.assert_close(weighed, plain + 0.5 * side)


def test_sgd_has_momentum() -> None:
    """Two steps of one constant gradient: rate, then rate times one and a half."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.at = nn.Parameter(torch.zeros(()))

        def forward(self, image: Tensor, truth: Tensor) -> Tensor:
            return -self.at

    settings = train_settings(
        epochs=2, optimizer="sgd", momentum=0.5, learning_rate=0.1, weight_decay=0.0
    )
    slope = Slope()
    image, truth = torch.zeros(1, 4, 4, 3), torch.zeros(1, 4, 4)
    one = Batch(image.byte(), truth.byte(), 1)
    fit(slope, slope, settings, lambda epoch, row: [one], seed=0, device=CPU)
    assert float(slope.at.detach()) == pytest.approx(0.1 + 0.15)


@pytest.mark.parametrize(("optimizer", "left"), [("adamw", 1 - 0.1 * 0.5), ("adam", 1 - 0.1)])
def test_adamw_shrinks_the_weights_themselves(optimizer: str, left: float) -> None:
    """Where the loss has no slope: adam takes the decay for one and makes a whole step of it."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.at = nn.Parameter(torch.ones(()))

        def forward(self, image: Tensor, truth: Tensor) -> Tensor:
            return 0 * self.at

    settings = train_settings(epochs=1, optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    flat = Flat()
    image, truth = torch.zeros(1, 4, 4, 3), torch.zeros(1, 4, 4)
    one = Batch(image.byte(), truth.byte(), 1)
    fit(flat, flat, settings, lambda epoch, row: [one], seed=0, device=CPU)
    assert float(flat.at.detach()) == pytest.approx(left)


# going on


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_two_epochs_and_two_more_are_four(tmp_path: Path, dropout: float, optimizer: str) -> None:
    two, four = (train_settings(epochs=epochs, optimizer=optimizer) for epochs in (2, 4))
    whole = train(network(dropout), four)
    train(network(dropout), two).save(tmp_path / "state")
    torch.manual_seed(99)  # another process has other random numbers
    net = ConvNetwork(dropout)
    rest = train(net, four, start=TrainState.load(tmp_path / "state"))
    assert same_weights(rest.model, whole.model)
    assert measured(rest) == measured(whole)
    assert rest.scheduler == whole.scheduler


STEADY = {
    "average": 0.5, "schedule": "cosine", "optimizer": "adamw", "keep": "best", "rate_fan_in": 9,
}  # fmt: skip


@pytest.mark.parametrize("how", [{}, STEADY])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("stop", [1, 4, 5, 6])
def test_a_run_killed_after_any_step_continues_from_there(
    tmp_path: Path, dropout: float, stop: int, how: dict[str, Any]
) -> None:
    settings = train_settings(epochs=3, **how)
    whole = train(network(dropout), settings)
    steps = 0

    def kill(snapshot: Snapshot) -> None:
        nonlocal steps
        steps += 1
        if steps == stop:
            snapshot().save(tmp_path / "state")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(dropout), settings, on_step=kill)
    torch.manual_seed(99)
    state = TrainState.load(tmp_path / "state")
    assert (state.epoch, state.row) == ((stop - 1) // 3, 2 * ((stop - 1) % 3 + 1))
    rest = train(ConvNetwork(dropout), settings, start=state)
    assert same_weights(rest.model, whole.model)
    assert same_weights(rest.kept, whole.kept)
    assert same_weights(rest.kept, rest.model) == (not how)
    assert measured(rest) == measured(whole)


def test_a_start_is_left_as_it_is() -> None:
    start = train(network(), train_settings(epochs=1))
    before = {k: v.clone() for k, v in start.model.items()}
    first = train(ConvNetwork(), train_settings(epochs=3), start=start)
    assert (start.epoch, len(start.history)) == (1, 1)
    assert same_weights(start.model, before)
    assert same_weights(
        first.model, train(ConvNetwork(), train_settings(epochs=3), start=start).model
    )


def test_a_finished_training_is_not_trained_further() -> None:
    settings = train_settings(epochs=2)
    done = train(network(), settings)
    again = train(network(), settings, start=done, batches=lambda epoch, row: 1 / 0)
    assert same_weights(again.model, done.model)
    assert again.history == done.history


def test_snapshots_do_not_change_as_training_continues() -> None:
    taken: list[tuple[TrainState, dict[str, Tensor]]] = []

    def keep(end: EpochEnd, snapshot: Snapshot) -> None:
        state = snapshot()
        taken.append((state, {k: v.clone() for k, v in state.model.items()}))

    train(network(), train_settings(epochs=3), on_epoch=keep)
    assert [state.epoch for state, _ in taken] == [1, 2, 3]
    assert [len(state.history) for state, _ in taken] == [1, 2, 3]
    assert all(same_weights(state.model, copied) for state, copied in taken)


def test_dropout_depends_only_on_the_seed() -> None:
    first, second = train(network(0.5)), train(network(0.5))
    assert same_weights(first.model, second.model)
    assert not same_weights(first.model, train(network(0.5), seed=6).model)


# numbers that are not finite


class Hiccup(nn.Module):
    """A network whose output is spoilt on the calls named."""

    def __init__(self, spoilt: Callable[[int], bool], value: float = math.nan) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 1, 1)
        self.calls, self.spoilt, self.value = 0, spoilt, value

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.inner(image)
        return logits * self.value if self.spoilt(self.calls) else logits


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_skipped_and_counted(value: float) -> None:
    net = Hiccup(lambda call: call == 2, value)
    state = train(net, train_settings(epochs=2, loss="bce"))
    assert [end.skipped_steps for end in state.history] == [1, 1]
    assert all(math.isfinite(end.loss) for end in state.history)
    assert all(torch.isfinite(value).all() for value in state.model.values())


def test_a_skipped_step_leaves_the_weights_and_their_mean() -> None:
    states: list[TrainState] = []
    net = Hiccup(lambda call: call == 2)
    settings = train_settings(epochs=1, average=0.5)
    train(net, settings, on_step=lambda snapshot: states.append(snapshot()))
    for weights in ([s.model for s in states], [s.average or {} for s in states]):
        assert same_weights(weights[0], weights[1])
        assert not same_weights(weights[1], weights[2])


def test_too_many_skipped_steps_end_the_run_with_the_epoch_named() -> None:
    net = Hiccup(lambda call: call >= 5)
    said = r"epoch 2: loss nan, gradient norm nan; 2 steps were not finite \(at most 1 are skipped"
    with pytest.raises(TrainingError, match=said) as caught:
        train(net, train_settings(epochs=9, max_skipped_steps=1))
    assert "lower learning_rate or set clip_norm" in str(caught.value)
    assert net.calls == 6


def test_an_epoch_without_a_finite_step_ends_the_run() -> None:
    net = Hiccup(lambda call: call > 3)
    with pytest.raises(TrainingError, match="epoch 2: no step had a finite gradient"):
        train(net, train_settings(epochs=9, max_skipped_steps=5))


def test_spoilt_running_statistics_end_the_run_at_once() -> None:
    class Norm(Hiccup):
        def __init__(self) -> None:
            super().__init__(lambda call: call == 2)
            self.norm = nn.BatchNorm2d(1)

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.norm(super().forward(image))
            return logits

    with pytest.raises(TrainingError, match=r"network\.norm\.running_mean is no longer finite"):
        train(Norm(), train_settings(epochs=1))


def test_an_empty_plan_is_an_error() -> None:
    with pytest.raises(TrainingError, match="epoch 1: no image to train on"):
        train(network(), batches=lambda epoch, row: [])


def test_the_gradient_is_clipped() -> None:
    def norm(clip: float | None) -> float:
        net = network()
        train(net, train_settings(epochs=1, loss="bce", clip_norm=clip))
        return float(
            torch.stack([p.grad.norm() for p in net.parameters() if p.grad is not None]).norm()
        )

    assert norm(None) > 0.1
    assert norm(1e-3) == pytest.approx(1e-3, rel=1e-3)
    assert norm(1e3) == pytest.approx(norm(None), rel=1e-6)


# several workers


def test_a_worker_counts_all_workers_rows_and_means_its_loss() -> None:
    asked: list[float] = []

    def mean(value: float) -> float:
        asked.append(value)
        return 0.25

    def half(epoch: int, row: int) -> Iterator[Batch]:
        yield Batch(IMAGES[:2], TRUTHS[:2], 4)

    rows: list[int] = []
    state = train(
        network(), train_settings(epochs=2), batches=half, world=World(1, 2, mean),
        on_step=lambda snapshot: rows.append(snapshot().row),
    )  # fmt: skip
    assert [end.images for end in state.history] == [4, 4]
    assert rows == [4, 4]
    assert len(asked) == 2  # once a step
    assert [end.loss for end in state.history] == [0.25, 0.25]


@pytest.mark.parametrize("workers", range(1, 17))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_all_workers_make_as_many_passes(size: int, workers: int) -> None:
    """Batch norm that is synchronised waits for all workers in each pass of a step."""
    for step in range(workers, 16 * size + 1):
        parts = [(step + workers - 1 - rank) // workers for rank in range(workers)]
        made = [
            [len(image) for image, _ in passes(blank(crops, step), size, workers)]
            for crops in parts
        ]
        assert len({len(one) for one in made}) == 1
        assert [sum(one) for one in made] == parts
        assert max(map(max, made)) <= max(size + 1, 2 * min(size, 2))
        if size > 1 and min(parts) > 1:
            assert min(map(min, made)) > 1


def blank(crops: int, step: int) -> Batch:
    return Batch(torch.zeros(crops, 1, 1, 3), torch.zeros(crops, 1, 1), step)


def test_workers_that_read_another_state_do_not_train_together() -> None:
    assert agreed(7, World(0, 2, lambda value: (value + 7) / 2), "the state") == 7
    with pytest.raises(RuntimeError, match="disagree on the state"):
        agreed(7, World(0, 2, lambda value: (value + 8) / 2), "the state")


def test_workers_drop_out_differently() -> None:
    first = train(network(0.5), world=World(0, 2)).model
    assert not same_weights(first, train(network(0.5), world=World(1, 2)).model)


def test_bfloat16_is_used_where_it_pays() -> None:
    assert not bfloat16_pays(train_settings(), CPU)
    assert bfloat16_pays(train_settings(precision="bfloat16"), CPU)
    assert not bfloat16_pays(train_settings(precision="float32"), torch.device("cuda"))


@pytest.mark.parametrize(
    ("told", "warned"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, False),
        ({"architecture": "arm64", "bf16": True}, False),
        (None, False),
    ],
)
def test_bfloat16_without_its_instructions_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: dict[str, object] | None,
    warned: bool,
) -> None:
    if told is None:  # an older torch
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    train(network(), train_settings(epochs=1, precision="bfloat16"))
    said = [r.getMessage() for r in caplog.records if "neither AVX512_BF16 nor" in r.getMessage()]
    assert len(said) == warned
    caplog.clear()
    train(network(), train_settings(epochs=1))
    assert caplog.records == []


def test_bfloat16_trains_with_weights_in_float32() -> None:
    state = train(network(), train_settings(precision="bfloat16", epochs=1))
    assert {value.dtype for k, value in state.model.items() if "num" not in k} == {torch.float32}
    assert math.isfinite(state.history[0].loss)
    full = train(network(), train_settings(precision="float32", epochs=1))
    assert state.history[0].loss == pytest.approx(full.history[0].loss, abs=0.02)
    assert not same_weights(state.model, full.model)
