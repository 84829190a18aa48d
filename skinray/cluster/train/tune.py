"""Ray Tune runs many trials: as many at once as the cluster holds.

A trial with one worker on CPUs is a plain function in a reused actor; any other, and every
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
from ray.tune import Callback, FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner
from ray.tune.integration.ray_train import TuneReportCallback

from skinray.cluster.capacity import HEAD, in_words
from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.session import reason
from skinray.cluster.train.data import feed_for
from skinray.cluster.train.held import held, left_behind, unplaced
from skinray.cluster.train.placement import WAITING_SAID_EVERY_S
from skinray.cluster.train.resources import DRIVER_SHARE, Resources
from skinray.cluster.train.sources import Source
from skinray.cluster.train.workers import BEGUN, train_on_workers
from skinray.config.training import ClusterSettings
from skinray.errors import DivergedError, SkinrayError, TrainingError
from skinray.learning.checkpoint import StateKeeper
from skinray.learning.feed import ALONE
from skinray.learning.spec import TrialSpec, describe
from skinray.learning.trial import STATE, TrialOutcome, finished, run_trial
from skinray.progress import Steps

log = logging.getLogger(__name__)

# Ray Train's actors and placement groups end within seconds of a training.
RELEASED_WITHIN_S = 30.0


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial: its outcome, or the reason why it has none.

    Attributes
    ----------
    diverged : whether its own settings were the reason: the loss was not finite.
    """

    spec: TrialSpec
    folder: Path
    outcome: TrialOutcome | None
    error: str = ""
    diverged: bool = False


# A trial that came to its end, and what it came to.
Trained = tuple[TrialSpec, TrialOutcome]


def all_trained(results: Sequence[TrialResult]) -> list[Trained]:
    """Return every trial with its outcome.

    Raises
    ------
    TrainingError
        If one has none; the message says which, and why.
    """
    trained = []
    for result in results:
        if result.outcome is None:
            raise TrainingError(f"{describe(result.spec)} failed: {result.error}")
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
    """Run every trial that has not finished yet; one failing does not stop the others.

    Parameters
    ----------
    folder : holds one folder a trial, named by its key; must be seen by every node.
    title : heads the progress lines.

    Raises
    ------
    TrainingError
        If a folder holds a trial of other settings or other data.
    """
    folders = {spec.key: folder / spec.key for spec in specs}
    todo = [spec for spec in specs if finished(spec, folders[spec.key]) is None]
    errors: dict[str, str] = {}
    diverged: set[str] = set()
    before = held() if todo else None
    for again in range(settings.max_failures + 1):
        if not todo:
            break
        if again:
            log.warning("%d trainings begin again: their worker died before they began", len(todo))
        progress = TrialProgress(
            title,
            {spec.key: spec.arm.train.epochs for spec in todo},
            {spec.key: len(spec.train) * spec.arm.train.draws_per_image for spec in todo},
        )
        _tune(todo, source, folder, resources, settings, progress)
        errors |= progress.errors
        diverged |= progress.diverged
        todo = [spec for spec in todo if spec.key in progress.dropped]
    for left in left_behind(before, RELEASED_WITHIN_S):
        log.warning("%s: the trainings have ended and left behind %s", title, left)
    results = []
    for spec in specs:
        outcome = finished(spec, folders[spec.key])
        error = "" if outcome else errors.get(spec.key, "ended without an outcome")
        bad = outcome is None and spec.key in diverged
        results.append(TrialResult(spec, folders[spec.key], outcome, error, bad))
    return results


def _tune(
    specs: Sequence[TrialSpec],
    source: Source,
    folder: Path,
    resources: Resources,
    settings: ClusterSettings,
    progress: TrialProgress,
) -> None:
    by_key = {spec.key: spec for spec in specs}
    trainable = tune.with_parameters(
        _run, specs=by_key, source=source, folder=str(folder.absolute()),
        resources=resources, settings=settings,
    )  # fmt: skip
    tuner = Tuner(
        tune.with_resources(trainable, _request(resources)),
        param_space={"trial": tune.grid_search(list(by_key))},
        tune_config=TuneConfig(max_concurrent_trials=resources.at_once, reuse_actors=True),
        run_config=RunConfig(
            name=f"{time.strftime('%Y%m%d-%H%M%S')}-{specs[0].phase}",
            storage_path=str((folder / "tune").absolute()),
            failure_config=FailureConfig(max_failures=settings.max_failures),
            callbacks=[progress],
            verbose=0,
        ),
    )
    # Tune ends by reading what it stored of each error, which a full disk may have cut off;
    # ``progress`` has heard of all of them by then.
    with progress.steps, contextlib.suppress(pickle.UnpicklingError, EOFError):
        tuner.fit()


def _request(resources: Resources) -> PlacementGroupFactory:
    if resources.nested:
        return PlacementGroupFactory([{HEAD: DRIVER_SHARE}])
    return PlacementGroupFactory([resources.worker])


def _run(
    config: dict[str, Any],
    *,
    specs: dict[str, TrialSpec],
    source: Source,
    folder: str,
    resources: Resources,
    settings: ClusterSettings,
) -> None:
    """Train one trial: in this process, or as the driver of several workers."""
    spec = specs[config["trial"]]
    own = Path(folder) / spec.key

    def tell(epoch: int, **more: Any) -> None:
        tune.report({"trial": spec.key, "epoch": epoch, **more})

    try:
        if resources.nested:
            _train_alone(spec, source, own, resources, settings, tell)
            return
        keep_freed_memory()
        torch.set_num_threads(resources.cpus_per_worker)
        run_trial(
            spec,
            source,
            own,
            feed=feed_for(spec, source, ALONE, resources, own),
            keeper=StateKeeper(own / STATE, spec.fingerprint(), settings.checkpoint_every_s),
            on_epoch=lambda end: tell(end.epoch + 1),
        )
    except SkinrayError as error:
        # Would fail again each time: say why instead of being restarted.
        tell(0, error=str(error), diverged=isinstance(error, DivergedError))
    else:
        tell(spec.arm.train.epochs)


def _train_alone(
    spec: TrialSpec,
    source: Source,
    folder: Path,
    resources: Resources,
    settings: ClusterSettings,
    tell: Callable[..., None],
) -> None:
    """Run one training with Ray Train and check that it leaves nothing on the cluster."""
    # Of several trainings at once, nobody can say whose leftovers they are: `run_trials` checks
    # at the end.
    before = held() if resources.at_once == 1 else None
    with _said_while_waiting(resources, folder, lambda waiting: tell(0, waiting=waiting)):
        train_on_workers(spec, source, folder, resources, settings, [TuneReportCallback()])
    left = left_behind(before, RELEASED_WITHIN_S)
    tell(spec.arm.train.epochs, left="; ".join(left))


@contextlib.contextmanager
def _said_while_waiting(
    resources: Resources, folder: Path, say: Callable[[str], None]
) -> Iterator[None]:
    """Say every half minute what a training waits for, until its workers have begun.

    They wait for what other trainings and jobs hold, or for nodes to come.
    """
    bundles = [resources.worker] * resources.workers[0]
    ended, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not ended.wait(WAITING_SAID_EVERY_S) and not (folder / BEGUN).exists():
            if unplaced(resources.worker):
                say(f"waiting for {in_words(bundles)}, since {time.monotonic() - began:.0f} s")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


LOG = logging.getLogger(__name__)


class TrialProgress(Callback):  # type: ignore[misc]
    """Counts the crops that all trials of a phase have seen, in ``steps``.

    Epochs would be a poor measure of the time to go: one of a pretraining may hold many times
    the images of one that follows.

    Parameters
    ----------
    epochs : of each trial, by its key; the most it may train.
    crops : of each trial, in one epoch.

    Attributes
    ----------
    errors : why a trial has no outcome, by its key.
    diverged : the trials whose own settings were the reason.
    dropped : trials that Tune gave up before they had begun as often as they may. It does so
        where a worker that is kept after one trial dies before the next begins.
    """

    def __init__(self, title: str, epochs: dict[str, int], crops: dict[str, int]) -> None:
        self.epochs, self.crops = epochs, crops
        self.seen = dict.fromkeys(epochs, 0)
        self.errors: dict[str, str] = {}
        self.diverged: set[str] = set()
        self.dropped: set[str] = set()
        self.begun = dict.fromkeys(epochs, 0)
        self.ended = 0
        self.steps = Steps(title, self._crops_in(epochs))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the console behind: Tune stores its callbacks, and a console cannot be stored."""
        return {
            "epochs": self.epochs, "crops": self.crops, "seen": self.seen, "ended": self.ended,
        }  # fmt: skip

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count how often a trial has begun."""
        self.begun[trial.config["trial"]] += 1

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take note of a trial's epoch, or of the reason why it has none."""
        key = trial.config["trial"]
        if result.get("error"):
            self.errors[key] = str(result["error"])
        if result.get("diverged"):
            self.diverged.add(key)
        if result.get("left"):
            LOG.warning("%s has ended and left behind %s", key, result["left"])
        if result.get("waiting"):
            LOG.warning("%s: %s", key, result["waiting"])
        self._tell(trial, int(result.get("epoch") or 0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count an ended trial's epochs as done, also where it stopped early."""
        self.ended += 1
        self._tell(trial, self.epochs.get(trial.config.get("trial", ""), 0))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take note of the reason why Tune gave a trial up; its own copy may not be readable."""
        key = trial.config["trial"]
        if self.begun[key] <= trial.max_failures:
            self.dropped.add(key)
        said = ""
        if trial.error_file is not None and Path(trial.error_file).is_file():
            said = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").strip()
        if said:
            self.errors[key] = reason(said)

    def _tell(self, trial: Any, epoch: int) -> None:
        key = trial.config.get("trial", "")
        if key in self.seen:
            self.seen[key] = max(self.seen[key], epoch)
            note = f"{self.ended} of {len(self.epochs)} trainings ended,"
            self.steps.set(self._crops_in(self.seen), note)

    def _crops_in(self, epochs: dict[str, int]) -> int:
        return sum(count * self.crops[key] for key, count in epochs.items())
