from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from skinray.report.biopsies import paper
from skinray.report.biopsies.agreement import agreement
from skinray.report.biopsies.results import ArmRow, RunResults
from skinray.report.biopsies.scores import score_run, spread
from tests.support.fake_run import fake_results


@pytest.fixture(scope="module")
def results() -> RunResults:
    return fake_results(Path("cohort"))


def test_the_paper_s_mean_and_sd_follow_from_its_folds() -> None:
    found = spread(fold.r for fold in paper.FOLDS)
    assert found is not None
    assert found.mean == pytest.approx(paper.FOLD_MEAN.mean, abs=0.0005)
    assert found.sd == pytest.approx(paper.FOLD_MEAN.sd, abs=0.0005)


def test_spread_leaves_out_what_is_not_known() -> None:
    found = spread([1.0, None, 3.0, math.nan])
    assert found is not None
    assert (found.mean, found.sd, found.n) == (2, 1, 2)
    assert spread([None, math.nan]) is None


def test_folds_pool_to_all_counts(results: RunResults) -> None:
    scores = score_run(results)
    assert [fold.label for fold in scores.folds] == ["1", "2", "3", "4", "5"]
    assert sum(fold.agreement.n for fold in scores.folds) == scores.pooled.agreement.n == 30
    model, expert = zip(*((row.model, row.expert) for row in results.counts), strict=True)
    assert scores.pooled.agreement == agreement(model, expert)
    assert scores.mean_r is not None
    assert scores.mean_r.mean == pytest.approx(
        np.mean([fold.agreement.r for fold in scores.folds if fold.agreement.r is not None])
    )


def test_the_paper_s_folds_are_shown_only_beside_five(results: RunResults) -> None:
    assert [fold.paper for fold in score_run(results).folds] == list(paper.FOLDS)
    three = score_run(fake_results(Path("cohort"), folds=3))
    assert [fold.paper for fold in three.folds] == [None, None, None]


def test_the_second_expert_is_held_against_the_expert(results: RunResults) -> None:
    second = score_run(results).split_second
    pairs = [(row.second_expert or 0, row.expert) for row in results.component_counts]
    assert second.agreement == agreement([p[0] for p in pairs], [p[1] for p in pairs])
    assert second.paper == (0.467, 0.173)


def test_a_missing_second_expert_is_reported(results: RunResults) -> None:
    alone = [row.model_copy(update={"second_expert": None}) for row in results.counts]
    scores = score_run(results.model_copy(update={"counts": alone, "component_counts": alone}))
    assert scores.split_second.agreement.n == 0
    assert scores.pooled_second.agreement.reason == "the cohort has no count of a second expert"


def test_a_fold_of_one_count_counts_as_0_in_the_mean(results: RunResults) -> None:
    counts = [
        row.model_copy(update={"model": 4}) if row.fold == 2 else row for row in results.counts
    ]
    scores = score_run(results.model_copy(update={"counts": counts}))
    assert scores.folds[1].agreement.r is None
    assert scores.mean_r is not None
    assert scores.mean_r.n == 5
    others = [fold.agreement.r or 0.0 for fold in scores.folds]
    assert scores.mean_r.mean == pytest.approx(np.mean(others))
    assert scores.flat == ("2",)


def test_networks_stand_in_the_paper_s_order_beside_their_rows(results: RunResults) -> None:
    nerve = score_run(results).nerve
    assert [(score.label, score.paper_row) for score in nerve] == [
        ("U-Net, brain MRI", "U-Net"),
        ("HED from scratch", "HED not pretrained"),
        ("HED, BSDS500", "HED transfer learning"),
    ]
    assert nerve[0].paper[3] == (0.918, 0.079)
    measured = results.arms[0]
    assert nerve[1].dice[1].mean == pytest.approx(np.mean(measured.dice[1]))
    assert nerve[1].dice[1].sd == pytest.approx(np.std(measured.dice[1]))


@pytest.mark.parametrize(
    ("stage", "model", "pretrained", "row"),
    [
        ("nerve", "hed", True, "HED transfer learning"),
        ("nerve", "hed", False, "HED not pretrained"),
        ("nerve", "unet", True, "U-Net"),
        ("nerve", "U-Net", False, None),
        ("dermis", "deeplabv3_resnet101", True, "DeepLabV3 transfer learning"),
        ("dermis", "deeplabv3_mobilenet_v3_large", False, "DeepLabV3 not pretrained"),
        ("dermis", "deeplab_lite", False, None),
        ("dermis", "hed", True, None),
        ("nerve", "segformer", True, None),
    ],
)
def test_a_network_finds_its_row_of_the_paper(
    stage: str, model: str, pretrained: bool, row: str | None
) -> None:
    assert paper.network(stage, model, pretrained) == row


def test_an_arm_the_settings_do_not_know_goes_by_its_label(results: RunResults) -> None:
    arm = ArmRow(
        stage="dermis", label="DeepLabV3 of old", main=False, status="measured", dice={0: [0.9]}
    )
    scores = score_run(results.model_copy(update={"arms": [arm]}))
    assert scores.dermis[0].paper_row == "DeepLabV3 not pretrained"
    assert scores.nerve == ()
