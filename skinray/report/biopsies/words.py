"""The results in plain words, for readers in a hospital laboratory."""

from __future__ import annotations

from typing import NamedTuple

from skinray.report.biopsies import paper
from skinray.report.biopsies.agreement import Agreement
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import Scores
from skinray.report.biopsies.tables import OPTIMISTIC, interval, number, p_value


class Explained(NamedTuple):
    """One figure of agreement: its name, value, 95 % interval and meaning."""

    name: str
    value: str
    interval: str
    meaning: str


def answer(scores: Scores) -> str:
    """Return what the run found, in two or three sentences."""
    pooled = scores.pooled.agreement
    flatter = f" {OPTIMISTIC}" if scores.optimistic else ""
    if scores.mean_r is None:
        found = "No fold has enough differing counts to correlate the model with the expert."
    else:
        found = (
            f"On images kept out of its training, the model's counts of nerve crossings correlate "
            f"with the expert's at r = {scores.mean_r.mean:.2f} on average over "
            f"{scores.mean_r.n} folds (sd {scores.mean_r.sd:.2f}); the paper reports "
            f"{paper.FOLD_MEAN.mean:.3f} ({paper.FOLD_MEAN.sd:.3f}) on its own images."
        )
    if pooled.mean_absolute_error is None or pooled.bias is None:
        return found + flatter
    lean = f"{abs(pooled.bias):.1f} too {'high' if pooled.bias > 0 else 'low'}"
    if round(pooled.bias, 1) == 0:
        lean = "neither too high nor too low"
    return (
        f"{found} A count is off by {pooled.mean_absolute_error:.1f} crossings on average, "
        f"and leans {lean}.{flatter}"
    )


def caveats(results: RunResults, scores: Scores) -> list[str]:
    """Return what a reader must know before trusting the figures, most important first."""
    said = [
        *([results.optimistic] if results.optimistic else []),
        *_on_folds(results, scores),
        *(note for note in results.notes if note != results.optimistic),
        *_on_second_expert(scores),
        f"The paper's figures come from its own {paper.IMAGES} images of {paper.SUBJECTS} "
        f"subjects. They stand beside this run's for orientation, not as a contest on equal terms.",
    ]
    lost = [arm.label for arm in results.arms if arm.status == "not measured"]
    if lost:
        said.append(f"Not measured: {', '.join(dict.fromkeys(lost))}; the reasons stand below.")
    failed = sum(trial.status == "failed" for trial in results.trials)
    if failed:
        said.append(f"{failed} of {len(results.trials)} trials failed; each is listed below.")
    return said


def search_words(results: RunResults) -> str:
    """Say how the grid search was scored, and what a framed field of its charts means."""
    trained = "part of a split's training images and scored on the rest of them"
    if results.settings.get("tune", {}).get("validation") == "held_out":
        trained = "a fold's training images and scored on its held-out images"
    frame = (
        "The settings of each split were chosen by trials trained without its held-out images, and "
        "by their scores on other images, so the images that test "
        "the choice had no part in it; the networks trained on all images have those of the best "
        "mean over all folds. A frame marks a field that was chosen for some split, so it need not "
        "be the brightest."
    )
    if results.optimistic:
        frame = "The frame marks the best mean over the folds, which was chosen for every split."
    return (
        f"Each combination was trained on {trained}. A field is the mean Dice of its "
        f"trials (nerves: within 3 px), brighter is better. {frame}"
    )


def _on_folds(results: RunResults, scores: Scores) -> list[str]:
    said = []
    if results.fold_unit == "subject":
        said.append(
            "Folds keep the images of a subject together, so every count is of a person whose "
            + (
                "images the model was not trained on, though the choice of its settings saw them."
                if results.optimistic
                else "images took no part in training the model or in choosing its settings."
            )
        )
    found = [fold.agreement for fold in scores.folds if fold.agreement.r_interval]
    if found:
        fewest = min(found, key=lambda a: a.n)
        said.append(
            f"A fold holds few images: with {fewest.n}, a correlation of "
            f"{number(fewest.r, 2)} is only known to lie within "
            f"{interval(fewest.r_interval)}. "
            "The intervals treat images as independent; several images of one person tell less."
        )
    unknown = len(scores.folds) - (scores.mean_r.n if scores.mean_r else 0)
    if unknown:
        said.append(f"{unknown} of {len(scores.folds)} folds give no correlation (see table 3).")
    return said


def _on_second_expert(scores: Scores) -> list[str]:
    model, second = scores.split_model.agreement, scores.split_second.agreement
    if not model.r_interval or not second.r_interval:
        return []
    ours, theirs = model.r_interval, second.r_interval
    if ours[0] <= theirs[1] and theirs[0] <= ours[1]:
        return [
            f"On the {model.n} held-out images the intervals of the model {interval(ours)} and "
            f"of the second expert {interval(theirs)} overlap: these images cannot tell which "
            "of the two counts more like the expert."
        ]
    return []


def explain_agreement(found: Agreement) -> list[Explained]:
    """Return every figure of agreement with its interval and one line of meaning."""
    low, high = found.limits or (None, None)
    low_band, high_band = found.limits_intervals or (None, None)
    rows = [
        Explained(
            "Pearson's r",
            number(found.r, 2),
            interval(found.r_interval),
            "Do the counts rise and fall together? 1 is a perfect line, 0 is no relation. It does "
            "not see a counter who always finds twice as many.",
        ),
        Explained(
            "p value",
            "below 0.001" if found.p is not None and found.p < 0.001 else p_value(found.p),
            "",
            "How often chance alone would give such a correlation if there were none.",
        ),
        Explained(
            "ICC(2,1)",
            number(found.icc, 2),
            interval(found.icc_interval),
            "Could one counter stand in for the other? 1: same counts; above .75 is often called "
            "good, above .90 excellent.",
        ),
        Explained(
            "Lin's concordance",
            number(found.concordance, 2),
            interval(found.concordance_interval),
            "How close the dots lie to the line of equal counts; never above r.",
        ),
        Explained(
            "Bias",
            number(found.bias, 2, sign=True),
            interval(found.bias_interval),
            "Model minus expert on average: above 0 the model finds more.",
        ),
        Explained(
            "Lower limit of agreement",
            number(low, 2, sign=True),
            interval(low_band),
            "About 95 of 100 images differ by no less than this ...",
        ),
        Explained(
            "Upper limit of agreement",
            number(high, 2, sign=True),
            interval(high_band),
            "... and no more than this. Are differences between these limits acceptable in use?",
        ),
        Explained(
            "Mean absolute error",
            number(found.mean_absolute_error, 2),
            "",
            "How far a count is off on average, whichever way, in crossings an image.",
        ),
    ]
    return [row if row.value else row._replace(value="not known") for row in rows]
