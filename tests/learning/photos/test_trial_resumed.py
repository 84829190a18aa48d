"""A training of the run on photographs that was cut off comes to the same bits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file

from skinray.config.photos import varied
from skinray.images.augment import Sample
from skinray.images.photos.pairs import find_backgrounds, find_photos, load_photo, split_photos
from skinray.learning.checkpoint import EpochEnd, StateKeeper, TrainState
from skinray.learning.photos.trials import PhotoTrials
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import OUTCOME, STATE, WEIGHTS, interrupted, run_trial
from skinray.models.skin_unet import SkinUNet
from tests.support.drawn_photos import write_photos
from tests.support.tiny import Spy, same_weights

EPOCHS = 3
# Of this seed the first epoch's weights validate best by far, so they outlast the interruption.
SMALL = {
    "seed": 7,
    "networks.0.model.options": {"filters": (2,), "bottleneck": 2, "dropout": 0.3, "noise": 0.1},
    "networks.0.train.batch_size": 2,
    "networks.0.train.learning_rate": 0.02,
    "networks.0.train.average": 0.5,
    "networks.0.train.keep": "best",
    "load_px": 32,
    "augment.crop_px": 24,
    "train_images": 6,
    "test_images": 1,
}


def measured(history: list[EpochEnd]) -> list[tuple[Any, ...]]:
    return [(e.epoch, e.loss, e.learning_rate, e.validation, e.images) for e in history]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So many does a trial of the run compute with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialSpec, list[Sample]]:
    """U-Net's training on six photographs, as the recipe "varied" has it, and its photographs."""
    root = tmp_path_factory.mktemp("photos")
    ward = split_photos(find_photos(write_photos(root / "ward", 7)), 6, 1)
    public = split_photos(find_photos(write_photos(root / "hands", 3, seed=1)), 3, 0)
    (root / "rooms").mkdir()
    Pillow.new("RGB", (50, 40), "teal").save(root / "rooms" / "teal.png")
    settings = varied().only(["skin_unet"]).lasting(EPOCHS).override(SMALL)
    rooms = find_backgrounds(root / "rooms")
    trials = PhotoTrials(settings, public, ward, "data", root / "trials", rooms)
    (spec,) = trials.direct()
    return spec, [load_photo(photo, settings.load_px, settings.read) for photo in trials.photos]


class Whole(NamedTuple):
    """The training without interruption: its folder, its states by epoch, what it read."""

    folder: Path
    states: list[TrainState]
    read: list[int]


@pytest.fixture(scope="module")
def whole(
    direct: tuple[TrialSpec, list[Sample]], tmp_path_factory: pytest.TempPathFactory
) -> Whole:
    spec, samples = direct
    folder, states, spy = tmp_path_factory.mktemp("whole"), list[TrainState](), Spy(samples)
    keeper = eager(spec, folder)
    run_trial(spec, spy, folder, keeper=keeper, on_epoch=keeping(keeper, states))
    return Whole(folder, states, spy.read)


def eager(spec: TrialSpec, folder: Path) -> StateKeeper:
    """Stores the state after each step."""
    return StateKeeper(folder / STATE, spec.fingerprint(), every_s=0)


def keeping(keeper: StateKeeper, states: list[TrainState]) -> Callable[[EpochEnd], None]:
    def load(end: EpochEnd) -> None:
        keeper.settle()
        states.append(TrainState.load(keeper.path, keeper.owner))

    return load


def test_the_training_has_all_that_could_be_lost(
    direct: tuple[TrialSpec, list[Sample]], whole: Whole
) -> None:
    spec, samples = direct
    network = SkinUNet(**spec.arm.model.options)
    assert (network.noise, network.dropout.p) == (0.1, 0.3)
    assert (spec.arm.train.average, spec.arm.train.keep) == (0.5, "best")
    assert (spec.arm.train.schedule, spec.arm.train.optimizer) == ("cosine", "adamw")
    assert spec.validation
    last = whole.states[-1]
    assert last.average is not None
    first, *others = [end.validation or 0 for end in last.history]
    assert first > max(others)
    assert same_weights(last.best or {}, whole.states[0].best or {})
    # Skin was put before the room, which is nothing to train on by itself.
    room = len(samples) - 1
    assert room in spec.backgrounds
    assert room not in (*spec.train, *spec.validation)
    assert room in whole.read


@pytest.mark.parametrize("stop", range(EPOCHS - 1))
def test_a_photo_trial_killed_after_any_epoch_continues_to_the_same_bits(
    direct: tuple[TrialSpec, list[Sample]],
    whole: Whole,
    tmp_path: Path,
    stop: int,
) -> None:
    spec, samples = direct

    def kill(end: EpochEnd) -> None:
        if end.epoch == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(spec, samples, tmp_path, keeper=eager(spec, tmp_path), on_epoch=kill)
    state = interrupted(spec, tmp_path)
    assert state is not None
    assert state.epoch == stop + 1
    torch.manual_seed(99)  # another process has other random numbers
    states = list[TrainState]()
    keeper = eager(spec, tmp_path)
    rest = run_trial(spec, samples, tmp_path, keeper=keeper, on_epoch=keeping(keeper, states))
    assert rest is not None
    assert len(states) == EPOCHS - stop - 1
    # Not the kept weights alone: those may be of an epoch before the interruption.
    for now, then in zip(states, whole.states[stop + 1 :], strict=True):
        assert same_weights(now.model, then.model)
        assert same_weights(now.average or {}, then.average or {})
        assert same_weights(now.best or {}, then.best or {})
        assert now.scheduler == then.scheduler
    told = json.loads((whole.folder / OUTCOME).read_text(encoding="utf-8"))
    assert measured(rest.history) == measured([EpochEnd(**end) for end in told["history"]])
    assert rest.score == told["score"]
    assert same_weights(load_file(tmp_path / WEIGHTS), load_file(whole.folder / WEIGHTS))
