from __future__ import annotations

from pathlib import Path

import pytest

from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import score_run
from skinray.report.biopsies.tables import build_tables, p_value, tables_text
from skinray.report.tables import interval, number
from tests.support.fake_run import fake_results


@pytest.fixture(scope="module")
def results() -> RunResults:
    return fake_results(Path("cohort"))


def line(text: str, start: str) -> str:
    found = [line for line in text.splitlines() if line.strip().startswith(start)]
    assert found, f"no line starts with {start!r}"
    return found[0]


def test_the_paper_s_figures_stand_in_the_tables(results: RunResults) -> None:
    text = tables_text(results)
    for start, figures in {
        "the paper's U-Net": ("0.585 (0.083)", "0.814 (0.085)", "0.918 (0.079)"),
        "the paper's HED not": ("0.549 (0.083)", "0.778 (0.089)", "0.885 (0.085)"),
        "the paper's HED transfer": ("0.611 (0.067)", "0.845 (0.054)", "0.950 (0.036)"),
        "the paper's DeepLabV3 not": ("0.979 (0.012)",),
        "the paper's DeepLabV3 transfer": ("0.986 (0.007)",),
        "Fold 1": ("0.835 (< .001)",),
        "Fold 2": ("0.465 (.04)",),
        "Mean": ("0.753",),
        "Sd": ("0.156",),
        "Model  ": ("0.834 (.002)",),
        "2nd expert": ("0.467 (.173)",),
    }.items():
        for figure in figures:
            assert figure in line(text, start)


def test_the_run_s_own_figures_stand_in_the_tables(results: RunResults) -> None:
    text, scores = tables_text(results), score_run(results)
    hed = next(score for score in scores.nerve if score.label == "HED from scratch")
    assert f"{hed.dice[3].mean:.3f} ({hed.dice[3].sd:.3f})" in line(text, "HED from scratch")
    fold = scores.folds[3].agreement
    assert fold.r is not None
    assert fold.limits is not None
    shown = line(text, "Fold 4")
    assert f" {fold.n}  {fold.r:.3f}" in shown
    assert f"[{fold.limits[0]:.1f}, {fold.limits[1]:.1f}]" in shown
    assert scores.mean_r is not None
    assert f"{scores.mean_r.mean:.3f}" in line(text, "Mean  ")
    pooled = scores.pooled.agreement
    assert pooled.r is not None
    *_, first, second = text.splitlines()
    assert first.startswith(f"All 30 held-out images: r {pooled.r:.2f} [")
    assert f"off by {pooled.mean_absolute_error:.1f} on average" in first
    assert second.startswith(f"Mean r over 5 folds: {scores.mean_r.mean:.3f}")


def test_what_was_not_measured_says_why(results: RunResults) -> None:
    text = tables_text(results)
    assert "not measured" in line(text, "HED, BSDS500  ")
    reason = "HED, BSDS500 was not measured: the published weights hed-bsds500 are not on this"
    assert reason in text
    assert "Not part of this run: the paper's DeepLabV3 transfer learning." in text


def test_the_split_is_given_in_images(results: RunResults) -> None:
    assert "Table 1. Nerve labelling (20 train / 10 held out)" in tables_text(results)
    bare = results.model_copy(update={"component_counts": [], "component_split": "fold-1"})
    assert "Table 2. Dermis labelling (fold-1)" in tables_text(bare)


def test_text_fits_the_terminal_and_is_plain(results: RunResults) -> None:
    arms = [
        arm.model_copy(update={"label": f"[red]{arm.label}[/red] :smile: " + "long " * 20})
        for arm in results.arms
    ]
    text = tables_text(results.model_copy(update={"arms": arms}))
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "[red]" in text  # markup of a label is shown, not obeyed
    assert ":smile:" in text


def test_a_run_without_counts_shows_empty_tables(results: RunResults) -> None:
    text = tables_text(
        results.model_copy(update={"counts": [], "folds": [], "component_counts": [], "arms": []})
    )
    assert "Mean r over folds: not measured; the paper: 0.753 (0.156)" in text
    assert "not measured" in line(text, "All folds")


def test_rows_are_marked_by_whose_figures_they_are(results: RunResults) -> None:
    nerve, _, folds, _ = build_tables(results, score_run(results))
    assert [row.kind for row in nerve.rows] == ["run", "paper", "main", "paper", "missing", "paper"]
    assert [row.kind for row in folds.rows] == ["run"] * 5 + ["summary"] * 2 + ["run"]
    for table in (nerve, folds):
        assert {len(row.cells) for row in table.rows} == {len(table.columns)}


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.0004, "< .001"), (0.001, ".001"), (0.04, ".040"), (1.0, "1.000"), (None, "")],
)
def test_p_below_a_thousandth_says_that_it_is_below(p: float | None, shown: str) -> None:
    assert p_value(p) == shown


def test_no_zero_is_negative() -> None:
    assert number(-0.04, 1) == "0.0"
    assert number(-0.04, 1, sign=True) == "0.0"
    assert number(0.26, 1, sign=True) == "+0.3"
    assert interval((-0.001, 1.0)) == "[0.00, 1.00]"
