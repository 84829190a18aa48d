from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from skinray.report.biopsies.count_figures import bland_altman, scatter
from skinray.report.biopsies.results import Curve, CurvePoint, RunResults, TrialRow
from skinray.report.biopsies.scores import score_run
from skinray.report.biopsies.training_figures import grid_charts, training_curves
from tests.support.fake_run import fake_results

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def results() -> RunResults:
    return fake_results(Path("cohort"))


def trial(score: float | None, params: dict[str, Any], split: str = "fold-1") -> TrialRow:
    return TrialRow(
        trial="t",
        phase="tune",
        stage="nerve",
        arm="HED $x$ from \\frac",
        split=split,
        params=params,
        status="done" if score is not None else "failed",
        score=score,
    )


def elements(svg: str, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(SVG + tag))  # noqa: S314


def points_drawn(svg: str) -> int:
    """Dots of all scatter plots: paths of their own, or uses of one marker."""
    groups = [g for g in elements(svg, "g") if g.get("id", "").startswith("PathCollection")]
    return sum(
        len(group.findall(f"{SVG}path")) + len(list(group.iter(f"{SVG}use"))) for group in groups
    )


def test_scatter_draws_every_pair_of_counts_in_its_fold_and_in_all(results: RunResults) -> None:
    chart = scatter(results.counts, score_run(results))
    in_folds = {(row.fold, row.expert, row.model) for row in results.counts}
    in_all = {(row.expert, row.model) for row in results.counts}
    assert points_drawn(chart.svg) == len(in_folds) + len(in_all)
    r = score_run(results).folds[2].agreement.r
    assert f"Fold 3: r = {r:.2f} over 6" in chart.alt


def test_scatter_of_many_folds_shows_all_images_once() -> None:
    many = fake_results(Path("cohort"), images=40, folds=20)
    chart = scatter(many.counts, score_run(many))
    assert points_drawn(chart.svg) == len({(row.expert, row.model) for row in many.counts})


def test_bland_altman_shows_bias_and_limits(results: RunResults) -> None:
    found = score_run(results).pooled.agreement
    chart = bland_altman(results.counts, found)
    assert found.limits is not None
    assert f"[{found.limits[0]:.1f}, {found.limits[1]:.1f}]" in chart.alt
    assert points_drawn(chart.svg) > 0


def test_charts_of_one_image_are_drawn_without_figures(results: RunResults) -> None:
    alone = results.model_copy(update={"counts": results.counts[:1], "folds": []})
    scores = score_run(alone)
    assert "r not known over 1" in scatter(alone.counts, scores).alt
    assert "not known" in bland_altman(alone.counts, scores.pooled.agreement).alt


def test_equal_runs_give_equal_pictures(results: RunResults) -> None:
    scores = score_run(results)
    assert scatter(results.counts, scores).svg == scatter(results.counts, scores).svg


def test_pictures_refer_to_nothing_outside(results: RunResults) -> None:
    scores = score_run(results)
    for chart in (scatter(results.counts, scores), *grid_charts(results)):
        references = [
            value
            for element in ET.fromstring(chart.svg).iter()  # noqa: S314
            for key, value in element.attrib.items()
            if key.endswith("href")
        ]
        assert references
        assert all(value.startswith(("#", "data:")) for value in references)


def test_a_chart_an_arm_with_curves_of_every_split(results: RunResults) -> None:
    charts = training_curves(results.curves)
    assert [chart.title for chart in charts] == [
        "Nerve: HED from scratch",
        "Nerve: U-Net, brain MRI",
        "Dermis: DeepLabV3 from scratch",
    ]
    assert "over 5 splits" in charts[0].alt


def test_curves_that_are_not_finite_or_empty_are_drawn() -> None:
    point = CurvePoint(epoch=1, loss=float("inf"), learning_rate=0.0, validation=float("nan"))
    curves = [
        Curve(stage="nerve", arm="a $\\frac", split=f"{i}", points=[point] if i else [])
        for i in range(9)
    ]
    results = fake_results(Path("cohort")).model_copy(update={"curves": curves})
    (chart,) = training_curves(results.curves)
    assert "no finite loss" in chart.alt


def grids(results: RunResults, *trials: TrialRow) -> list[str]:
    return [chart.alt for chart in grid_charts(results.model_copy(update={"trials": trials}))]


def test_heat_map_means_over_splits_and_takes_the_best_of_other_settings(
    results: RunResults,
) -> None:
    first = {"learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 1}
    (alt,) = grids(
        results,
        trial(0.4, first),
        trial(0.6, first, "fold-2"),
        trial(0.1, first | {"batch_size": 2}),
        trial(0.7, first | {"learning_rate": 1e-4, "weight_decay": 0.1}),
    )
    assert "by learning rate and weight decay" in alt
    assert "best 0.700, worst 0.500" in alt


def test_a_cell_shows_the_longest_round_of_its_combination(results: RunResults) -> None:
    first, second = ({"learning_rate": rate} for rate in (1e-3, 1e-2))
    rounds = [
        trial(score, params).model_copy(update={"epochs_asked": epochs})
        for score, params, epochs in ((0.9, first, 3), (0.2, second, 3), (0.5, first, 9))
    ]
    (alt,) = grids(results, *rounds)
    assert "best 0.500, worst 0.200" in alt


def test_heat_map_of_other_settings_when_those_were_searched(results: RunResults) -> None:
    (alt,) = grids(
        results,
        trial(0.4, {"model.options.width": 8, "augment.fill": "reflect"}),
        trial(0.5, {"model.options.width": 16, "augment.fill": "constant"}),
    )
    assert "by width and fill" in alt


def test_heat_map_of_one_setting_and_of_failures(results: RunResults) -> None:
    (alt,) = grids(
        results, trial(None, {"learning_rate": 1.0}), trial(None, {"learning_rate": 2.0})
    )
    assert "by learning rate: none scored" in alt


def test_every_field_that_was_chosen_is_framed(results: RunResults) -> None:
    tried = [trial(0.5, {"learning_rate": rate}) for rate in (1.0, 2.0, 3.0)]

    def svg(*chosen: float) -> str:
        fits = [
            trial(None, {"learning_rate": rate}, f"fold-{at}").model_copy(update={"phase": "fit"})
            for at, rate in enumerate(chosen, 1)
        ]
        (chart,) = grid_charts(results.model_copy(update={"trials": [*tried, *fits]}))
        return chart.svg

    # A frame is drawn in white, and then in its colour.
    frames = [svg(*chosen).count("#d55e00") for chosen in ((), (1.0, 1.0), (1.0, 3.0, 1.0))]
    assert frames == [0, 1, 2]


def test_no_heat_map_without_a_search(results: RunResults) -> None:
    alone = trial(0.5, {"learning_rate": 1.0})
    assert grids(results) == []
    assert grids(results, alone) == []
    fits = [t.model_copy(update={"phase": "fit"}) for t in results.trials]
    assert grids(results, *fits) == []
