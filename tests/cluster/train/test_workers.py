"""Ray Train trains a trial on two workers, and continues where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
import torch
from ray.util.placement_group import (
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from safetensors.torch import load_file

from skinray.cluster.train import tune, workers
from skinray.cluster.train.held import held, left_behind
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.sources import Source, open_source
from skinray.cluster.train.tune import TrialProgress, run_trials
from skinray.cluster.train.workers import BEGUN, train_on_workers
from skinray.config.biopsies import RunSettings
from skinray.config.images import ReadSettings
from skinray.config.training import ClusterSettings
from skinray.errors import DivergedError
from skinray.images.cohort.common_scale import LabelledReader
from skinray.images.cohort.manifest import read_manifest
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.feed import InProcessFeed
from skinray.learning.loop import Objective, World, fit
from skinray.learning.search import SpecMaker, make_splits
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import STATE, WEIGHTS, new_network

pytestmark = pytest.mark.ray

ONE = Resources(1, 0, workers=(1, 1), at_once=1, data_workers=(1, 1))
TWO = replace(ONE, workers=(2, 2))
KEPT = replace(ONE, kept=True)


@pytest.fixture
def source(ray_session: Any, small_cohort: Path) -> Source:
    reader = LabelledReader(ReadSettings())
    return open_source(read_manifest(small_cohort).biopsies, reader, ClusterSettings())


def a_trial(cohort_folder: Path, settings: RunSettings, **changes: Any) -> TrialSpec:
    settings = settings.override({f"nerve.main.train.{k}": v for k, v in changes.items()})
    cohort = read_manifest(cohort_folder)
    split = make_splits(cohort, settings).folds[0]
    maker = SpecMaker(settings, cohort, "data")
    part = split.inner[0]
    train = tuple(at for at in split.train if at not in part)
    return maker.make(
        "tune", "nerve", settings.nerve.main, split.name, train, {}, {split.name: part}
    )


def eventually(seen: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not seen() and time.monotonic() < until:
        time.sleep(0.2)
    return seen()


def test_trainings_of_two_workers_leave_an_outcome_and_nothing_on_the_cluster(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    spec = a_trial(small_cohort, small_settings, epochs=4).override({"step_crops": 4})
    specs = [spec, spec.override({"key": "another", "seed": 2})]
    before, cpus = held(), ray.cluster_resources()["CPU"]
    assert before is not None
    results = run_trials(specs, source, tmp_path, TWO, ClusterSettings(workers=2), "two")
    for result in results:
        assert result.error == ""
        assert result.outcome is not None
        history = result.outcome.history
        assert [end.epoch for end in history] == list(range(spec.arm.train.epochs))
        crops = -(-len(spec.train) // 4) * 4
        assert [end.images for end in history] == [crops] * len(history)
        assert result.outcome.score is not None
        assert 0 <= result.outcome.score <= 1
        assert result.outcome.evidence == {"fold-1": result.outcome.score}
        fed = result.outcome.fed
        assert (fed.by, fed.workers, fed.crops) == ("ray data", 2, crops * len(history) // 2)
        assert len([*result.folder.glob("ray_data-*.txt")]) == 2
        # Of a search only the score is wanted.
        assert sorted(path.name for path in result.folder.glob("*.safetensors")) == []
    assert left_behind(before, 0) == []
    assert eventually(lambda: ray.available_resources()["CPU"] == cpus)
    assert "left behind" not in caplog.text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_trainings_in_a_row_leave_nothing(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The driver checks after each of them and warns about what stays."""
    spec = a_trial(small_cohort, small_settings, epochs=1).override({"step_crops": 4})
    specs = [spec.override({"key": f"training-{seed}", "seed": seed}) for seed in range(20)]
    before, cpus = held(), ray.cluster_resources()["CPU"]
    results = run_trials(specs, source, tmp_path, TWO, ClusterSettings(workers=2), "twenty")
    assert [result.error for result in results] == [""] * 20
    assert all(result.outcome is not None for result in results)
    assert left_behind(before, 0) == []
    assert eventually(lambda: ray.available_resources()["CPU"] == cpus)
    assert "left behind" not in caplog.text


def test_what_a_training_leaves_behind_is_named(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As the groups of Ray Train once did, until no CPU was left for the third training."""
    group = None

    def forgetful(*args: Any) -> None:
        nonlocal group
        group = placement_group([{"CPU": 1}])
        assert group.wait(20)

    monkeypatch.setattr(tune, "_tune", forgetful)
    monkeypatch.setattr(tune, "RELEASED_WITHIN_S", 1.0)
    spec = a_trial(small_cohort, small_settings)
    run_trials([spec], source, tmp_path, TWO, ClusterSettings(workers=2), "two")
    assert "left behind placement group" in caplog.text
    assert eventually(lambda: placement_group_table(group)["state"] == "REMOVED")


def test_what_a_training_waits_for_is_shown_until_it_starts(
    ray_session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "WAITING_SHOWN_EVERY_S", 0.2)
    said: list[str] = []
    busy = placement_group([{"CPU": 3}])
    assert busy.wait(20)
    with tune._shown_while_waiting(TWO, tmp_path, said.append):
        time.sleep(1)
        assert said == []  # whoever has been placed is no longer waiting, but starting
        workers = placement_group([TWO.worker] * 2)
        assert eventually(lambda: len(said) > 1)
        (tmp_path / BEGUN).touch()
        time.sleep(0.5)
        told = len(said)
        time.sleep(1)
    assert len(said) == told
    assert said[0].startswith("waiting for 2 x (1.25 CPUs) for ")
    for group in (workers, busy):
        remove_placement_group(group)


def test_two_workers_that_share_a_step_train_as_one_does(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path
) -> None:
    """Of the same plan, so a search may use one worker and the final training two."""
    spec = a_trial(small_cohort, small_settings, epochs=3).override({
        "phase": "fit", "arm.train.optimizer": "sgd", "arm.train.batch_size": 4,
        "arm.model.options.group_norm": True,
    })  # fmt: skip
    shared = replace(TWO, kept=True)
    for name, resources in (("one", ONE), ("two", shared)):
        run_trials([spec], source, tmp_path / name, resources, ClusterSettings(), name)
    one, two = (load_file(tmp_path / name / spec.key / WEIGHTS) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-6)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the training loop, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_short_epochs_do_not_wait_for_ray_train_to_take_each(
    seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(ray.train, "report", lambda metrics: told.append(metrics["epoch"]))
    first, other = workers._Reports(World(0, 2)), workers._Reports(World(1, 2, lambda value: 0.5))
    for epoch in range(12):
        seconds[0] = float(epoch)
        first(EpochEnd(epoch, 0.5, 0.1, None, 4, 1.0, 0))
    assert told == [1, 6, 11]
    other(EpochEnd(0, 0.5, 0.1, None, 4, 1.0, 0))
    assert told[-1] == 1  # the first worker decides: all of them report, or none does


def test_a_node_that_is_taken_away_has_the_state_stored_until_it_goes(
    seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    news: list[object] = [None, "soon"]
    monkeypatch.setattr(ray.train, "get_preemption_info", lambda: news.pop(0))
    asked = workers._Preemption()
    stored = []
    for step in range(1, 41):  # of a second each
        seconds[0] = float(step)
        if asked():
            stored.append(step)
    assert stored == [20, 25, 30, 35, 40]
    assert news == []


def test_an_error_that_tune_cannot_read_again_is_still_reported(
    ray_session: Any,
    small_cohort: Path,
    small_settings: RunSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk cuts off what Tune stores of an error, and Tune then fails to read it."""
    told = TrialProgress.on_trial_error

    def cut_off(self: Any, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        stored = Path(trial.pickled_error_file)
        stored.write_bytes(stored.read_bytes()[:20])
        told(self, iteration, trials, trial, **info)

    monkeypatch.setattr(TrialProgress, "on_trial_error", cut_off)
    spec, nothing = a_trial(small_cohort, small_settings), cast(Source, None)
    (result,) = run_trials([spec], nothing, tmp_path, ONE, ClusterSettings(max_failures=0), "cut")
    assert result.outcome is None
    assert result.error == "TypeError: 'NoneType' object is not subscriptable"


def test_one_worker_of_ray_train_continues_from_a_stored_state(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path
) -> None:
    """Ray Train continues from a state that the loop stored without it."""
    spec = a_trial(small_cohort, small_settings, epochs=8)
    half = spec.override({"arm.train.epochs": 1})
    network = new_network(spec)
    state = fit(
        Objective(network, half.arm.train), network, half.arm.train,
        InProcessFeed(half, source).batches,
        seed=spec.seed, device=torch.device("cpu"),
    )  # fmt: skip
    state.save(tmp_path / STATE, spec.fingerprint())
    outcome = train_on_workers(spec, source, tmp_path, KEPT, ClusterSettings())
    assert [end.epoch for end in outcome.history] == list(range(spec.arm.train.epochs))
    lines = (tmp_path / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, spec.arm.train.epochs))
    assert outcome.history[0] == state.history[0]
    assert train_on_workers(spec, source, tmp_path, KEPT, ClusterSettings()) == outcome


def test_a_loss_that_is_not_finite_ends_with_its_reason(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path
) -> None:
    spec = a_trial(small_cohort, small_settings, learning_rate=1e25, max_skipped_steps=0)
    with pytest.raises(DivergedError, match="lower learning_rate"):
        train_on_workers(spec, source, tmp_path, KEPT, ClusterSettings(max_failures=0))
    assert not (tmp_path / "outcome.json").exists()
