"""Progress of a search counts crops; why a trial failed is recorded."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import (
    FailureConfig,
    RunConfig,
    Trainable,
    TuneConfig,
    Tuner,
    grid_search,
    with_resources,
)

from skinray.cluster.train import tune
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.tune import TrialProgress
from skinray.config.training import ClusterSettings

EPOCHS = {"pretraining": 2, "training": 10}
CROPS = {"pretraining": 500, "training": 100}
OUTCOME: Any = object()
ONE = Resources(cpus_per_worker=1, gpus_per_worker=0, workers=(1, 1), at_once=1)


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
    assert progress.diverged == set()
    assert progress.ended == 1


def test_a_training_that_failed_by_its_own_settings_is_recorded() -> None:
    progress = TrialProgress("Training", EPOCHS, CROPS)
    progress.on_trial_result(
        0, [], trial("training"), {"epoch": 0, "error": "loss nan", "diverged": True}
    )
    assert progress.diverged == {"training"}


def dying() -> type[Trainable]:
    """Return a worker that trains its first trial, and is gone when another is to begin.

    Made here, or Ray's workers would have to import this file.
    """

    class DiesAsItIsHandedOver(Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            if config["trial"] == "second":
                os.kill(os.getpid(), signal.SIGKILL)

        def step(self) -> dict[str, Any]:
            return {"epoch": 1, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Tune asks for one at the end of a trial."""

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            os.kill(os.getpid(), signal.SIGKILL)
            return True

    return DiesAsItIsHandedOver


@pytest.mark.ray
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("reuse", [True, False])
def test_a_trial_whose_worker_died_before_it_began_is_recorded(
    ray_session: Any, tmp_path: Path, reuse: bool, restarts: int
) -> None:
    """Whether it has a worker of its own or one that another trial had before."""
    once = dict.fromkeys(("first", "second"), 1)
    progress = TrialProgress("Training", once, once)
    tuner = Tuner(
        with_resources(dying(), {"CPU": 1}),
        param_space={"trial": grid_search(["first", "second"])},
        tune_config=TuneConfig(max_concurrent_trials=1, reuse_actors=reuse),
        run_config=RunConfig(
            storage_path=str(tmp_path), failure_config=FailureConfig(max_failures=restarts),
            callbacks=[progress], verbose=0,
        ),
    )  # fmt: skip
    tuner.fit()
    assert progress.dropped == {"second"}
    assert progress.begun == {"first": 1, "second": 0}
    assert set(progress.errors) == {"second"}
    assert progress.errors["second"]
    assert progress.ended == 1


@pytest.mark.ray
def test_a_trial_that_fails_as_often_as_it_may_is_not_dropped(
    ray_session: Any, tmp_path: Path
) -> None:
    def failing(config: dict[str, Any]) -> None:
        raise ValueError("no room")

    progress = TrialProgress("Training", {"first": 1}, {"first": 1})
    Tuner(
        with_resources(failing, {"CPU": 1}),
        param_space={"trial": grid_search(["first"])},
        tune_config=TuneConfig(reuse_actors=True),
        run_config=RunConfig(
            storage_path=str(tmp_path), failure_config=FailureConfig(max_failures=1),
            callbacks=[progress], verbose=0,
        ),
    ).fit()  # fmt: skip
    assert progress.begun == {"first": 2}
    assert progress.dropped == set()
    assert progress.errors == {"first": "ValueError: no room"}


def test_dropped_trials_are_run_again_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A trial is named by how often it is dropped."""
    rounds: list[list[str]] = []
    done: set[str] = set()

    def tuned(specs: Any, *others: Any) -> None:
        progress = others[-1]
        rounds.append([spec.key for spec in specs])
        for spec in specs:
            if spec.key == "broken":
                progress.errors[spec.key] = "no nerve is traced"
            elif len(rounds) <= int(spec.key):
                progress.errors[spec.key] = "the worker died"
                progress.dropped.add(spec.key)
            else:
                done.add(spec.key)

    monkeypatch.setattr(tune, "_tune", tuned)
    monkeypatch.setattr(
        tune, "finished", lambda spec, folder: OUTCOME if spec.key in done else None
    )
    training = SimpleNamespace(epochs=1, draws_per_image=1)
    specs: Any = [
        SimpleNamespace(key=key, arm=SimpleNamespace(train=training), train=(0,))
        for key in ("0", "1", "9", "broken")
    ]
    source: Any = None
    found = tune.run_trials(specs, source, tmp_path, ONE, ClusterSettings(max_failures=2), "some")
    assert rounds == [["0", "1", "9", "broken"], ["1", "9"], ["9"]]
    assert [result.outcome is OUTCOME for result in found] == [True, True, False, False]
    assert [result.error for result in found] == ["", "", "the worker died", "no nerve is traced"]


def test_a_trial_that_left_no_error_behind_ends_nothing(tmp_path: Path) -> None:
    progress = TrialProgress("Training", EPOCHS, CROPS)
    for error_file in (None, str(tmp_path / "none.txt")):
        lost = SimpleNamespace(config={"trial": "training"}, max_failures=3, error_file=error_file)
        progress.on_trial_error(0, [], lost)
    assert progress.errors == {}
    assert progress.dropped == {"training"}
