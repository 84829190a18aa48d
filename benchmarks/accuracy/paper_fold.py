"""The paper's recipe at full size through one fold: tables, and images per second, on a GPU.

Run: ``python -m benchmarks.accuracy.paper_fold``. Draws 94 phantoms of 1600x1200 px for 24
subjects, or takes the cohort that ``--data`` names; trains on four fifths of the subjects for all
epochs and scores the rest, without Ray. What is finished in ``--out`` is not repeated, so a stopped
run continues when it is started again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, machine, write
from skinray.cli import guarded
from skinray.config.biopsies import RunSettings, StageSettings
from skinray.config.kinds import STAGES, Stage
from skinray.config.recipes import recipe
from skinray.config.training import ArmSettings
from skinray.images.augment import Sample
from skinray.images.cohort.common_scale import LabelledReader, common_scale
from skinray.images.cohort.manifest import fingerprint, read_manifest
from skinray.images.cohort.rows import Cohort
from skinray.images.phantoms.cohort import write_cohort
from skinray.learning.feed import InProcessFeed
from skinray.learning.held_out import SplitScores, score_split
from skinray.learning.provenance import versions
from skinray.learning.search import SpecMaker, Split, make_splits
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import TrialOutcome, run_trial, trained_network
from skinray.learning.validation import TOLERANCES, scores
from skinray.models.predict import predict_map
from skinray.models.weights.load import available
from skinray.progress import bar
from skinray.report.biopsies import paper
from skinray.report.biopsies.agreement import agreement
from skinray.report.biopsies.scores import Spread, spread
from skinray.report.biopsies.tables import mean_sd, p_value
from skinray.report.tables import interval, number

NAME = "paper_fold"
NOT_MEASURED = [
    "# The paper's recipe through one fold",
    "",
    "Not measured: no GPU here. On a machine with one: `python -m benchmarks.accuracy.paper_fold`.",
]
DIGITS = {"nerve": "Table 1. Nerve Dice", "dermis": "Table 2. Dermis Dice"}


@dataclass(frozen=True)
class Arm:
    """One trained row of table 1 or 2, and how fast it went."""

    spec: TrialSpec
    outcome: TrialOutcome
    dice: list[dict[int, float]]
    predicted_per_s: float

    @property
    def trained_per_s(self) -> float:
        """Crops per second of the epochs after the first, which warms up."""
        steady = self.outcome.history[1:] or self.outcome.history
        return sum(end.images for end in steady) / sum(end.seconds for end in steady)


@dataclass(frozen=True)
class Fold:
    """What the run works on."""

    settings: RunSettings
    cohort: Cohort
    samples: list[Sample]
    split: Split
    um_per_px: float | None
    out: Path
    device: torch.device
    threads: int


def main() -> None:
    """Measure, print and write ``results/paper_fold.md``; without a GPU say so there."""
    options = arguments()
    if not (torch.cuda.is_available() or options.tiny):
        kept = RESULTS / f"{NAME}.md"
        if kept.is_file() and kept.read_text(encoding="utf-8") != "\n".join(NOT_MEASURED) + "\n":
            print(f"no GPU here; {kept} keeps what was measured before")
            return
        write(NAME, NOT_MEASURED)
        return
    began = time.monotonic()
    fold = prepare(options)
    arms = [
        train_arm(fold, stage, arm)
        for stage in STAGES["biopsy"]
        for arm in fold.settings.stage(stage).arms
    ]
    lines = result(fold, arms, count(fold, arms), (time.monotonic() - began) / 60)
    if options.tiny:
        print("\n".join(lines))
    else:
        write(NAME, lines)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="cohort folder; default: draw phantoms")
    parser.add_argument("--out", type=Path, default=Path("runs/paper-fold"), help="run folder")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="augmentation")
    parser.add_argument("--main-only", action="store_true", help="leave the baselines out")
    parser.add_argument("--tiny", action="store_true", help="seconds on a CPU; writes no result")
    return parser.parse_args(argv)


def prepare(options: argparse.Namespace) -> Fold:
    """Draw or read the cohort and decode it."""
    settings = settings_of(tiny=options.tiny, main_only=options.main_only)
    data = options.data or options.out / "cohort"
    if options.data is None and not (data / "manifest.csv").is_file():
        images, size, subjects = (3, (256, 192), 3) if options.tiny else (94, (1600, 1200), 24)
        with bar("Drawing biopsies", images) as tell:
            write_cohort(data, images, size=size, subjects=subjects, progress=tell)
    cohort = read_manifest(data)
    scale = common_scale(cohort.biopsies)
    reader = LabelledReader(settings.read, scale)
    samples = []
    with bar("Decoding images", len(cohort.biopsies)) as tell:
        for biopsy in cohort.biopsies:
            samples.append(reader(biopsy))
            tell(len(samples), len(cohort.biopsies))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    split = make_splits(cohort, settings).folds[0]
    return Fold(settings, cohort, samples, split, scale, options.out, device, options.threads)


def settings_of(*, tiny: bool = False, main_only: bool = False) -> RunSettings:
    """Return the recipe without a search, each arm starting from weights in the cache."""
    settings = recipe("demo" if tiny else "paper").override({"folds.components_held_out": None})
    if tiny:
        settings = settings.override({
            "fit.enabled": False,
            "folds.count": 3,
            **{f"{stage}.augment.crop_px": 64 for stage in STAGES["biopsy"]},
            **{f"{stage}.main.train.epochs": 2 for stage in STAGES["biopsy"]},
        })  # fmt: skip
    stages = {stage: startable(settings.stage(stage)) for stage in STAGES["biopsy"]}
    return settings.override({
        stage: of.override({"baselines": ()} if tiny or main_only else {}).model_dump()
        for stage, of in stages.items()
    })  # fmt: skip


def startable(stage: StageSettings) -> StageSettings:
    """Let arms start from random weights where the published ones are missing; equal ones once."""
    arms: list[ArmSettings] = []
    for arm in sorted(stage.arms, key=lambda arm: not _at_hand(arm)):
        if not _at_hand(arm):
            changes = {"label": f"{arm.label}, from random weights", "model.weights": None}
            arm = arm.override(changes)
        if all((arm.model, arm.train) != (one.model, one.train) for one in arms):
            arms.append(arm)
    main = next(arm for arm in arms if arm.model.name == stage.main.model.name)
    rest = tuple(arm for arm in arms if arm is not main)
    return StageSettings(main=main, baselines=rest, augment=stage.augment)


def _at_hand(arm: ArmSettings) -> bool:
    return arm.model.weights is None or available(arm.model.weights)


def train_arm(fold: Fold, stage: Stage, arm: ArmSettings) -> Arm:
    """Train an arm, or take it up where it stopped, and score it on the held-out images."""
    maker = SpecMaker(fold.settings, fold.cohort, fingerprint(fold.cohort))
    spec = maker.make("fit", stage, arm, fold.split.name, fold.split.train, {})
    folder, epochs = fold.out / "trials" / spec.key, arm.train.epochs
    with bar(f"Training {stage}, {arm.label}", epochs) as tell:
        outcome = run_trial(
            spec, fold.samples, folder, device=fold.device,
            feed=InProcessFeed(spec, fold.samples, fold.threads),
            on_epoch=lambda end: tell(end.epoch + 1, epochs),
        )  # fmt: skip
    network = trained_network(spec, folder).to(fold.device)
    held_out = [fold.samples[i] for i in fold.split.held_out]
    predict_map(network, held_out[0].image, fold.device)  # the first call warms up
    began = time.perf_counter()
    maps = [predict_map(network, sample.image, fold.device) for sample in held_out]
    speed = len(maps) / (time.perf_counter() - began)
    dice = [scores(stage, p, s.masks[stage]) for p, s in zip(maps, held_out, strict=True)]
    return Arm(spec, outcome, dice, speed)


def count(fold: Fold, arms: Sequence[Arm]) -> SplitScores:
    """Count the held-out images with the main networks of both stages."""
    nerve, dermis = (
        next(arm.spec for arm in arms if arm.spec.stage == stage) for stage in STAGES["biopsy"]
    )
    networks = tuple(
        trained_network(spec, fold.out / "trials" / spec.key).to(fold.device)
        for spec in (nerve, dermis)
    )
    with bar("Counting crossings"):
        return score_split(
            (networks[0], networks[1]), fold.samples, fold.cohort.biopsies, fold.split.train,
            fold.split.held_out, fold.settings.crossings, fold.settings.fit,
            fold.out / "predictions", um_per_px=fold.um_per_px, device=fold.device,
            seed=fold.settings.seed,
        )  # fmt: skip


def result(fold: Fold, arms: Sequence[Arm], counted: SplitScores, minutes: float) -> list[str]:
    """Return the lines of the result: what ran where, tables 1 to 3 for the fold, speed."""
    height, width = fold.samples[0].shape
    split, subjects = fold.split, len({b.subject for b in fold.cohort.biopsies})
    found = agreement([i.model for i in counted.images], [i.expert for i in counted.images])
    theirs = paper.FOLDS[0]
    named = ", ".join(f"{k} {v}" for k, v in versions().items() if v != "not installed")
    return [
        "# The paper's recipe through one fold",
        "",
        f"Recipe `{fold.settings.recipe}`, {len(fold.samples)} images of {width}x{height} px, "
        f"{subjects} subjects; fold 1 of {fold.settings.folds.count} by "
        f"{fold.settings.folds.unit}: {len(split.train)} train, {len(split.held_out)} are held "
        "out. All of the recipe's epochs, no grid search; networks start from the published "
        "weights unless a label says otherwise. The paper's figures are of other images: real "
        "biopsies.",
        "",
        f"Machine: {machine()}. {named}. {fold.threads} augmentation threads; "
        f"{minutes:.0f} minutes in all.",
        *(line for stage in STAGES["biopsy"] for line in dice_table(stage, arms)),
        "",
        "## Table 3. Counts against the expert, fold 1",
        "",
        "| | n | r | p | 95 % CI of r | ICC | bias | limits |",
        "|---|---|---|---|---|---|---|---|",
        f"| this run | {found.n} | {number(found.r)} | {p_value(found.p)} | "
        f"{interval(found.r_interval)} | {number(found.icc, 2)} | "
        f"{number(found.bias, 1, sign=True)} | {interval(found.limits, 1)} |",
        f"| the paper's fold 1 | | {theirs.r} | {p_value(theirs.p)} | | | | |",
        "",
        "## Images per second",
        "",
        "Training: augmented crops, first epoch left out. Prediction: whole images one by one, "
        "from uint8 in memory to the map in memory.",
        "",
        "| network | epochs | crop px | training | prediction | minutes of training |",
        "|---|---|---|---|---|---|",
        *(speed_row(arm) for arm in arms),
    ]


def dice_table(stage: Stage, arms: Sequence[Arm]) -> list[str]:
    """Return table 1 or 2: this run's rows, then the paper's."""
    tolerances = TOLERANCES[stage]
    names = ["Dice" if k == 0 else f"k = {k} px" for k in tolerances]
    rows: list[tuple[str, Sequence[Spread | paper.MeanSd | None]]] = [
        (arm.spec.arm.label, [spread(image[k] for image in arm.dice) for k in tolerances])
        for arm in arms
        if arm.spec.stage == stage
    ]
    theirs = paper.NERVE if stage == "nerve" else paper.DERMIS
    rows += [(f"the paper's {name}", [row[k] for k in tolerances]) for name, row in theirs.items()]
    return [
        "",
        f"## {DIGITS[stage]}, mean (sd) over held-out images",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(f"| {label} | {' | '.join(map(mean_sd, cells))} |" for label, cells in rows),
    ]


def speed_row(arm: Arm) -> str:
    """Return how fast a network trained and predicted."""
    epochs, crop = len(arm.outcome.history), arm.spec.augment.crop_px
    return (
        f"| {arm.spec.stage}: {arm.spec.arm.label} | {epochs} | {crop} | {arm.trained_per_s:.1f} "
        f"| {arm.predicted_per_s:.1f} | {arm.outcome.seconds / 60:.1f} |"
    )


if __name__ == "__main__":
    guarded(main)
