"""Ray Train trains a trial on two workers, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from skinray.cluster.progress import TrialProgress
from skinray.cluster.session import Resources
from skinray.cluster.sources import Source, open_source
from skinray.cluster.train import mean_over_workers, train_on_workers
from skinray.cluster.tune import run_trials
from skinray.config import ClusterSettings, ReadSettings, RunSettings
from skinray.errors import TrainingError
from skinray.images.manifest import read_manifest
from skinray.learning.crossval import SpecMaker, make_splits
from skinray.learning.loop import Objective, fit
from skinray.learning.scale import LabelledReader
from skinray.learning.trial import STATE, TrialSpec, new_network

pytestmark = pytest.mark.ray

TWO = Resources(cpus_per_worker=1, gpus_per_worker=0, workers=(2, 2), at_once=1)
ONE = Resources(cpus_per_worker=1, gpus_per_worker=0, workers=(1, 1), at_once=1)


@pytest.fixture
def source(ray_session: Any, small_cohort: Path) -> Source:
    reader = LabelledReader(ReadSettings())
    return open_source(read_manifest(small_cohort).biopsies, reader, ClusterSettings())


def a_trial(cohort_folder: Path, settings: RunSettings, **changes: Any) -> TrialSpec:
    settings = settings.override({f"nerve.main.train.{k}": v for k, v in changes.items()})
    cohort = read_manifest(cohort_folder)
    split = make_splits(cohort, settings).folds[0]
    maker = SpecMaker(settings, cohort, "data")
    return maker.make("tune", "nerve", settings.nerve.main, split, {})


def test_two_workers_below_tune_leave_an_outcome(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path
) -> None:
    spec = a_trial(small_cohort, small_settings, epochs=4)
    (result,) = run_trials([spec], source, tmp_path, TWO, ClusterSettings(workers=2), "two")
    assert result.error == ""
    assert result.outcome is not None
    epochs = [end.epoch for end in result.outcome.history]
    assert epochs == list(range(spec.arm.train.epochs))
    assert all(end.images >= len(spec.train) for end in result.outcome.history)
    assert result.outcome.score is not None
    assert 0 <= result.outcome.score <= 1
    # Of a search only the score is wanted.
    assert sorted(path.name for path in result.folder.glob("*.safetensors")) == []


def test_an_error_that_tune_cannot_read_again_is_told_all_the_same(
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


def test_one_worker_of_ray_train_goes_on_from_a_stored_state(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path
) -> None:
    """What the loop stores alone, Ray Train takes up: two epochs there, two here."""
    from skinray.learning.feed import Feed

    spec = a_trial(small_cohort, small_settings, epochs=8)
    half = spec.override({"arm.train.epochs": 1})
    network = new_network(spec)
    state = fit(
        Objective(network, half.arm.train), network, half.arm.train, Feed(half, source).batches,
        seed=spec.seed, device=torch.device("cpu"),
    )  # fmt: skip
    state.save(tmp_path / STATE, spec.fingerprint())
    outcome = train_on_workers(spec, source, tmp_path, ONE, ClusterSettings())
    assert [end.epoch for end in outcome.history] == list(range(spec.arm.train.epochs))
    lines = (tmp_path / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, spec.arm.train.epochs))
    assert outcome.history[0] == state.history[0]
    assert train_on_workers(spec, source, tmp_path, ONE, ClusterSettings()) == outcome


def test_a_loss_that_is_not_finite_ends_with_its_reason(
    source: Source, small_cohort: Path, small_settings: RunSettings, tmp_path: Path
) -> None:
    spec = a_trial(small_cohort, small_settings, learning_rate=1e25, max_skipped_steps=0)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train_on_workers(spec, source, tmp_path, ONE, ClusterSettings(max_failures=0))
    assert not (tmp_path / "outcome.json").exists()


def test_the_mean_over_one_worker_is_the_number_itself() -> None:
    assert mean_over_workers(2.5) == 2.5
