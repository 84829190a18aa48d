"""The starters: drawn from many laboratories, the same bits for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from skinray.images.phantoms.varied import restained, varied_phantom
from skinray.learning.auto.starter import (
    BATCH,
    CROPS,
    EPOCH_STEPS,
    STARTERS,
    StarterSettings,
    Step,
    drawn_steps,
    groups_of,
    pretrain,
)
from skinray.models import build
from skinray.models.weights.load import load_weights

SMALL = STARTERS["nerve"].override(
    {"size": (256, 224), "steps": 6, "augment.crop_px": 48, "model.options": {"width": 0.05}}
)


def in_process(settings: StarterSettings, seen: list[int] | None = None) -> object:
    def stream(groups: list[int]) -> Iterator[Step]:
        if seen is not None:
            seen.extend(groups)
        for group in groups:
            yield from drawn_steps(settings, group)

    return stream


def test_a_step_has_one_crop_of_each_phantom() -> None:
    steps = drawn_steps(SMALL, 3)
    assert len(steps) == CROPS
    for step in steps:
        assert step.images.shape == (BATCH, 48, 48, 3)
        assert step.masks.shape == (BATCH, 48, 48)
        assert step.images.dtype == step.masks.dtype == np.uint8
    again = drawn_steps(SMALL, 3)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(steps, again, strict=True))
    other = drawn_steps(SMALL, 4)
    assert not np.array_equal(steps[0].images, other[0].images)


def test_epochs_take_every_group_once() -> None:
    settings = SMALL.override({"steps": 2 * EPOCH_STEPS + 6})
    groups = [group for epoch in range(3) for group in groups_of(settings, epoch)]
    assert groups == list(range((2 * EPOCH_STEPS + 6 + CROPS - 1) // CROPS))


def test_phantoms_vary_but_their_labels_stay_in_place() -> None:
    image = varied_phantom(0, 1, (256, 224)).image
    masks = varied_phantom(0, 1, (256, 224)).masks
    assert np.array_equal(image, varied_phantom(0, 1, (256, 224)).image)
    assert masks["nerve"].any()
    means = [varied_phantom(0, at, (256, 224)).image.mean((0, 1)) for at in range(12)]
    assert np.std(means, axis=0).min() > 12  # drawn cohorts of one laboratory: about 8
    disk = np.full((64, 64, 3), 220, np.uint8)
    disk[24:40, 24:40] = (120, 60, 40)
    for seed in range(20):
        changed = restained(np.random.default_rng(seed), disk).astype(int)
        inside, outside = changed[28:36, 28:36].mean((0, 1)), changed[:16].mean((0, 1))
        assert np.abs(inside - outside).max() > 40


def test_pretraining_gives_the_same_half_precision_weights_again(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    files = [
        pretrain(SMALL, tmp_path / name, in_process(SMALL), lambda *now: told.append(now))  # type: ignore[arg-type]
        for name in ("first", "second")
    ]
    first, second = map(load_file, files)
    assert all(value.dtype == torch.float16 for value in first.values())
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert told[:6] == [(done, 6) for done in range(1, 7)]
    network = build("hed", width=0.05)
    load_weights(network, str(files[0]))
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())


@pytest.mark.parametrize("stage", ["nerve", "dermis"])
def test_the_starters_fit_their_networks(stage: str) -> None:
    settings = STARTERS[stage]  # type: ignore[index]
    with torch.device("meta"):
        network = build(settings.model.name, **settings.model.options)
    assert 2 * sum(value.numel() for value in network.parameters()) < 2 << 20
