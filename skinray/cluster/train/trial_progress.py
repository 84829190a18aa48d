"""The progress of a phase's trials as Ray Tune reports it, and why some have no outcome."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ray.tune import Callback

from skinray.cluster.session import reason
from skinray.progress import Steps

LOG = logging.getLogger(__name__)


class TrialProgress(Callback):  # type: ignore[misc]
    """Counts the crops that all trials of a phase have seen, in ``steps``.

    Epochs would measure the time to go badly: an epoch of pretraining may hold many times the
    images of an epoch that follows.

    Parameters
    ----------
    epochs : the most that each trial may train, by its key.
    crops : of each trial in one epoch.

    Attributes
    ----------
    errors : why a trial has no outcome, by its key.
    diverged : trials that failed because of their own settings.
    dropped : trials that Tune gave up before they had started as often as they may. This happens
        when a worker that is reused after one trial dies before the next starts.
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
        return {name: getattr(self, name) for name in ("epochs", "crops", "seen", "ended")}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count how often a trial has started."""
        self.begun[trial.config["trial"]] += 1

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record a trial's epoch, or the reason why it has none."""
        key = trial.config["trial"]
        if result.get("error"):
            self.errors[key] = str(result["error"])
        if result.get("diverged"):
            self.diverged.add(key)
        if result.get("left"):
            LOG.warning("%s has ended and left behind %s", key, result["left"])
        if result.get("waiting"):
            LOG.warning("%s: %s", key, result["waiting"])
        self._show(trial, int(result.get("epoch") or 0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count all epochs of an ended trial as done, even if it stopped early."""
        self.ended += 1
        self._show(trial, self.epochs.get(trial.config.get("trial", ""), 0))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record why Tune gave a trial up; Tune's own copy may be unreadable later."""
        key = trial.config["trial"]
        if self.begun[key] <= trial.max_failures:
            self.dropped.add(key)
        said = ""
        if trial.error_file is not None and Path(trial.error_file).is_file():
            said = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").strip()
        if said:
            self.errors[key] = reason(said)

    def _show(self, trial: Any, epoch: int) -> None:
        key = trial.config.get("trial", "")
        if key in self.seen:
            self.seen[key] = max(self.seen[key], epoch)
            note = f"{self.ended} of {len(self.epochs)} trials ended,"
            self.steps.set(self._crops_in(self.seen), note)

    def _crops_in(self, epochs: dict[str, int]) -> int:
        return sum(count * self.crops[key] for key, count in epochs.items())
