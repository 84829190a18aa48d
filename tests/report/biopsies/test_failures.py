"""A run of which a part did not learn: what it says first, and that it cannot look good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skinray.cli.main import app
from skinray.report.biopsies.page import write_report
from skinray.report.biopsies.results import CountRow, RunResults, TrialRow
from skinray.report.biopsies.scores import score_run
from skinray.report.biopsies.tables import tables_text
from skinray.report.biopsies.words import answer, caveats
from tests.support.fake_run import fake_results, write_run

FINDING = "it marks nothing (score 0.04; a mask that ignores the image reaches 0.62)"
LOST = (2, 3, 5)


def half_learned(results: RunResults) -> RunResults:
    """The dermis network of three folds of five marked nothing, so nothing was counted there."""

    def count(row: CountRow) -> CountRow:
        lost = {"model": 0, "dermis_dice": 0.04} if row.fold in LOST else {}
        return row.model_copy(update={"chance": {"nerve": 0.1, "dermis": 0.62}, **lost})

    def trial(row: TrialRow) -> TrialRow:
        lost = row.stage == "dermis" and row.split in [f"fold-{fold}" for fold in LOST]
        found = {"learned": not lost, "finding": FINDING if lost else ""}
        return row.model_copy(update=found if row.phase == "fit" else {})

    return results.model_copy(
        update={"counts": [*map(count, results.counts)], "trials": [*map(trial, results.trials)]}
    )


@pytest.fixture(scope="module")
def results() -> RunResults:
    return half_learned(fake_results(Path("cohort")))


def test_each_network_that_did_not_learn_is_named_with_its_cause(results: RunResults) -> None:
    assert results.failures == [
        f"The dermis network of fold {fold} did not learn: {FINDING}." for fold in LOST
    ]


def test_the_headline_is_not_of_the_good_folds_alone(results: RunResults) -> None:
    scores = score_run(results)
    good = [fold.agreement.r or 0.0 for fold in scores.folds if fold.label in "14"]
    assert scores.mean_r is not None
    assert min(good) > 0.8
    assert scores.mean_r.mean == pytest.approx(sum(good) / 5)
    assert scores.flat == ("2", "3", "5")
    pooled = scores.pooled.agreement
    assert pooled.r is not None
    assert pooled.r < 0.5
    *_, first, second = tables_text(results).splitlines()
    assert first.startswith(f"All 30 held-out images: r {pooled.r:.2f} [")
    assert f"{scores.mean_r.mean:.3f}" in second
    assert "with folds 2, 3, 5 as 0" in second
    assert answer(scores).startswith("On 30 images held out of training")
    assert "with folds 2, 3, 5 as 0" in answer(scores)
    assert any("In folds 2, 3, 5 " in one for one in caveats(results, scores))


def test_the_page_opens_with_what_failed(tmp_path: Path) -> None:
    half_learned(write_run(tmp_path, draw=False)).save(tmp_path / "run")
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    banner = page.index('role="alert"')
    assert banner < page.index("Parts of this run failed") < page.index('class="lead"')
    assert page.count(f"did not learn: {FINDING}") == len(LOST)


def test_a_run_that_learned_has_no_banner(tmp_path: Path) -> None:
    write_run(tmp_path, draw=False)
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert 'role="alert"' not in page


def test_the_command_ends_with_code_4_and_says_why(
    results: RunResults, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fake(*_: Any, **__: Any) -> RunResults:
        return results

    monkeypatch.setattr("skinray.cluster.train.biopsies.train_cv", fake)
    command = [
        "train-cv",
        "--data",
        str(tmp_path),
        "--recipe",
        "demo",
        "--out",
        str(tmp_path / "x"),
    ]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 4
    assert "Parts of this run failed: do not use its results." in ended.stderr
    assert f"The dermis network of fold 2 did not learn: {FINDING}." in ended.stderr


def test_chance_on_held_out_images_alone_is_a_failure_too(results: RunResults) -> None:
    trials = [trial.model_copy(update={"learned": True}) for trial in results.trials]
    said = results.model_copy(update={"trials": trials}).failures
    assert [one.split(" learned")[0] for one in said] == [
        f"The dermis network of fold {fold}" for fold in LOST
    ]
    assert "Dice 0.04; a mask that ignores the image reaches 0.62" in said[0]


def test_a_baseline_that_did_not_learn_fails_nothing(results: RunResults) -> None:
    trials = [
        trial.model_copy(update={"learned": trial.arm != "U-Net, brain MRI"})
        for trial in results.trials
    ]
    counts = [row.model_copy(update={"chance": {}}) for row in results.counts]
    assert results.model_copy(update={"trials": trials, "counts": counts}).failures == []


def test_runs_of_before_are_not_judged() -> None:
    assert fake_results(Path("cohort")).failures == []


def test_a_search_that_found_nothing_is_said() -> None:
    results = fake_results(Path("cohort"))
    trials = [
        trial.model_copy(update={"learned": trial.stage != "dermis"}) for trial in results.trials
    ]
    said = caveats(results.model_copy(update={"trials": trials}), score_run(results))
    assert (
        "No trial of the search learned anything for DeepLabV3 from scratch (dermis), so nothing "
        "was chosen: it uses the first values of its grid."
    ) in said
