"""One trial: one configuration of one network, trained on one split.

A trial is a pure function of its :class:`TrialSpec` and the images, and owns a folder:
``epochs.jsonl`` from the start, ``state.safetensors`` while it runs, ``outcome.json`` and
``weights.safetensors`` when it is done (not in a search, of which only the score is wanted).
Called again, it returns at once or continues from the state stored last, so a run that was
killed anywhere is continued by calling everything once more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from skinray.errors import DamagedError, TrainingError
from skinray.files import whole, write_whole
from skinray.images.augment import Sample, generator
from skinray.learning.checkpoint import EpochEnd, StateKeeper, TrainState
from skinray.learning.feed import ALONE, Fed, Feed, InProcessFeed
from skinray.learning.loop import Objective, Snapshot, World, agreed, fit, kept_weights
from skinray.learning.spec import TrialSpec
from skinray.learning.validation import image_scores
from skinray.models import build
from skinray.models.compute import placed
from skinray.models.weights.load import load_weights

STATE, WEIGHTS = "state.safetensors", "weights.safetensors"
OUTCOME, LOG = "outcome.json", "epochs.jsonl"
# More than an epoch's plan has, so that epoch and row make one number.
ROWS_BELOW = 1 << 32


class TrialOutcome(BaseModel):
    """What a trial came to.

    Attributes
    ----------
    score : mean over the validation images; none: there were none.
    evidence : the same over each part that ``TrialSpec.evidence`` names.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    fingerprint: str
    score: float | None
    evidence: dict[str, float] = Field(default_factory=dict)
    history: list[EpochEnd]
    seconds: float
    fed: Fed = Fed()


def new_network(spec: TrialSpec, folder: Path | None = None) -> nn.Module:
    """Build the trial's network: random weights from its seed, then pretrained ones if named.

    Parameters
    ----------
    folder : the trial's own, needed where it goes on from another trial.

    Raises
    ------
    WeightsError
        If the weights are missing, damaged or of another network.
    """
    torch.manual_seed(int(generator(spec.seed, 0, "weights").integers(2**62)))
    network = build(spec.arm.model.name, **spec.arm.model.options)
    if spec.arm.model.weights is not None:
        load_weights(network, spec.arm.model.weights)
    if spec.goes_on_from is not None:
        if folder is None:
            raise ValueError(f"{spec.key} goes on from {spec.goes_on_from}: name its folder")
        load_weights(network, str(folder.parent / spec.goes_on_from / WEIGHTS))
    return network


def run_trial(
    spec: TrialSpec,
    samples: Sequence[Sample],
    folder: Path,
    *,
    device: torch.device | None = None,
    feed: Feed | None = None,
    world: World = ALONE,
    keeper: StateKeeper | None = None,
    on_epoch: Callable[[EpochEnd], None] | None = None,
) -> TrialOutcome | None:
    """Train the trial in this process, or finish what an earlier call started.

    Parameters
    ----------
    samples : the cohort by position; only the positions that ``spec`` names are read.
    folder : the trial's own; created if missing.
    feed : gives the batches, and is closed in the end; none: crops made in this process.
    world : the workers that train together. The first one writes, and alone has an outcome to
        return; the others return None.
    keeper : decides when the state is stored; none: every two minutes.
    on_epoch : called by every worker after each epoch.

    Raises
    ------
    TrainingError
        If the folder holds a trial of other settings, or the loss is not finite.
    """
    done = finished(spec, folder)
    if done is not None:
        return done
    device = device or torch.device("cpu")
    began, first = time.monotonic(), world.rank == 0
    feed = feed or InProcessFeed(spec, samples, world=world)
    keeper = keeper or StateKeeper(folder / STATE, spec.fingerprint())
    network = placed(new_network(spec, folder), device)
    judge = Judge(spec, samples, device) if spec.validation else None
    start = interrupted(spec, folder)
    place = -1 if start is None else start.epoch * ROWS_BELOW + start.row
    agreed(place, world, "the state to continue from")

    def after_epoch(end: EpochEnd, snapshot: Snapshot) -> None:
        if first:
            log_epoch(folder, end)
        keeper(snapshot)
        if on_epoch is not None:
            on_epoch(end)

    try:
        state = fit(
            world.wrap(Objective(network, spec.arm.train)),
            network,
            spec.arm.train,
            feed.batches,
            seed=spec.seed,
            device=device,
            start=start,
            validate=None if judge is None else _on_the_first(judge, world),
            on_step=keeper,
            on_epoch=after_epoch,
            world=world,
        )
    finally:
        try:
            feed.close()
        finally:
            keeper.close()
    if not first:
        return None
    seconds = time.monotonic() - began
    network.load_state_dict(kept_weights(state))
    scored: list[float] = []
    if judge is not None:
        # The last epoch's network, which it judged a moment ago, unless another epoch is kept.
        last = spec.arm.train.keep == "last" and state.history[-1].validation is not None
        scored = judge.scores if last and judge.scores else judge.each(network)
    return finish(spec, folder, network, state, scored, seconds, feed.fed())


def _on_the_first(
    judge: Callable[[nn.Module], float], world: World
) -> Callable[[nn.Module], float]:
    """Let the first worker judge, and every worker have its verdict."""
    return lambda network: world.mean(judge(network) if world.rank == 0 else 0.0) * world.size


def log_epoch(folder: Path, end: EpochEnd) -> None:
    """Append an epoch to the trial's log; one that had to be repeated stands there twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(end)) + "\n")


class Judge:
    """Scores networks on the trial's validation images; keeps what the last one scored."""

    def __init__(self, spec: TrialSpec, samples: Sequence[Sample], device: torch.device) -> None:
        self.spec, self.samples, self.device = spec, samples, device
        self.scores: list[float] = []

    def __call__(self, network: nn.Module) -> float:
        """Return the mean of :meth:`each`."""
        return fmean(self.each(network))

    def each(self, network: nn.Module) -> list[float]:
        """Return the score of each validation image."""
        seen = (self.samples[at] for at in self.spec.validation)
        self.scores = image_scores(self.spec.stage, network, seen, self.device)
        return self.scores


def interrupted(spec: TrialSpec, folder: Path) -> TrainState | None:
    """Return the state an earlier call left in the folder, if any.

    A damaged one is ignored: the trial starts over and comes to the same result.

    Raises
    ------
    TrainingError
        If it belongs to another training.
    """
    path = folder / STATE
    try:
        return TrainState.load(path, spec.fingerprint()) if path.is_file() else None
    except DamagedError:
        return None


def finished(spec: TrialSpec, folder: Path) -> TrialOutcome | None:
    """Return the outcome of an earlier call, if it came to its end.

    Raises
    ------
    TrainingError
        If the file is damaged, or of other settings or other data.
    """
    path = folder / OUTCOME
    if not path.is_file():
        return None
    try:
        outcome = TrialOutcome.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise TrainingError(
            f"{path}: damaged; delete the folder {folder} to train this part anew"
        ) from None
    if outcome.fingerprint != spec.fingerprint():
        raise TrainingError(
            f"{folder}: holds a trial of other settings or other data; choose another --out"
        )
    return outcome


def finish(
    spec: TrialSpec,
    folder: Path,
    network: nn.Module,
    state: TrainState,
    scored: Sequence[float],
    seconds: float,
    fed: Fed,
) -> TrialOutcome:
    """Store the network, which holds the weights to keep, and commit the outcome as the last step.

    ``scored``: of each validation image.
    """
    of = dict(zip(spec.validation, scored, strict=True))
    outcome = TrialOutcome(
        key=spec.key,
        fingerprint=spec.fingerprint(),
        score=fmean(of.values()) if of else None,
        evidence={name: fmean(of[at] for at in part) for name, part in spec.evidence.items()},
        history=state.history,
        seconds=seconds if not state.history else sum(end.seconds for end in state.history),
        fed=fed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    if spec.phase == "fit":  # of a search only the score is wanted, and it has many trials
        weights = network.state_dict()
        kept = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
        with whole(folder / WEIGHTS) as partial:
            save_file(kept, partial)
    write_whole(folder / OUTCOME, outcome.model_dump_json(indent=1))
    (folder / STATE).unlink(missing_ok=True)
    return outcome


def trained_network(spec: TrialSpec, folder: Path) -> nn.Module:
    """Return the network of a finished trial, in eval mode on the CPU.

    Raises
    ------
    TrainingError
        If the trial has not finished, or its folder was altered since.
    """
    if finished(spec, folder) is None:
        raise TrainingError(f"{folder}: trial {spec.key} has not finished; run it first")
    network = build(spec.arm.model.name, **spec.arm.model.options)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"{folder / WEIGHTS}: missing or damaged ({error}); delete the folder {folder} to "
            "train this part anew"
        ) from None
    return network.eval()
