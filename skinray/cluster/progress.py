"""Counts the crops that trials have trained on, from Tune's reports."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from ray.tune import Callback

from skinray.progress import Steps

LOG = logging.getLogger(__name__)


# A last line of a traceback, "ValueError: no room"; Ray's own errors only pass others on.
_REASON = re.compile(r"^(?!ray\.)[\w.]*(?:Error|Exception|Interrupt): .+$", re.MULTILINE)


def reason(said: str) -> str:
    """Return why a trial failed, out of the tracebacks that Ray nests around it."""
    found: list[str] = _REASON.findall(said)
    return found[-1] if found else said.splitlines()[-1]


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
