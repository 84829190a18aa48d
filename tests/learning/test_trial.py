from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skinray.errors import SettingsError, TrainingError
from skinray.learning.checkpoint import EpochEnd, StateKeeper
from skinray.learning.feed import InProcessFeed
from skinray.learning.loop import Batch, World
from skinray.learning.spec import TrialSpec, configured, describe
from skinray.learning.trial import (
    LOG,
    OUTCOME,
    STATE,
    WEIGHTS,
    finished,
    interrupted,
    new_network,
    run_trial,
    trained_network,
)
from skinray.learning.validation import image_scores
from tests.support.tiny import Spy, drawn_sample, same_weights, tiny_run, tiny_spec

SAMPLES = [drawn_sample(seed) for seed in range(5)]
NAN = {"arm__train__learning_rate": 1e30, "arm__train__max_skipped_steps": 0}


def eager(folder: Path, spec: TrialSpec) -> StateKeeper:
    """Stores the state after each step."""
    return StateKeeper(folder / STATE, spec.fingerprint(), every_s=0)


def measured(history: list[EpochEnd]) -> list[tuple[Any, ...]]:
    return [(e.epoch, e.loss, e.learning_rate, e.validation) for e in history]


def test_a_trial_leaves_its_outcome_its_weights_and_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "one"
    told: list[int] = []
    outcome = run_trial(tiny_spec(), SAMPLES, folder, on_epoch=lambda end: told.append(end.epoch))
    assert sorted(path.name for path in folder.iterdir()) == [LOG, OUTCOME, WEIGHTS]
    assert finished(tiny_spec(), folder) == outcome
    assert told == [end.epoch for end in outcome.history] == [0, 1]
    assert outcome.key == tiny_spec().key
    assert outcome.score is None
    assert outcome.seconds == sum(end.seconds for end in outcome.history)
    logged = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [EpochEnd(**line) for line in logged] == outcome.history


def test_the_same_trial_gives_the_same_weights(tmp_path: Path) -> None:
    first = run_trial(tiny_spec(), SAMPLES, tmp_path / "a")
    torch.manual_seed(99)
    second = run_trial(
        tiny_spec(), SAMPLES, tmp_path / "b", feed=InProcessFeed(tiny_spec(), SAMPLES, 3)
    )
    assert measured(first.history) == measured(second.history)
    weights = [load_file(tmp_path / name / WEIGHTS) for name in "ab"]
    assert same_weights(*weights)
    run_trial(tiny_spec(seed=2), SAMPLES, tmp_path / "c")
    assert not same_weights(weights[0], load_file(tmp_path / "c" / WEIGHTS))


def test_a_finished_trial_returns_at_once_without_an_image(tmp_path: Path) -> None:
    first = run_trial(tiny_spec(), SAMPLES, tmp_path)
    spy = Spy(SAMPLES)
    assert run_trial(tiny_spec(), spy, tmp_path) == first
    assert spy.read == []


def test_only_the_images_of_the_spec_are_read(tmp_path: Path) -> None:
    spy = Spy(SAMPLES)
    run_trial(tiny_spec(train=(0, 2, 4), validation=(1,)), spy, tmp_path)
    assert set(spy.read) == {0, 1, 2, 4}


@pytest.mark.parametrize("model", ["unet", "hed"])
def test_an_interrupted_trial_continues_to_the_same_bits(tmp_path: Path, model: str) -> None:
    options = {
        "unet": {"features": 4, "depth": 2},
        "hed": {"width": 1 / 16, "convolutions": [1, 1], "channels": [64, 128], "batch_norm": True},
    }
    spec = tiny_spec(
        arm__train__epochs=4, validation=(3,), arm__train__validate_every_epochs=1,
        arm__train__keep="best", arm__model={"name": model, "options": options[model]},
    )  # fmt: skip
    whole = run_trial(spec, SAMPLES, tmp_path / "whole")

    def kill(end: EpochEnd) -> None:
        if end.epoch == 1:
            raise KeyboardInterrupt

    keeper = eager(tmp_path / "cut", spec)
    with pytest.raises(KeyboardInterrupt):
        run_trial(spec, SAMPLES, tmp_path / "cut", keeper=keeper, on_epoch=kill)
    assert finished(spec, tmp_path / "cut") is None
    state = interrupted(spec, tmp_path / "cut")
    assert state is not None
    assert state.epoch == 2
    torch.manual_seed(99)
    told: list[int] = []
    rest = run_trial(spec, SAMPLES, tmp_path / "cut", on_epoch=lambda end: told.append(end.epoch))
    assert told == [2, 3]
    assert measured(rest.history) == measured(whole.history)
    assert rest.score == whole.score
    assert same_weights(*(load_file(tmp_path / n / WEIGHTS) for n in ("whole", "cut")))
    assert not (tmp_path / "cut" / STATE).exists()


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"data": "other"}, {"arm__train__learning_rate": 0.5}, {"names": tuple("xyz")}],
)
def test_a_folder_of_other_settings_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run_trial(tiny_spec(), SAMPLES, tmp_path / "done")

    def kill(end: EpochEnd) -> None:
        raise KeyboardInterrupt

    keeper = eager(tmp_path / "cut", tiny_spec())
    with pytest.raises(KeyboardInterrupt):
        run_trial(tiny_spec(), SAMPLES, tmp_path / "cut", keeper=keeper, on_epoch=kill)
    for name in ("done", "cut"):
        before = {path: path.read_bytes() for path in (tmp_path / name).iterdir()}
        with pytest.raises(TrainingError, match=r"other settings or other data; choose another"):
            run_trial(tiny_spec(**change), SAMPLES, tmp_path / name)
        assert {path: path.read_bytes() for path in (tmp_path / name).iterdir()} == before


def test_a_diverging_trial_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    spec = tiny_spec(**NAN, arm__train__weight_decay=1e30)
    with pytest.raises(TrainingError, match=r"epoch 1: .*lower learning_rate"):
        run_trial(spec, SAMPLES, tmp_path / "trial")
    assert not (tmp_path / "trial").exists()
    assert finished(spec, tmp_path / "trial") is None
    with pytest.raises(TrainingError, match="is not finished"):
        trained_network(spec, tmp_path / "trial")


def test_the_score_is_of_the_kept_weights_on_the_validation_images(tmp_path: Path) -> None:
    spec = tiny_spec(validation=(3, 4), arm__train__validate_every_epochs=1)
    outcome = run_trial(spec, SAMPLES, tmp_path)
    network = trained_network(spec, tmp_path)
    assert outcome.score == fmean(image_scores("nerve", network, SAMPLES[3:]))
    assert outcome.score == outcome.history[-1].validation


def test_evidence_is_the_mean_over_each_part_of_the_validation_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = {0: 0.0, 1: 0.0, 2: 0.9, 3: 0.3, 4: 0.5}

    def scores(stage: str, network: object, samples: Any, device: object) -> list[float]:
        return [of[next(at for at in of if SAMPLES[at] is sample)] for sample in samples]

    monkeypatch.setattr("skinray.learning.validation.image_scores", scores)
    spec = tiny_spec(validation=(4, 3, 2), evidence={"fold-1": (4,), "fold-2": (3, 2)})
    outcome = run_trial(spec, SAMPLES, tmp_path)
    assert outcome.evidence == pytest.approx({"fold-1": 0.5, "fold-2": 0.6})
    assert outcome.score == pytest.approx(1.7 / 3)


def test_the_outcome_has_the_best_epochs_score(tmp_path: Path) -> None:
    spec = tiny_spec(
        validation=(3, 4), arm__train__validate_every_epochs=1, arm__train__keep="best",
        arm__train__epochs=5, arm__train__learning_rate=0.1,
    )  # fmt: skip
    outcome = run_trial(spec, SAMPLES, tmp_path)
    assert outcome.score == max(end.validation or 0 for end in outcome.history)


def test_the_trained_network_is_in_eval_mode(tmp_path: Path) -> None:
    run_trial(tiny_spec(), SAMPLES, tmp_path)
    network = trained_network(tiny_spec(), tmp_path)
    assert not network.training
    assert same_weights(network.state_dict(), load_file(tmp_path / WEIGHTS))


@pytest.mark.parametrize("name", [OUTCOME, WEIGHTS])
@pytest.mark.parametrize("content", [b"", b"{", None])
def test_a_damaged_trial_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    run_trial(tiny_spec(), SAMPLES, tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        trained_network(tiny_spec(), tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[:-1] + b"?"]
)
def test_a_damaged_checkpoint_costs_time_and_changes_nothing(tmp_path: Path, damage: Any) -> None:
    spec = tiny_spec(arm__train__epochs=3)
    run_trial(spec, SAMPLES, tmp_path / "calm")

    def interrupt(end: EpochEnd) -> None:
        if end.epoch == 1:
            raise KeyboardInterrupt

    keeper = eager(tmp_path / "hit", spec)
    with pytest.raises(KeyboardInterrupt):
        run_trial(spec, SAMPLES, tmp_path / "hit", keeper=keeper, on_epoch=interrupt)
    state = tmp_path / "hit" / STATE
    state.write_bytes(damage(state.read_bytes()))
    run_trial(spec, SAMPLES, tmp_path / "hit")
    calm, hit = (load_file(tmp_path / name / WEIGHTS) for name in ("calm", "hit"))
    assert same_weights(calm, hit)
    assert len((tmp_path / "hit" / LOG).read_text().splitlines()) == 2 + 3


def test_a_network_starts_from_the_trials_seed() -> None:
    first = new_network(tiny_spec()).state_dict()
    torch.manual_seed(99)
    assert same_weights(first, new_network(tiny_spec()).state_dict())
    assert not same_weights(first, new_network(tiny_spec(seed=2)).state_dict())
    # of the seed alone, so that folds and configurations start alike
    other = tiny_spec(split="fold-2", train=(3, 4), names=("d", "e"), key="other")
    assert same_weights(first, new_network(other).state_dict())


def test_a_grid_point_sets_the_values_at_its_paths() -> None:
    stage = tiny_run().nerve
    arm, augment = configured(
        stage, stage.main,
        {"train.learning_rate": 0.5, "augment.rotate_deg": 3, "model.options.depth": 3},
    )  # fmt: skip
    assert arm.train.learning_rate == 0.5
    assert arm.model.options == {"features": 4, "depth": 3}
    assert augment == stage.augment.override({"rotate_deg": 3})
    assert configured(stage, stage.main, {}) == (stage.main, stage.augment)


@pytest.mark.parametrize("path", ["train.lr", "augment.rotation", "epochs"])
def test_a_grid_point_that_points_nowhere_is_an_error(path: str) -> None:
    with pytest.raises(SettingsError, match="unknown settings key"):
        configured(tiny_run().nerve, tiny_run().nerve.main, {path: 1})


def test_a_trial_in_words() -> None:
    assert describe(tiny_spec()) == "fit nerve U-Net fold-1"
    spec = tiny_spec(phase="tune", params={"train.weight_decay": 0.1})
    assert describe(spec) == 'tune nerve U-Net fold-1 {"train.weight_decay": 0.1}'


@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_a_trial_cut_off_between_two_steps_continues_to_the_same_bits(
    tmp_path: Path, steps: int
) -> None:
    """Its epochs have three steps: the state is of the middle of one, and of its last step."""
    spec = tiny_spec(train=(0, 1, 2, 3, 4), names=tuple("abcde"), arm__train__epochs=3)
    whole = run_trial(spec, SAMPLES, tmp_path / "whole")
    keeper, taken = eager(tmp_path / "cut", spec), 0

    class Cut(InProcessFeed):
        def batches(self, epoch: int, row: int = 0) -> Iterator[Batch]:
            nonlocal taken
            for batch in super().batches(epoch, row):
                if taken == steps:
                    raise KeyboardInterrupt
                taken += 1
                yield batch

    with pytest.raises(KeyboardInterrupt):
        run_trial(spec, SAMPLES, tmp_path / "cut", feed=Cut(spec, SAMPLES), keeper=keeper)
    state = interrupted(spec, tmp_path / "cut")
    assert state is not None
    assert (state.epoch, state.row) in {(steps // 3, steps % 3 * 2), (steps // 3 - 1, 6)}
    feed = InProcessFeed(spec, SAMPLES)
    rest = run_trial(spec, SAMPLES, tmp_path / "cut", feed=feed)
    assert whole is not None
    assert rest is not None
    # No row is trained again.
    assert feed.fed().crops == (3 * 3 - steps) * 2
    assert measured(rest.history) == measured(whole.history)
    assert same_weights(*(load_file(tmp_path / n / WEIGHTS) for n in ("whole", "cut")))


def test_only_the_first_worker_writes(tmp_path: Path) -> None:
    spec = tiny_spec(step_crops=4)
    world = World(1, 2)
    assert run_trial(spec, SAMPLES, tmp_path / "second", world=world) is None
    assert not (tmp_path / "second").exists()
