"""The results in plain words, for readers in a hospital laboratory."""

from __future__ import annotations

from typing import NamedTuple

from skinray.report.biopsies import paper
from skinray.report.biopsies.agreement import Agreement
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import EXPERT, Scores, Truth
from skinray.report.biopsies.tables import OPTIMISTIC, flat_words, p_value
from skinray.report.tables import interval, number


class Explained(NamedTuple):
    """One figure of agreement: its name, value, 95 % CI and meaning."""

    name: str
    value: str
    interval: str
    meaning: str


def answer(scores: Scores) -> str:
    """Return what the run found: over all held-out images, then over folds as the paper does."""
    pooled, truth = scores.pooled.agreement, scores.truth
    if pooled.r is None:
        said = (
            f"The counts of the held-out images do not vary enough to correlate with {truth.whose}."
        )
    else:
        said = (
            f"On {pooled.n} images held out of training, the model's counts of nerve crossings "
            f"correlate with {truth.whose} at r = {pooled.r:.2f}"
            f" (95 % CI {interval(pooled.r_interval)})."
        )
    if pooled.mean_absolute_error is not None and pooled.bias is not None:
        bias = f"{abs(pooled.bias):.1f} too {'high' if pooled.bias > 0 else 'low'}"
        if round(pooled.bias, 1) == 0:
            bias = "neither too high nor too low"
        said += (
            f" On average a count differs from {truth.whose} by {pooled.mean_absolute_error:.1f} "
            f"crossings and is {bias}."
        )
    if scores.mean_r is not None:
        flat = f", with {flat_words(scores)} as 0" if scores.flat else ""
        theirs = (
            f"; the paper reports {paper.FOLD_MEAN.mean:.3f} ({paper.FOLD_MEAN.sd:.3f}) on its own "
            "images"
        )
        said += (
            f" The mean over {scores.mean_r.n} folds is r = {scores.mean_r.mean:.2f} "
            f"(sd {scores.mean_r.sd:.2f}{flat}){'' if scores.synthetic else theirs}."
        )
    return said + (f" {OPTIMISTIC}" if scores.optimistic else "")


def caveats(results: RunResults, scores: Scores) -> list[str]:
    """Return what a reader must know before trusting the figures, most important first."""
    said = [
        *([results.optimistic] if results.optimistic else []),
        *_on_folds(results, scores),
        *(note for note in results.notes if note != results.optimistic),
        *_on_second_expert(scores),
    ]
    if not results.synthetic:
        said.append(
            f"The paper's figures come from its own {paper.IMAGES} images of {paper.SUBJECTS} "
            "subjects. They are shown for orientation; the two are not directly comparable."
        )
    lost = [arm.label for arm in results.arms if arm.status == "not measured"]
    if lost:
        said.append(f"Not measured: {', '.join(dict.fromkeys(lost))}; the reasons are given below.")
    arms = dict.fromkeys((t.stage, t.arm) for t in results.trials if t.phase == "tune")
    good = {(t.stage, t.arm) for t in results.last_round if t.learned is not False}
    said += [
        f"No trial of the search learned anything for {arm} ({stage}), so nothing was chosen: it "
        "uses the first values of its grid."
        for stage, arm in arms
        if (stage, arm) not in good
    ]
    failed = sum(trial.status == "failed" for trial in results.trials)
    if failed:
        said.append(f"{failed} of {len(results.trials)} trials failed; each is listed below.")
    return said


def search_words(results: RunResults) -> str:
    """Say how the grid search was scored, and what a framed cell of its charts means."""
    trained = "part of a split's training images and scored on the rest of them"
    if results.settings.get("tune", {}).get("validation") == "held_out":
        trained = "a fold's training images and scored on its held-out images"
    frame = (
        "The settings of each split were chosen by trials that trained and were scored without "
        "its held-out images, so the images that test the choice had no part in it. The networks "
        "trained on all images have the settings with the best mean over all folds. A frame marks "
        "a cell that was chosen for some split, so it is not always the brightest."
    )
    if results.optimistic:
        frame = "The frame marks the best mean over the folds, which was chosen for every split."
    halved = results.settings.get("tune", {}).get("halving", 1) > 1
    if halved and len(results.last_round) < sum(t.phase == "tune" for t in results.trials):
        frame += (
            " The search ran in rounds: each split kept its best combinations for a longer round. "
            "Each cell shows the longest round that its combination reached."
        )
    return (
        f"Each combination was trained on {trained}. A cell shows the mean Dice of its "
        f"trials (nerves: within 3 px); brighter is better. {frame}"
    )


def _on_folds(results: RunResults, scores: Scores) -> list[str]:
    said = []
    if results.fold_unit == "subject":
        own = (
            "whose images were not used to train the model, but were used to choose its settings."
            if results.optimistic
            else "whose images had no part in training the model or in choosing its settings."
        )
        person = "subject" if results.synthetic else "person"
        said.append(
            f"All images of a subject are in one fold, so every count is of a {person} {own}"
        )
    found = [fold.agreement for fold in scores.folds if fold.agreement.r_interval]
    if found:
        fewest = min(found, key=lambda a: a.n)
        said.append(
            f"Folds are small: with {fewest.n} images, a correlation of {number(fewest.r, 2)} has "
            f"a 95 % CI of {interval(fewest.r_interval)}. The intervals treat images as "
            "independent; several images of one person carry less information."
        )
    if scores.flat:
        said.append(
            f"In {flat_words(scores)} the counts of the model or of {scores.truth.who} do not "
            "vary, so there is no correlation: the mean over folds takes it as 0."
        )
    unknown = len(scores.folds) - (scores.mean_r.n if scores.mean_r else 0)
    if unknown:
        said.append(
            f"{unknown} of {len(scores.folds)} folds have too few images for a correlation."
        )
    return said


def _on_second_expert(scores: Scores) -> list[str]:
    model, second = scores.split_model.agreement, scores.split_second.agreement
    if not model.r_interval or not second.r_interval:
        return []
    ours, theirs = model.r_interval, second.r_interval
    if ours[0] > theirs[1] or theirs[0] > ours[1]:
        return []
    return [
        f"On the {model.n} held-out images the intervals of the model {interval(ours)} and "
        f"of {scores.truth.second} {interval(theirs)} overlap: these images cannot show which "
        f"of the two counts more like {scores.truth.who}."
    ]


MEANINGS = {
    "Pearson's r": "Do the counts rise and fall together? 1 is a perfect line, 0 is no relation. "
    "It does not notice a counter who always finds twice as many.",
    "p value": "How often chance alone would give such a correlation if there were none.",
    "ICC(2,1)": "Could one counter replace the other? 1: same counts; above .75 is often called "
    "good, above .90 excellent.",
    "Lin's concordance": "How close the dots are to the line of equal counts; never above r.",
    "Bias": "Model minus {label} on average: above 0 the model finds more.",
    "Lower limit of agreement": "In about 95 of 100 images the difference is at least this ...",
    "Upper limit of agreement": "... and at most this. Are differences within these limits "
    "acceptable in use?",
    "Mean absolute error": "How far a count is off on average, in either direction, in crossings "
    "per image.",
}


def explain_agreement(found: Agreement, truth: Truth = EXPERT) -> list[Explained]:
    """Return every figure of agreement with its interval and one line of meaning."""
    low, high = found.limits or (None, None)
    low_band, high_band = found.limits_intervals or (None, None)
    figures = (
        (number(found.r, 2), interval(found.r_interval)),
        (p_value(found.p), ""),
        (number(found.icc, 2), interval(found.icc_interval)),
        (number(found.concordance, 2), interval(found.concordance_interval)),
        (number(found.bias, 2, sign=True), interval(found.bias_interval)),
        (number(low, 2, sign=True), interval(low_band)),
        (number(high, 2, sign=True), interval(high_band)),
        (number(found.mean_absolute_error, 2), ""),
    )
    return [
        Explained(name, value or "not known", bounds, meaning.replace("{label}", truth.label))
        for (name, meaning), (value, bounds) in zip(MEANINGS.items(), figures, strict=True)
    ]
