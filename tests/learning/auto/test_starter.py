"""The starters: drawn from many laboratories, the same bits for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import skinray
from skinray.config.kinds import Stage
from skinray.images.phantoms.varied import restained, varied_phantom
from skinray.learning.auto.starter import (
    BATCH,
    CROPS,
    STARTERS,
    StarterSettings,
    Step,
    drawn_steps,
    pretrain,
    weights_sha256,
)
from skinray.learning.auto.starter_bundle import save_starters
from skinray.models import build
from skinray.models.weights.load import load_weights

SMALL = STARTERS["nerve"].override(
    {"sizes": ((256, 224),), "steps": 6, "augment.crop_px": 48, "model.options": {"width": 0.05}}
)


def in_process(settings: StarterSettings) -> Callable[[int], Iterator[Step]]:
    def stream(groups: int) -> Iterator[Step]:
        for group in range(groups):
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


def test_the_dermis_looks_the_same_on_a_small_and_on_a_large_field() -> None:
    settings = STARTERS["dermis"].override({"augment.scale": (1.0, 1.0), "augment.crop_px": 192})
    boundaries = []
    for group in range(2):
        assert min(settings.sizes[group]) != min(settings.sizes[1 - group])
        masks = np.concatenate([step.masks for step in drawn_steps(settings, group)])
        boundaries.append(np.abs(np.diff(masks.astype(int), axis=1)).sum() / len(masks))
    assert 0.5 < boundaries[0] / boundaries[1] < 2


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


def test_a_shorter_pretraining_is_the_beginning_of_a_longer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skinray.learning.auto.starter.EPOCH_STEPS", 4)
    settings = SMALL.override({"steps": 9})
    told: list[tuple[int, int]] = []
    whole = pretrain(settings, in_process(settings), lambda *now: told.append(now))
    assert told == [(done, settings.steps) for done in range(1, settings.steps + 1)]
    begun = pretrain(settings, in_process(settings), stop_after=4)
    assert weights_sha256(begun.network.state_dict()) == begun.beginning == whole.beginning
    assert weights_sha256(whole.network.state_dict()) != whole.beginning
    assert (begun.steps, whole.steps) == (4, 9)


def test_the_starters_make_a_bundle_that_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dermis = STARTERS["dermis"].override(
        {"steps": 4, "augment.crop_px": 48, "sizes": ((256, 224),), "side_px": 112}
    )
    settings: dict[Stage, StarterSettings] = {"nerve": SMALL, "dermis": dermis}
    starters = {stage: pretrain(of, in_process(of)) for stage, of in settings.items()}
    monkeypatch.setattr("skinray.learning.auto.starter_bundle.SIZE", (256, 224))
    folder = save_starters(tmp_path / "bundle", settings, starters, (1, 2))
    state = load_file(folder / "nerve.safetensors")
    assert all(value.dtype == torch.float16 for value in state.values())
    bundle = skinray.load_bundle(folder)
    assert bundle.info.note == "starter, untrained on your images"
    assert bundle.info.metrics["other drawn biopsies"] == 2
    card = (folder / "MODEL_CARD.md").read_text()
    assert starters["nerve"].beginning in card
    assert "No image of a\npatient" in card
    network = build("hed", width=0.05)
    load_weights(network, str(folder / "nerve.safetensors"))
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())


@pytest.mark.parametrize("stage", ["nerve", "dermis"])
def test_the_starters_fit_their_networks(stage: str) -> None:
    settings = STARTERS[stage]  # type: ignore[index]
    with torch.device("meta"):
        network = build(settings.model.name, **settings.model.options)
    assert 2 * sum(value.numel() for value in network.parameters()) < 2 << 20
