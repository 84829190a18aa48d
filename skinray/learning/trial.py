"""One trial: one configuration of one network, trained on one split.

A trial is a pure function of its :class:`TrialSpec` and the images. Its folder holds
``epochs.jsonl``, while it runs ``state.safetensors``, and when it is done ``outcome.json`` and
``weights.safetensors`` (no weights in a search, which only needs the score). Called again, a
finished trial returns at once and an unfinished one continues from its last state. So to
continue a run that was killed, call everything again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from skinray.errors import DamagedError, SettingsError, TrainingError, WeightsError
from skinray.files import whole, write_whole
from skinray.images.augment import Sample, generator
from skinray.learning.checkpoint import EpochEnd, StateKeeper, TrainState
from skinray.learning.feed import ALONE, Fed, Feed, InProcessFeed
from skinray.learning.loop import Objective, Snapshot, World, agreed, fit
from skinray.learning.spec import TrialSpec
from skinray.learning.validation import Judge, Judgement, judged
from skinray.models import build
from skinray.models.compute import placed
from skinray.models.weights.files import on_cpu
from skinray.models.weights.load import load_weights

STATE, WEIGHTS = "state.safetensors", "weights.safetensors"
OUTCOME, LOG = "outcome.json", "epochs.jsonl"
# Relative change of the weights below which a training did nothing. It is about proportional to the
# rate: 24 steps of the narrow HED gave .000025 at 1e-7 and .00012 at 5e-7; 900 at 1e-3 gave .28.
LEAST_MOVED = 0.005
# More rows than any epoch has, so that epoch and row can be one number.
ROWS_BELOW = 1 << 32


class TrialOutcome(BaseModel):
    """The result of a trial.

    Attributes
    ----------
    score : mean over the validation images; None without such images.
    evidence : mean over each part of them in ``TrialSpec.evidence``.
    judgement : of the network on the validation images, or without them on some training images;
        None if none of these has a label that marks something.
    moved : how far the training moved the weights, relative to their norm; None: not known.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    fingerprint: str
    score: float | None
    evidence: dict[str, float] = Field(default_factory=dict)
    history: list[EpochEnd]
    seconds: float
    fed: Fed = Fed()
    judgement: Judgement | None = None
    moved: float | None = None

    @property
    def learned(self) -> bool:
        """Whether the training changed the network, and it is better than ignoring the image."""
        return self.judgement is not None and self.judgement.learned and not self.stayed

    @property
    def stayed(self) -> bool:
        """Whether the weights are still about those that the training began with."""
        return self.moved is not None and self.moved < LEAST_MOVED


def new_network(spec: TrialSpec, folder: Path | None = None) -> nn.Module:
    """Build the trial's network with random weights from its seed, or pretrained weights.

    Parameters
    ----------
    folder : the trial's folder; needed if it starts from the weights of another trial.

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
            raise ValueError(f"{spec.key} starts from {spec.goes_on_from}: give its folder")
        load_weights(network, str(folder.parent / spec.goes_on_from / WEIGHTS))
    return network


def check_trials(specs: Iterable[TrialSpec]) -> None:
    """Raise now any error that building a trial's network would raise on another machine.

    Raises
    ------
    SettingsError
        If a network cannot be built with its options, or lacks the side outputs its loss needs.
    WeightsError
        If pretrained weights do not fit it.
    """
    distinct = {(s.arm.model.fingerprint(), s.arm.train.side_weight > 0): s for s in specs}
    for spec in distinct.values():
        model, where = spec.arm.model, f"{spec.stage} {spec.arm.label}"
        try:
            # Without weights to compare, shapes are enough: no memory, no random numbers.
            with torch.device("meta" if model.weights is None else "cpu"):
                network = new_network(spec)
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"{where}: {model.name} cannot be built with options {model.options} ({error}); "
                "correct model.options"
            ) from None
        except (SettingsError, WeightsError) as error:
            raise type(error)(f"{where}: {error}") from None
        if spec.arm.train.side_weight > 0 and not hasattr(network, "forward_sides"):
            raise SettingsError(
                f"{where}: {model.name} has no side outputs; set train.side_weight to 0"
            )


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
    """Train the trial in this process, or continue an interrupted one.

    Parameters
    ----------
    samples : the cohort by position; only positions in ``spec`` are read.
    folder : the trial's folder; created if missing.
    feed : source of the batches, closed at the end; None: this process makes the crops.
    world : the workers that train together. Only the first writes files and returns the outcome;
        the others return None.
    keeper : decides when the state is saved; None: every two minutes.
    on_epoch : called by every worker after each epoch.

    Raises
    ------
    TrainingError
        If the folder holds a trial with other settings, or the loss is not finite.
    """
    done = finished(spec, folder)
    if done is not None:
        return done
    device = device or torch.device("cpu")
    began, first = time.monotonic(), world.rank == 0
    feed = feed or InProcessFeed(spec, samples, world=world)
    keeper = keeper or StateKeeper(folder / STATE, spec.fingerprint())
    network = placed(new_network(spec, folder), device)
    before = on_cpu(dict(network.named_parameters())) if first else {}
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
    network.load_state_dict(state.kept)
    scored: list[float] = []
    judgement: Judgement | None
    if judge is not None:
        # If the last epoch is kept, the judge has just scored this network.
        last = spec.arm.train.keep == "last" and state.history[-1].validation is not None
        scored = judge.scores if last and judge.scores else judge.each(network)
        judgement = judge.judgement()
    else:
        judgement = judged(spec.stage, network, samples, spec.train, device)
    moved = relative_change(before, on_cpu(dict(network.named_parameters())))
    return finish(spec, folder, network, state, scored, seconds, feed.fed(), judgement, moved)


def relative_change(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Return the norm of the difference of two sets of weights, relative to that of the first."""
    change = sum(float((after[name] - value).square().sum()) for name, value in before.items())
    size = sum(float(value.square().sum()) for value in before.values())
    return math.sqrt(change / size) if size else math.inf


def _on_the_first(
    judge: Callable[[nn.Module], float], world: World
) -> Callable[[nn.Module], float]:
    """Return a judge that runs on the first worker and gives its score to all."""
    return lambda network: world.mean(judge(network) if world.rank == 0 else 0.0) * world.size


def log_epoch(folder: Path, end: EpochEnd) -> None:
    """Append an epoch to the trial's log; a repeated epoch appears twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(end)) + "\n")


def interrupted(spec: TrialSpec, folder: Path) -> TrainState | None:
    """Return the state that an earlier call saved in the folder, if any.

    A damaged one is ignored: the trial starts again and gives the same result.

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
    """Return the outcome of the trial, if it is done.

    Raises
    ------
    TrainingError
        If the file is damaged, or has other settings or other data.
    """
    path = folder / OUTCOME
    if not path.is_file():
        return None
    try:
        outcome = TrialOutcome.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise TrainingError(
            f"{path}: damaged; delete the folder {folder} to train this part again"
        ) from None
    if outcome.fingerprint != spec.fingerprint():
        raise TrainingError(
            f"{folder}: holds a trial with other settings or other data; choose another --out"
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
    judgement: Judgement | None,
    moved: float | None = None,
) -> TrialOutcome:
    """Save the network, which has the weights to keep, and as the last step the outcome.

    ``scored``: the score of each validation image.
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
        judgement=judgement,
        moved=moved,
    )
    folder.mkdir(parents=True, exist_ok=True)
    if spec.phase == "fit":  # a search has many trials and only needs their scores
        with whole(folder / WEIGHTS) as partial:
            save_file(on_cpu(network.state_dict()), partial)
    write_whole(folder / OUTCOME, outcome.model_dump_json(indent=1))
    (folder / STATE).unlink(missing_ok=True)
    return outcome


def trained_network(spec: TrialSpec, folder: Path) -> nn.Module:
    """Return the network of a finished trial, in evaluation mode on the CPU.

    Raises
    ------
    TrainingError
        If the trial is not finished, or its folder has been altered.
    """
    if finished(spec, folder) is None:
        raise TrainingError(f"{folder}: trial {spec.key} is not finished; run it first")
    network = build(spec.arm.model.name, **spec.arm.model.options)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"{folder / WEIGHTS}: missing or damaged ({error}); delete the folder {folder} to "
            "train this part again"
        ) from None
    return network.eval()
