from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from skinray.errors import SettingsError
from skinray.images.augment import Sample, apply, draw, generator
from skinray.images.cohort.common_scale import resampled
from skinray.learning.crops import CropMaker, PlanRow, augmented, remaining_steps
from skinray.learning.feed import AHEAD, InProcessFeed, as_batch
from skinray.learning.loop import Batch, World
from skinray.learning.spec import TrialSpec
from tests.support.tiny import Spy, as_photo, drawn_sample, tiny_spec

SAMPLES = [drawn_sample(seed) for seed in range(5)]
PHOTOS = [as_photo(sample) for sample in SAMPLES]


def epoch_of(spec: TrialSpec, epoch: int = 0, row: int = 0, threads: int = 1) -> list[Batch]:
    samples = PHOTOS if spec.stage == "skin" else SAMPLES
    return list(InProcessFeed(spec, samples, threads).batches(epoch, row))


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one[:2], two[:2], strict=True)
    )


def test_batches_are_crops_of_the_image_and_its_mask() -> None:
    batches = epoch_of(tiny_spec())
    assert [tuple(batch.image.shape) for batch in batches] == [(2, 32, 32, 3)] * 2
    assert [tuple(batch.truth.shape) for batch in batches] == [(2, 32, 32)] * 2
    assert all(part.dtype == torch.uint8 for batch in batches for part in batch[:2])
    assert [batch.step for batch in batches] == [2, 2]


def test_crops_are_cut_at_the_working_scale() -> None:
    """Each sample is read and shrunk once."""
    spec, spy = tiny_spec().override({"arm.model.options": {"scale": 0.5}}), Spy(SAMPLES)
    maker, rows = CropMaker(spec, spy), [PlanRow(epoch, 0, 0) for epoch in (0, 1)]
    for row in rows:
        shrunk = resampled(SAMPLES[spec.train[0]], 0.5)
        wanted = augmented(shrunk, row, spec.names[0], spec.seed, spec.augment)
        assert np.array_equal(maker.crop(row).image, wanted.image)
        assert np.array_equal(maker.crop(row).masks["nerve"], wanted.masks["nerve"])
    assert spy.read == [spec.train[0]]


@pytest.mark.parametrize(("stage", "colour"), [("nerve", 0), ("dermis", 1)])
def test_the_mask_moves_with_the_image(stage: str, colour: int) -> None:
    batches = epoch_of(tiny_spec(stage=stage))
    images, masks = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
    inside = images[..., colour][masks == 1].float().mean()
    outside = images[..., colour][masks == 0].float().mean()
    assert inside > outside + 100


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads: int) -> None:
    spec = tiny_spec(train=(0, 1, 2, 3, 4), names=tuple("abcde"), arm__train__draws_per_image=5)
    assert 2 * len(remaining_steps(spec, 0)) > (AHEAD + 1) * threads
    assert same(epoch_of(spec), epoch_of(spec, threads=threads))


def test_every_epoch_draws_afresh_and_the_same_again() -> None:
    spec = tiny_spec()
    assert same(epoch_of(spec, 1), epoch_of(spec, 1))
    assert not same(epoch_of(spec, 0), epoch_of(spec, 1))
    assert not same(epoch_of(spec), epoch_of(tiny_spec(seed=2)))


def test_a_draw_belongs_to_the_image_not_to_its_place() -> None:
    row, how = PlanRow(2, 0, 0), tiny_spec().augment
    first = CropMaker(tiny_spec(), SAMPLES).crop(row)
    moved = CropMaker(tiny_spec(train=(1, 0, 2), names=("b", "a.png", "c")), SAMPLES)
    again = moved.crop(PlanRow(2, 1, 0))
    assert np.array_equal(first.image, again.image)
    direct = apply(draw(generator(1, 2, "a.png", 0), how), SAMPLES[0], how)
    assert np.array_equal(first.image, direct.image)
    other = augmented(SAMPLES[0], PlanRow(2, 0, 1), "a.png", 1, how)
    assert not np.array_equal(first.image, other.image)


def test_skin_is_pasted_with_the_given_probability() -> None:
    plain = tiny_spec(stage="skin", train=tuple(range(4)), names=tuple("abcd"))
    spec = plain.override({"paste_probability": 0.5, "backgrounds": (4,)})
    rows = [PlanRow(epoch, image, 0) for epoch in range(25) for image in range(4)]
    pasted = 0
    for row in rows:
        spy = Spy(PHOTOS)
        crop, front = CropMaker(spec, spy).crop(row), CropMaker(plain, PHOTOS).crop(row)
        skin = front.masks["skin"] > 0
        assert np.array_equal(crop.image[skin], front.image[skin])
        assert (crop.masks["skin"][skin] == 1).all()
        changed = not np.array_equal(crop.image, front.image)
        assert changed == (4 in spy.read and not skin.all())
        pasted += 4 in spy.read
    assert 35 <= pasted <= 65
    assert same(epoch_of(spec, 3), epoch_of(spec, 3, threads=3))


def test_the_background_is_a_new_crop_each_time() -> None:
    spec = tiny_spec(stage="skin", paste_probability=1, backgrounds=(3, 4))
    blank = Sample(
        np.zeros_like(SAMPLES[0].image), {"skin": np.zeros_like(SAMPLES[0].masks["nerve"])}
    )
    maker = CropMaker(spec, [blank] * 3 + PHOTOS[3:])
    views = {maker.crop(PlanRow(epoch, 0, 0)).image.tobytes() for epoch in range(8)}
    assert len(views) == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "dermis", "paste_probability": 0.5, "backgrounds": (0,)},
        {"stage": "skin", "paste_probability": 0.5},
    ],
)
def test_pasting_needs_stage_skin_and_backgrounds(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="needs stage skin, and backgrounds"):
        tiny_spec(**changes)


def test_an_epoch_can_continue_from_any_row() -> None:
    spec = tiny_spec(train=(0, 1, 2, 3), names=tuple("abcd"))
    assert same(epoch_of(spec)[1:], epoch_of(spec, row=2))
    assert epoch_of(spec, row=4) == []


def test_the_last_step_is_filled() -> None:
    spec = tiny_spec()
    assert [len(step) for step in remaining_steps(spec, 0)] == [2, 2]
    assert [len(batch.image) for batch in epoch_of(spec)] == [2, 2]


def test_the_workers_share_each_step() -> None:
    spec = tiny_spec(
        train=(0, 1, 2, 3, 4), names=tuple("abcde"), step_crops=4, arm__train__draws_per_image=2
    )
    alone = epoch_of(spec)
    shares = [
        list(InProcessFeed(spec, SAMPLES, world=World(rank, 3)).batches(0)) for rank in range(3)
    ]
    assert [batch.step for share in shares for batch in share] == [4] * 9
    for whole, *parts in zip(alone, *shares, strict=True):
        assert [len(part.image) for part in parts] == [2, 1, 1]
        crops = [parts[at % 3].image[at // 3] for at in range(4)]
        assert torch.equal(whole.image, torch.stack(crops))


def test_a_feed_has_statistics() -> None:
    feed = InProcessFeed(tiny_spec(), SAMPLES, world=World(0, 2))
    list(feed.batches(0))
    fed = feed.fed()
    assert (fed.by, fed.crops, fed.workers) == ("in process", 2, 2)
    assert fed.waited_s > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_only_training_images_are_read(threads: int) -> None:
    spy = Spy(SAMPLES)
    list(InProcessFeed(tiny_spec(train=(0, 3, 4)), spy, threads).batches(0))
    assert set(spy.read) == {0, 3, 4}


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_an_image_is_raised(threads: int) -> None:
    with pytest.raises(IndexError):
        list(InProcessFeed(tiny_spec(train=(0, 1, 9)), SAMPLES, threads).batches(0))


def test_as_batch_shares_the_memory() -> None:
    images, masks = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.uint8)
    batch = as_batch(images, masks, 1)
    images += 1
    assert int(batch[0].min()) == 1
