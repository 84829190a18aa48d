"""The results of a run on photographs in plain words, and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from skinray.config.photos import SkinSettings
from skinray.config.training import ArmSettings, TrainSettings
from skinray.learning.photos.trials import SCENARIOS, Scenario
from skinray.learning.photos.views import View, ViewBin
from skinray.report.photos.paper import PAPER_EPOCHS, PAPER_PUBLIC, PAPER_TEST, PAPER_TRAIN
from skinray.report.photos.rows import PhotoRow
from skinray.report.photos.table import PhotoResults, looked_words, of_masks, starts, unlearned

# With fewer test photographs, intervals are wide and every bin is small.
FEW = 100


class Weakest(NamedTuple):
    """The bin with a network's lowest Jaccard."""

    view: View
    bin: ViewBin


def best(rows: Sequence[PhotoRow], scenario: Scenario | None = None) -> PhotoRow | None:
    """Return the row with the highest mean Jaccard, of one scenario or of all."""
    of = [row for row in rows if scenario in (None, row.scenario)]
    return max(of, key=lambda row: row.summary.jaccard.value, default=None)


def answer(results: PhotoResults) -> str:
    """Return what the run found, in one or two sentences."""
    top = best(results.rows)
    if top is None:
        return "No network was tested."
    said = (
        f"{top.label}, {_of(top.scenario)}, finds the skin with a mean Jaccard of "
        f"{_figure(top)} on {results.test_images} test photographs that no network was trained on."
    )
    others = [
        f"{_figure(row)} when {_of(row.scenario)} ({row.label})"
        for scenario in SCENARIOS
        if scenario != top.scenario and (row := best(results.rows, scenario)) is not None
    ]
    if others:
        said += f" The best of the other scenarios: {' and '.join(others)}."
    return said


def weakest(row: PhotoRow) -> Weakest | None:
    """Return the bin with the lowest Jaccard of those with enough photographs."""
    found = [Weakest(view, view.known[0]) for view in row.views if len(view.known) > 1]

    def overlap(one: Weakest) -> float:
        return one.bin.jaccard.value if one.bin.jaccard else 1.0

    return min(found, key=overlap, default=None)


def caveats(results: PhotoResults) -> list[str]:
    """Return what a reader must know before trusting the figures, most important first."""
    said = [*looked_words(results.rows), *unlearned(results.rows), *of_masks(results)]
    if results.test_images < FEW:
        said.append(
            f"Only {results.test_images} photographs were tested: the intervals are wide, and most "
            "groups are too small for a figure."
        )
    epochs = max((row.epochs for row in results.rows), default=0)
    allowed = _allowed_epochs(results)
    if allowed is not None and allowed < PAPER_EPOCHS:
        first = results.settings.get("pretraining_epochs")
        apart = f" (pretraining: {first})" if first is not None else ""
        said.append(
            f"Training was limited to {allowed} epochs{apart}, and took at most {epochs}; the "
            f"paper's limit is {PAPER_EPOCHS}."
        )
    recipe = results.settings.get("recipe", "paper")
    if recipe != "paper":
        said.append(f"The settings are those of the recipe '{recipe}', not the paper's.")
    said += starts(results.rows)
    if len(results.rows) > 1:
        said.append(
            "The best network and its weakest group were chosen on these same photographs, so the "
            "first figure is optimistic and the second pessimistic."
        )
    said += [
        "Jaccard is the mean over photographs, each at its own size; intervals are over "
        "photographs. Several photographs of one person carry less information.",
        "Skin tone is estimated from uncalibrated photographs: exposure and colour cast change it. "
        "It classifies photographs, not people.",
        f"The paper's figures come from its own photographs ({PAPER_TRAIN} for training, "
        f"{PAPER_TEST} for testing, {PAPER_PUBLIC} public). They are shown for orientation; the "
        "two are not directly comparable.",
    ]
    return said


def training_explained(results: PhotoResults) -> list[str]:
    """Return what the curves show and which weights were kept, once for each way of training."""
    said: dict[str, list[str]] = {}
    for network in results.settings.get("networks") or []:
        arm = ArmSettings.model_validate(network)
        said.setdefault(_how(arm.train), []).append(arm.label)
    if len(said) == 1:
        return list(said)
    return [f"{', '.join(labels)}: {how[0].lower()}{how[1:]}" for how, labels in said.items()]


def confidence_explained(results: PhotoResults) -> str:
    """Return what the pictures of the raw confidence show."""
    skin = SkinSettings.model_validate(results.settings.get("skin", {}))
    edges = "it is fitted to the photograph's edges and " if skin.refine else ""
    return (
        "Raw confidence is drawn as in the paper's figure 3: black is 0 %, white 100 % that a "
        f"pixel is skin. It is the network's output, before {edges}the threshold of "
        f"{100 * skin.threshold:g} % gives the mask."
    )


def _how(train: TrainSettings) -> str:
    loss = {"jaccard": "1 minus a soft Jaccard", "dice": "1 minus a soft Dice"}.get(
        train.loss, train.loss
    )
    if train.cross_entropy:
        loss += f" plus {train.cross_entropy:g} times the cross-entropy of the pixels"
    kept = "the epoch with the best validation" if train.keep == "best" else "the last epoch"
    mean = ", as a running mean over steps" if train.average else ""
    if train.early_stop_epochs is None:
        ends = "training never stops early"
    else:
        ends = f"training stops after {train.early_stop_epochs} epochs without improvement"
    return f"The loss is {loss}. The weights are those of {kept}{mean}; {ends}."


def _allowed_epochs(results: PhotoResults) -> int | None:
    networks = results.settings.get("networks") or []
    return max((network["train"]["epochs"] for network in networks), default=None)


def _figure(row: PhotoRow) -> str:
    figure = row.summary.jaccard
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _of(scenario: Scenario) -> str:
    return {
        "direct transfer": "trained only on public photographs",
        "direct training": "trained only on clinical photographs",
        "fine-tuning": "pretrained and fine-tuned",
    }[scenario]
