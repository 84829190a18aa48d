"""What a search has trained is counted in crops, as Tune tells of its epochs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from skinray.cluster.progress import TrialProgress

EPOCHS = {"pretraining": 2, "training": 10}
CROPS = {"pretraining": 500, "training": 100}


def trial(key: str) -> Any:
    return SimpleNamespace(config={"trial": key})


def test_an_epoch_counts_as_much_as_it_holds() -> None:
    progress = TrialProgress("Training", EPOCHS, CROPS)
    assert progress.steps.total == 2 * 500 + 10 * 100
    progress.on_trial_result(0, [], trial("pretraining"), {"epoch": 1})
    progress.on_trial_result(0, [], trial("training"), {"epoch": 3})
    assert progress.steps.done == 1 * 500 + 3 * 100
    progress.on_trial_result(0, [], trial("training"), {"epoch": 2})  # resumed: it was told before
    assert progress.steps.done == 1 * 500 + 3 * 100


def test_a_training_that_stops_early_has_nothing_left_to_do() -> None:
    progress = TrialProgress("Training", EPOCHS, CROPS)
    progress.on_trial_result(0, [], trial("training"), {"epoch": 4, "error": "no room"})
    progress.on_trial_complete(0, [], trial("training"))
    assert progress.steps.done == 10 * 100
    assert progress.errors == {"training": "no room"}
    assert progress.ended == 1
