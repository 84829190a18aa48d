"""The losses on arrays small enough to reckon by hand, and their identities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skinray.config.training import TrainSettings
from skinray.errors import SettingsError
from skinray.learning.losses import (
    balanced_bce,
    bce_loss,
    dice_loss,
    jaccard_loss,
    skeleton_recall_loss,
    stage_loss,
)


def maps(*images: list[float]) -> torch.Tensor:
    """Return (N, 1, 1, W) maps, one row an image."""
    return torch.tensor(images)[:, None, None, :]


def test_dice_loss_is_the_papers_formula() -> None:
    # sum(PT) = 1, sum(P) = 2, sum(T) = 2: 1 - (2 + 1) / (2 + 2 + 1)
    loss = dice_loss(maps([0.5, 0.5, 0.5, 0.5]), maps([1.0, 1.0, 0.0, 0.0]))
    assert loss.item() == pytest.approx(0.4)


def test_dice_loss_of_the_truth_itself_and_of_nothing_is_zero() -> None:
    truth = maps([1.0, 0.0, 1.0, 0.0])
    assert dice_loss(truth, truth).item() == 0
    assert dice_loss(maps([0.0, 0.0]), maps([0.0, 0.0])).item() == 0


def test_dice_loss_is_taken_per_image_before_the_mean() -> None:
    probability = maps([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0])
    truth = maps([1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0])
    # 0 for the first image, 1 - 1/3 for the second; pooled it would be 1 - 9/11.
    assert dice_loss(probability, truth).item() == pytest.approx((0 + 2 / 3) / 2)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_dice_loss_stays_in_its_range_and_falls_when_the_map_nears_the_truth(seed: int) -> None:
    torch.manual_seed(seed)
    truth = (torch.rand(2, 1, 5, 6) < 0.3).float()
    probability = torch.rand(2, 1, 5, 6)
    nearer = (probability + truth) / 2
    assert 0 <= dice_loss(nearer, truth).item() <= dice_loss(probability, truth).item() <= 1


def test_skeleton_recall_asks_for_the_middle_lines_alone() -> None:
    truth = torch.zeros(1, 1, 20, 40)
    truth[..., 8:11, 5:35] = 1  # a line 3 px wide
    middle = torch.zeros_like(truth)
    middle[..., 9, 5:35] = 1
    assert skeleton_recall_loss(truth, truth).item() == 0
    assert skeleton_recall_loss(middle, truth).item() == pytest.approx(0, abs=0.15)
    gap = truth.clone()
    gap[..., 15:25] = 0  # a third of the line is missed
    assert skeleton_recall_loss(gap, truth).item() == pytest.approx(1 / 3, abs=0.05)
    assert skeleton_recall_loss(0 * truth, truth).item() > 0.9
    assert skeleton_recall_loss(0 * truth, 0 * truth).item() == 0
    wider = torch.nn.functional.max_pool2d(truth, 5, 1, 2)
    assert skeleton_recall_loss(wider, truth).item() == 0


def test_skeleton_recall_is_off_unless_asked_for() -> None:
    logits, truth = torch.randn(2, 1, 16, 16), (torch.rand(2, 1, 16, 16) < 0.2).float()
    plain = stage_loss(logits, truth, TrainSettings())
    added = stage_loss(logits, truth, TrainSettings(skeleton_recall=0.5))
    missed = skeleton_recall_loss(logits.sigmoid(), truth)
    assert added.item() == pytest.approx(plain.item() + 0.5 * missed.item())


def test_bce_is_the_mean_log_likelihood() -> None:
    loss = bce_loss(maps([0.0, math.log(3)]), maps([1.0, 0.0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_balanced_bce_weighs_each_class_by_the_share_of_the_other() -> None:
    # One edge pixel in four: it weighs 3/4, the others 1/4; every term is log 2.
    loss = balanced_bce(torch.zeros(1, 1, 1, 4), maps([1.0, 0.0, 0.0, 0.0]))
    assert loss.item() == pytest.approx((0.75 + 3 * 0.25) * math.log(2) / 4)


def test_balanced_bce_leaves_negative_truth_out() -> None:
    logits = torch.tensor([1.0, -2.0, 0.5]).view(1, 1, 1, 3)
    with_ignored = torch.cat([logits, torch.full((1, 1, 1, 2), 9.0)], dim=3)
    kept = balanced_bce(logits, maps([1.0, 0.0, 0.0]))
    assert balanced_bce(with_ignored, maps([1.0, 0.0, 0.0, -1.0, -1.0])) == pytest.approx(kept)


def test_balanced_bce_gives_both_classes_the_same_pull() -> None:
    logits = torch.zeros(1, 1, 10, 10, requires_grad=True)
    truth = torch.zeros(1, 1, 10, 10)
    truth[..., 0, :3] = 1
    balanced_bce(logits, truth).backward()
    assert logits.grad is not None
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-7)
    assert logits.grad[..., 0, 0].item() < 0


@pytest.mark.parametrize("loss", ["dice", "bce", "balanced_bce"])
def test_losses_compute_in_float32(loss: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 64, 64).bfloat16()
    truth = (torch.rand(2, 1, 64, 64) < 0.1).bfloat16()
    how = TrainSettings.model_validate({"loss": loss})
    result = stage_loss(logits, truth, how)
    assert result.dtype == torch.float32
    assert torch.equal(result, stage_loss(logits.float(), truth.float(), how))


def test_stage_loss_adds_the_mean_of_the_side_losses() -> None:
    torch.manual_seed(0)
    truth = (torch.rand(1, 1, 8, 8) < 0.5).float()
    fused, *sides = torch.randn(4, 1, 1, 8, 8)
    plain = TrainSettings(loss="bce")
    sided = TrainSettings(loss="bce", side_weight=2)
    expected = bce_loss(fused, truth) + 2 * sum(bce_loss(side, truth) for side in sides) / 3
    assert torch.allclose(stage_loss(fused, truth, sided, sides), expected)
    assert torch.equal(stage_loss(fused, truth, plain, sides), bce_loss(fused, truth))


@pytest.mark.parametrize("loss", ["dice", "jaccard"])
def test_weighted_cross_entropy_is_added_to_the_loss_of_every_output(loss: str) -> None:
    torch.manual_seed(0)
    truth = (torch.rand(2, 1, 8, 8) < 0.5).float()
    fused, side = torch.randn(2, 2, 1, 8, 8)
    alone = TrainSettings.model_validate({"loss": loss, "side_weight": 2})
    both = alone.override({"cross_entropy": 0.25})
    added = 0.25 * bce_loss(fused, truth) + 2 * 0.25 * bce_loss(side, truth)
    expected = stage_loss(fused, truth, alone, [side]) + added
    assert torch.allclose(stage_loss(fused, truth, both, [side]), expected)


@pytest.mark.parametrize("loss", ["bce", "balanced_bce"])
def test_cross_entropy_cannot_be_added_to_itself(loss: str) -> None:
    with pytest.raises(SettingsError, match=f"dice or jaccard only; loss {loss} is already"):
        TrainSettings().override({"loss": loss, "cross_entropy": 0.3})


def test_cross_entropy_pulls_where_jaccard_has_let_go() -> None:
    """A map that is surely skin everywhere hardly moves by Jaccard's gradient."""
    truth = maps([1.0, 1.0, 1.0, 0.0])

    def pull(cross_entropy: float) -> float:
        logits = torch.full((1, 1, 1, 4), 12.0, requires_grad=True)
        how = TrainSettings(loss="jaccard", cross_entropy=cross_entropy)
        stage_loss(logits, truth, how).backward()
        assert logits.grad is not None
        return float(logits.grad[..., 3])

    assert 0 < pull(0) < 1e-5
    assert pull(0.3) == pytest.approx(0.3 / 4, rel=1e-3)


def test_stage_loss_of_dice_applies_the_sigmoid() -> None:
    logits, truth = torch.full((1, 1, 4, 4), 50.0), torch.ones(1, 1, 4, 4)
    assert stage_loss(logits, truth, TrainSettings(loss="dice")).item() == pytest.approx(0)


def test_jaccard_loss_is_the_papers_formula() -> None:
    # sum(TP) = .5 + .25, sum(T^2) = 2, sum(P^2) = .25 + .0625 + 1: 1 - .75 / (2 + 1.3125 - .75)
    loss = jaccard_loss(maps([0.5, 0.25, 1.0]), maps([1.0, 1.0, 0.0]))
    assert loss.item() == pytest.approx(1 - 0.75 / 2.5625)


def test_jaccard_loss_is_taken_per_image_and_of_nothing_is_zero() -> None:
    probability = maps([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5])
    truth = maps([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    # 1 - 1/2; nothing against nothing; something against nothing.
    probability.requires_grad_()
    loss = jaccard_loss(probability, truth)
    assert loss.item() == pytest.approx((0.5 + 0 + 1) / 3)
    loss.backward()
    assert probability.grad is not None
    assert torch.isfinite(probability.grad).all()


def test_jaccard_loss_of_logits_is_by_name() -> None:
    logits, truth = maps([-2.0, 0.0, 3.0]), maps([0.0, 1.0, 1.0])
    by_name = stage_loss(logits, truth, TrainSettings(loss="jaccard"))
    # The rescaled tanh of half the logit, which is the last layer's own value.
    assert by_name == pytest.approx(jaccard_loss(((logits / 2).tanh() + 1) / 2, truth).item())
