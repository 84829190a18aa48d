from __future__ import annotations

from pathlib import Path

import pytest

from skinray.report.biopsies.agreement import Agreement, agreement
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import score_run
from skinray.report.biopsies.tables import tables_text
from skinray.report.biopsies.words import answer, caveats, explain_agreement, search_words
from tests.support.fake_run import fake_results


@pytest.fixture(scope="module")
def results() -> RunResults:
    return fake_results(Path("cohort"))


def said(results: RunResults) -> str:
    return "\n".join(caveats(results, score_run(results)))


def changed(results: RunResults, **tune: object) -> RunResults:
    settings = results.settings | {"tune": results.settings["tune"] | tune}
    return results.model_copy(update={"settings": settings})


def test_the_answer_gives_r_and_the_error_beside_the_paper(results: RunResults) -> None:
    scores = score_run(results)
    assert scores.mean_r is not None
    text = answer(scores)
    pooled = scores.pooled.agreement
    assert pooled.r is not None
    assert text.startswith(f"On {pooled.n} images held out of training")
    assert f"at r = {pooled.r:.2f} (95 % CI [" in text
    assert text.index("differs from the expert's") < text.index("The mean over 5 folds is r = ")
    assert f"r = {scores.mean_r.mean:.2f} (sd {scores.mean_r.sd:.2f}); the paper reports" in text
    assert "0.753 (0.156)" in text
    assert (
        f"differs from the expert's by {scores.pooled.agreement.mean_absolute_error:.1f} crossings"
        in text
    )


@pytest.mark.parametrize(
    ("shift", "leaning"),
    [(3, "3.0 too high"), (-3, "3.0 too low"), (0, "neither too high nor too low")],
)
def test_the_answer_gives_the_bias(results: RunResults, shift: int, leaning: str) -> None:
    counts = [row.model_copy(update={"model": row.expert + shift}) for row in results.counts]
    assert f"crossings and is {leaning}." in answer(
        score_run(results.model_copy(update={"counts": counts}))
    )


def test_without_counts_the_answer_says_so(results: RunResults) -> None:
    empty = results.model_copy(update={"counts": [], "folds": []})
    assert answer(score_run(empty)).startswith("The counts of the held-out images do")


def test_folds_by_subject_are_mentioned_only_where_they_are(results: RunResults) -> None:
    kept_apart = "images had no part in training the model or in choosing its settings."
    assert kept_apart in said(results)
    by_image = results.model_copy(update={"fold_unit": "image"})
    assert kept_apart not in said(by_image)
    assert kept_apart not in said(changed(results, selection="pooled"))
    assert "but were used to choose its settings" in said(changed(results, selection="pooled"))


def test_a_nested_choice_is_not_optimistic(results: RunResults) -> None:
    assert results.optimistic == ""
    for text in (said(results), answer(score_run(results)), tables_text(results)):
        assert "optimistic" not in text


@pytest.mark.parametrize(
    ("tune", "reason"),
    [
        ({"selection": "pooled"}, "one configuration, the one with the best mean over all folds"),
        ({"selection": "pooled", "validation": "held_out"}, "was scored on the held-out images"),
    ],
)
def test_a_pooled_choice_is_said_wherever_its_figures_stand(
    results: RunResults, tune: dict[str, str], reason: str
) -> None:
    pooled = changed(results, **tune)
    first = caveats(pooled, score_run(pooled))[0]
    assert first.startswith("The figures are optimistic: ")
    assert reason in first
    assert answer(score_run(pooled)).endswith("so the model's figures are optimistic.")
    text = tables_text(pooled)
    assert text.count("so the model's figures are optimistic.") == 4
    assert ", optimistic; the paper: 0.753" in text.splitlines()[-1]


def test_the_reason_is_given_once_even_if_the_run_noted_it(results: RunResults) -> None:
    pooled = changed(results, selection="pooled")
    noted = pooled.model_copy(update={"notes": [pooled.optimistic]})
    assert said(noted).count("optimistic") == 1


def test_nothing_is_optimistic_without_a_search(results: RunResults) -> None:
    fits = [trial for trial in results.trials if trial.phase == "fit"]
    pooled = changed(results, selection="pooled").model_copy(update={"trials": fits})
    assert pooled.optimistic == ""


def test_a_run_that_stored_no_selection_had_pooled_its_folds(results: RunResults) -> None:
    tune = {"epochs_fraction": 1.0, "validation": "inner"}
    old = results.model_copy(update={"settings": results.settings | {"tune": tune}})
    assert "tune.selection: pooled" in old.optimistic


def test_the_search_is_explained_by_its_kind(results: RunResults) -> None:
    nested, pooled = search_words(results), search_words(changed(results, selection="pooled"))
    assert (
        "were chosen by trials that trained and were scored without its held-out images" in nested
    )
    assert "is not always the brightest" in nested
    assert "was chosen for every split" in pooled
    held_out = changed(results, selection="pooled", validation="held_out")
    assert "scored on its held-out images" in search_words(held_out)


def test_a_search_in_rounds_is_explained_and_judged_by_its_last(results: RunResults) -> None:
    tried = next(trial for trial in results.trials if trial.phase == "tune")
    rounds = [
        tried.model_copy(update={"epochs_asked": epochs, "learned": learned})
        for epochs, learned in ((3, True), (9, False))
    ]
    halved = changed(results, halving=3).model_copy(update={"trials": rounds})
    assert halved.last_round == rounds[1:]
    assert "The search ran in rounds" in search_words(halved)
    assert "The search ran in rounds" not in search_words(results)
    assert "No trial of the search learned anything for" in " ".join(
        caveats(halved, score_run(halved))
    )
    repeated = changed(halved, halving=1, second_tries=True)
    assert repeated.last_round == rounds[1:]
    assert "The search ran in rounds" not in search_words(repeated)
    assert changed(halved, halving=1).last_round == rounds  # the epochs are part of the grid


def test_overlapping_intervals_of_model_and_second_expert_are_reported(results: RunResults) -> None:
    assert "overlap: these images cannot show" in said(results)
    perfect = [
        row.model_copy(update={"expert": i, "model": i, "second_expert": (7 * i) % 10})
        for i, row in enumerate(results.component_counts)
    ]
    apart = results.model_copy(update={"component_counts": perfect})
    assert "overlap" not in said(apart)


def test_missing_arms_and_the_run_s_notes_are_reported(results: RunResults) -> None:
    text = said(results)
    assert "Not measured: HED, BSDS500" in text
    assert f"3 of {len(results.trials)} trials failed" in text
    assert "The images are painted, not photographed." in text.splitlines()


def test_folds_without_a_correlation_are_named(results: RunResults) -> None:
    counts = [
        row.model_copy(update={"model": 1}) if row.fold < 3 else row for row in results.counts
    ]
    text = said(results.model_copy(update={"counts": counts}))
    assert "In folds 1, 2 the counts of the model or of the expert do not vary" in text


def test_folds_of_too_few_images_are_counted(results: RunResults) -> None:
    first = next(row for row in results.counts if row.fold == 1)
    counts = [row for row in results.counts if row.fold > 1 or row == first]
    text = said(results.model_copy(update={"counts": counts}))
    assert "1 of 5 folds have too few images for a correlation." in text


def test_every_figure_is_explained_with_its_interval() -> None:
    found = agreement([2, 5, 9, 4], [1, 5, 8, 6])
    rows = {row.name: row for row in explain_agreement(found)}
    assert rows["Bias"].value == "0.00"
    assert rows["ICC(2,1)"].value == f"{found.icc:.2f}"
    assert rows["Pearson's r"].interval.startswith("[")
    assert all(row.meaning for row in rows.values())
    assert {row.value for row in explain_agreement(Agreement(0))} == {"not known"}
