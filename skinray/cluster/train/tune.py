"""Ray Tune runs many trials, as many at once as the cluster holds.

A trial with one worker on CPUs is a plain function in a reused actor. Any other trial, and every
network of the bundle, is a small driver that runs Ray Train. All run the same loop and leave the
same folder.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner
from ray.tune.integration.ray_train import TuneReportCallback

from skinray.cluster.capacity import HEAD, in_words
from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.train.data import feed_for
from skinray.cluster.train.held import held, left_behind, unplaced
from skinray.cluster.train.resources import DRIVER_SHARE, WAITING_SHOWN_EVERY_S, Resources
from skinray.cluster.train.sources import Source
from skinray.cluster.train.trial_progress import TrialProgress
from skinray.cluster.train.workers import BEGUN, train_on_workers
from skinray.config.training import ClusterSettings
from skinray.errors import DivergedError, NotLearnedError, SkinrayError, TrainingError
from skinray.learning.checkpoint import StateKeeper
from skinray.learning.feed import ALONE
from skinray.learning.spec import TrialSpec, describe
from skinray.learning.trial import STATE, TrialOutcome, finished, run_trial

LOG = logging.getLogger(__name__)

# The actors and placement groups of Ray Train end within seconds after a training.
RELEASED_WITHIN_S = 30.0


@dataclass(frozen=True)
class TrialResult:
    """A trial with its outcome, or with the reason why it has none.

    Attributes
    ----------
    diverged : whether it failed because of its own settings: the loss was not finite.
    """

    spec: TrialSpec
    folder: Path
    outcome: TrialOutcome | None
    error: str = ""
    diverged: bool = False


# A trial that has finished, with its outcome.
Trained = tuple[TrialSpec, TrialOutcome]


def all_trained(results: Sequence[TrialResult]) -> list[Trained]:
    """Return every trial with its outcome.

    Raises
    ------
    TrainingError
        If a trial has none; the message names it and gives the reason. NotLearnedError if its own
        settings are the reason.
    """
    trained = []
    for result in results:
        if result.outcome is None:
            kind = NotLearnedError if result.diverged else TrainingError
            raise kind(f"{describe(result.spec)} failed: {result.error}")
        trained.append((result.spec, result.outcome))
    return trained


def run_trials(
    specs: Sequence[TrialSpec],
    source: Source,
    folder: Path,
    resources: Resources,
    settings: ClusterSettings,
    title: str,
) -> list[TrialResult]:
    """Run every trial that has not finished yet; a trial that fails does not stop the others.

    Parameters
    ----------
    folder : holds one folder per trial, named by its key; every node must see it.
    title : of the progress line.

    Raises
    ------
    TrainingError
        If a folder holds a trial with other settings or other data.
    """
    folders = {spec.key: folder / spec.key for spec in specs}
    todo = [spec for spec in specs if finished(spec, folders[spec.key]) is None]
    shared = _Shared(source, folder.absolute(), resources, settings)
    errors: dict[str, str] = {}
    diverged: set[str] = set()
    before = held() if todo else None
    for again in range(settings.max_failures + 1):
        if not todo:
            break
        if again:
            LOG.warning("restarting %d trials: their worker died before they started", len(todo))
        progress = TrialProgress(
            title,
            {spec.key: spec.arm.train.epochs for spec in todo},
            {spec.key: len(spec.train) * spec.arm.train.draws_per_image for spec in todo},
        )
        _tune(todo, shared, progress)
        errors |= progress.errors
        diverged |= progress.diverged
        todo = [spec for spec in todo if spec.key in progress.dropped]
    for left in left_behind(before, RELEASED_WITHIN_S):
        LOG.warning("%s: the trials have ended and left behind %s", title, left)
    results = []
    for spec in specs:
        outcome = finished(spec, folders[spec.key])
        error = "" if outcome else errors.get(spec.key, "ended without an outcome")
        bad = outcome is None and spec.key in diverged
        results.append(TrialResult(spec, folders[spec.key], outcome, error, bad))
    return results


@dataclass(frozen=True)
class _Shared:
    """What all trials of a call share; ``folder`` holds theirs."""

    source: Source
    folder: Path
    resources: Resources
    settings: ClusterSettings


def _tune(specs: Sequence[TrialSpec], shared: _Shared, progress: TrialProgress) -> None:
    by_key = {spec.key: spec for spec in specs}
    trainable = tune.with_parameters(_run, specs=by_key, shared=shared)
    resources = shared.resources
    request = {HEAD: DRIVER_SHARE} if resources.nested else resources.worker
    tuner = Tuner(
        tune.with_resources(trainable, PlacementGroupFactory([request])),
        param_space={"trial": tune.grid_search(list(by_key))},
        tune_config=TuneConfig(max_concurrent_trials=resources.at_once, reuse_actors=True),
        run_config=RunConfig(
            name=f"{time.strftime('%Y%m%d-%H%M%S')}-{specs[0].phase}",
            storage_path=str(shared.folder / "tune"),
            failure_config=FailureConfig(max_failures=shared.settings.max_failures),
            callbacks=[progress],
            verbose=0,
        ),
    )
    # At the end Tune reads the errors that it stored, which a full disk may have cut off;
    # ``progress`` has recorded them all by then.
    with progress.steps, contextlib.suppress(pickle.UnpicklingError, EOFError):
        tuner.fit()


def _run(config: dict[str, Any], *, specs: dict[str, TrialSpec], shared: _Shared) -> None:
    """Train one trial: in this process, or as the driver of several workers."""
    spec, source, resources = specs[config["trial"]], shared.source, shared.resources
    own = shared.folder / spec.key

    def tell(epoch: int, **more: Any) -> None:
        tune.report({"trial": spec.key, "epoch": epoch, **more})

    try:
        if resources.nested:
            _drive(spec, shared, own, tell)
            return
        keep_freed_memory()
        torch.set_num_threads(resources.cpus_per_worker)
        every_s = shared.settings.checkpoint_every_s
        run_trial(
            spec,
            source,
            own,
            feed=feed_for(spec, source, ALONE, resources, own),
            keeper=StateKeeper(own / STATE, spec.fingerprint(), every_s),
            on_epoch=lambda end: tell(end.epoch + 1),
        )
    except SkinrayError as error:
        # A restart would fail in the same way: report the reason instead.
        tell(0, error=str(error), diverged=isinstance(error, DivergedError))
    else:
        tell(spec.arm.train.epochs)


def _drive(spec: TrialSpec, shared: _Shared, own: Path, tell: Callable[..., None]) -> None:
    """Run one training with Ray Train and check that it leaves nothing on the cluster."""
    resources = shared.resources
    # With several trainings at once, leftovers cannot be told apart: `run_trials` checks at the
    # end instead.
    before = held() if resources.at_once == 1 else None
    with _shown_while_waiting(resources, own, lambda waiting: tell(0, waiting=waiting)):
        train_on_workers(
            spec, shared.source, own, resources, shared.settings, [TuneReportCallback()]
        )
    left = left_behind(before, RELEASED_WITHIN_S)
    tell(spec.arm.train.epochs, left="; ".join(left))


@contextlib.contextmanager
def _shown_while_waiting(
    resources: Resources, folder: Path, show: Callable[[str], None]
) -> Iterator[None]:
    """Show every half minute what a training waits for, until its workers have started.

    They wait for other trainings and jobs to end, or for nodes to be added.
    """
    bundles = [resources.worker] * resources.workers[0]
    ended, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not ended.wait(WAITING_SHOWN_EVERY_S) and not (folder / BEGUN).exists():
            if unplaced(resources.worker):
                show(f"waiting for {in_words(bundles)} for {time.monotonic() - began:.0f} s")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
