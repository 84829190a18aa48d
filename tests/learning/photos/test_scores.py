"""Figures over photographs, against sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from scipy import stats
from torch import nn

from skinray.config.images import ReadSettings
from skinray.config.photos import PhotoSettings, SkinSettings
from skinray.errors import LabelError
from skinray.images.photos.pairs import Photo, find_photos, load_photo, split_photos
from skinray.images.photos.skin import guided_filter
from skinray.learning.photos.scores import PhotoScore, look, score_photos, summarise
from skinray.learning.photos.trials import (
    PhotoTrials,
    photos_fingerprint,
)
from skinray.models import build
from tests.support.drawn_photos import write_photos


def score(skin: int, predicted: int, both: int) -> PhotoScore:
    return PhotoScore(name="a", md5="0", pixels=1000, skin=skin, predicted=predicted, both=both)


def red_is_skin() -> nn.Module:
    return build("pixel", weights=(60.0, 0.0, 0.0), bias=-30.0)


def test_jaccard_and_dice_by_hand() -> None:
    one = score(100, 80, 60)
    assert (one.either, one.jaccard, one.dice) == (120, 0.5, 120 / 180)
    assert (score(0, 0, 0).jaccard, score(0, 0, 0).dice) == (1.0, 1.0)
    assert (score(0, 9, 0).jaccard, score(0, 9, 0).dice) == (0.0, 0.0)


def test_means_are_over_images_and_the_pooled_figure_over_pixels() -> None:
    scores = [score(100, 100, 100), score(900, 900, 300)]
    found = summarise(scores, 200, 0)
    assert found.jaccard.value == pytest.approx((1 + 300 / 1500) / 2)
    assert found.jaccard_pooled.value == pytest.approx(400 / 1600)
    assert found.dice.value == pytest.approx((1 + 600 / 1800) / 2)


def test_intervals_hold_the_figure_repeat_themselves_and_narrow_with_images() -> None:
    rng = np.random.default_rng(0)
    many = [score(500, 500, int(rng.integers(250, 500))) for _ in range(400)]
    wide, narrow = summarise(many[:20], 500, 1), summarise(many, 500, 1)
    assert narrow == summarise(many, 500, 1)
    for name in ("jaccard", "jaccard_pooled", "dice"):
        few, all_of_them = getattr(wide, name), getattr(narrow, name)
        assert few.low < few.value < few.high
        assert all_of_them.high - all_of_them.low < (few.high - few.low) / 2
    alone = summarise(many[:1], 500, 1)
    assert (alone.jaccard.low, alone.jaccard.high) == (None, None)


def test_intervals_are_of_95_percent_over_photographs_drawn_with_replacement() -> None:
    # Of 30 drawn with replacement, the photographs of the first kind are binomial.
    count, found_in = 30, 26
    scores = [score(80, 80, 60)] * found_in + [score(300, 0, 0)] * (count - found_in)
    found = summarise(scores, 5000, 0)
    low, high = stats.binom.ppf([0.025, 0.975], count, found_in / count)
    assert (low, high) == (22, 29)
    for interval, of in (
        (found.jaccard, lambda kind: 0.6 * kind / count),
        (found.dice, lambda kind: 0.75 * kind / count),
        (found.jaccard_pooled, lambda kind: 60 * kind / (100 * kind + 300 * (count - kind))),
    ):
        expected = (of(found_in), of(low), of(high))
        assert (interval.value, interval.low, interval.high) == pytest.approx(expected)


def test_identical_photographs_give_an_interval_of_width_zero() -> None:
    found = summarise([score(100, 80, 60)] * 7, 300, 0)
    for interval, value in (
        (found.jaccard, 0.5),
        (found.jaccard_pooled, 0.5),
        (found.dice, 2 / 3),
    ):
        assert (interval.value, interval.low, interval.high) == pytest.approx((value,) * 3)


def test_photographs_are_scored_at_their_own_size(tmp_path: Path) -> None:
    photos = find_photos(write_photos(tmp_path / "set", 3, size=(50, 131)))
    for found in score_photos([red_is_skin()], photos, ReadSettings()):
        assert found.pixels == 50 * 131
        assert found.jaccard > 0.9
        assert 0 < found.skin < found.pixels


def test_flips_average_the_photograph_and_its_mirror_image(tmp_path: Path) -> None:
    class LeftIsSkin(nn.Module):
        """Sees skin in the left half of whatever it is given."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = torch.full((len(image), 1, *image.shape[-2:]), -4.0)
            logits[..., : image.shape[-1] // 2] = 3.0
            return logits

    image = np.zeros((6, 10, 3), np.uint8)
    plain = look([LeftIsSkin()], image).mask
    assert plain[:, :5].all()
    assert not plain[:, 5:].any()
    # Both halves are now sigmoid(3) and sigmoid(-4), averaged: just below a half.
    assert not look([LeftIsSkin()], image, flips=True).mask.any()
    (photo,) = find_photos(write_photos(tmp_path / "set", 1))
    (one,) = score_photos([red_is_skin()], [photo], ReadSettings())
    (both,) = score_photos([red_is_skin()], [photo], ReadSettings(), flips=True)
    assert one == both  # a network of single pixels sees mirrored ones alike


def test_masks_are_made_by_the_settings_of_the_bundle(tmp_path: Path) -> None:
    unsure = build("pixel", weights=(0.0, 0.0, 0.0), bias=0.5)  # .62 of every pixel
    image = np.zeros((4, 5, 3), np.uint8)
    assert look([unsure], image, skin=SkinSettings(threshold=0.6)).mask.all()
    assert not look([unsure], image, skin=SkinSettings(threshold=0.65)).mask.any()

    class TopIsSkin(nn.Module):
        """Sees skin in the upper three quarters."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = torch.full((len(image), 1, *image.shape[-2:]), -4.0)
            logits[..., : 3 * image.shape[-2] // 4, :] = 4.0
            return logits

    # What is bright ends higher up, at two thirds, and draws the mask's edge nearer to its own.
    image = np.full((60, 60, 3), 20, np.uint8)
    image[:40] = 230
    refined = SkinSettings(refine=True, refine_radius=0.15)
    rough, found = look([TopIsSkin()], image).mask, look([TopIsSkin()], image, skin=refined).mask
    assert rough.sum() == 45 * 60
    certain = np.where(np.arange(60) < 45, 1 / (1 + np.exp(-4)), 1 / (1 + np.exp(4)))
    rows = np.repeat(certain[:, None], 60, 1).astype(np.float32)
    assert (found == (guided_filter(image, rows, 9, refined.refine_eps) >= 0.5)).all()
    assert (found != rough).any()
    photos = find_photos(write_photos(tmp_path / "set", 3))
    plain, refined_scores = (
        [one.predicted for one in score_photos([red_is_skin()], photos, ReadSettings(), skin=how)]
        for how in (SkinSettings(), SkinSettings(refine=True, refine_radius=0.1))
    )
    assert plain != refined_scores


def test_networks_are_averaged_by_their_probabilities() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    # Probabilities .95, .27 and .27: on average below a half; the first two together above.
    sure, doubting = (build("pixel", weights=(0.0, 0.0, 0.0), bias=bias) for bias in (3.0, -1.0))
    assert look([sure], image).mask.all()
    assert look([sure, doubting], image).mask.all()
    assert not look([sure, doubting, doubting], image).mask.any()


def test_a_mask_of_another_size_is_an_error(tmp_path: Path) -> None:
    photos = find_photos(write_photos(tmp_path / "set", 1))
    Pillow.new("L", (9, 9)).save(photos[0].mask)
    for use in (
        lambda: score_photos([red_is_skin()], photos, ReadSettings()),
        lambda: load_photo(photos[0], 144, ReadSettings()),
    ):
        with pytest.raises(LabelError, match="mask of 9x9 px, photograph of 80x60 px"):
            use()


def test_photographs_are_loaded_square_with_their_skin(tmp_path: Path) -> None:
    (photo,) = find_photos(write_photos(tmp_path / "set", 1, size=(300, 200)))
    sample = load_photo(photo, 144, ReadSettings())
    assert sample.image.shape == (144, 144, 3)
    assert sample.masks["skin"].shape == (144, 144)
    assert set(sample.masks) == {"skin"}
    # What is warm is skin, here as in the file.
    assert (sample.image[sample.masks["skin"] > 0][:, 0] > 130).mean() > 0.95
    assert (sample.image[sample.masks["skin"] == 0][:, 0] > 130).mean() < 0.05


def test_three_scenarios_of_each_network(tmp_path: Path) -> None:
    public = find_photos(write_photos(tmp_path / "public", 20))
    clinical = find_photos(write_photos(tmp_path / "clinical", 30, seed=1))
    settings = PhotoSettings(train_images=10, test_images=20)
    trials = PhotoTrials(
        settings, split_photos(public, 20, 0), split_photos(clinical, 10, 20), "d", tmp_path
    )
    pretraining, direct, tuning = trials.pretraining(), trials.direct(), trials.fine_tuning()
    assert len(pretraining) == len(direct) == len(tuning) == 3
    keys = [spec.key for spec in (*pretraining, *direct, *tuning)]
    assert len(set(keys)) == 9
    assert "fine-tuning-dense-residual-u-net" in keys
    for before, one, after in zip(pretraining, direct, tuning, strict=True):
        assert before.arm == one.arm
        assert one.arm.train.learning_rate == 0.01
        assert after.arm.train.learning_rate == 0.001
        assert after.goes_on_from == before.key
        assert (before.goes_on_from, one.goes_on_from) == (None, None)
        assert (len(before.train), len(before.validation)) == (16, 4)
        assert (len(one.train), len(one.validation)) == (8, 2)
        assert (one.train, one.validation) == (after.train, after.validation)
        sources = {trials.photos[at].source for at in (*one.train, *one.validation)}
        assert sources == {"clinical"}
        tested = {photo.md5 for photo in trials.clinical.test}
        assert not tested & {photo.md5 for photo in trials.photos}


def test_members_start_equal_and_hold_out_different_photographs(
    tmp_path: Path,
) -> None:
    public = split_photos(find_photos(write_photos(tmp_path / "public", 20)), 20, 0)
    clinical = split_photos(find_photos(write_photos(tmp_path / "clinical", 30, seed=1)), 10, 20)
    settings = PhotoSettings(train_images=10, test_images=20, members=3)
    trials = PhotoTrials(settings, public, clinical, "d", tmp_path)
    ensembles = trials.ensembles()
    assert [len(members) for members in ensembles] == [3, 3, 3]
    assert [members[0] for members in ensembles] == trials.fine_tuning()
    for members in ensembles:
        assert len({spec.arm.model_dump_json() for spec in members}) == 1
        assert [spec.seed for spec in members] == [0, 1, 2]
        assert len({at for spec in members for at in spec.validation}) == 6
        for spec in members:
            assert {*spec.train, *spec.validation} == {*members[0].train, *members[0].validation}
            assert spec.names == tuple(trials.photos[at].md5 for at in spec.train)
    keys = [spec.key for members in ensembles for spec in members]
    assert len(set(keys)) == 9
    assert "fine-tuning-u-net--member-3" in keys
    alone = PhotoTrials(PhotoSettings(), public, clinical, "d", tmp_path)
    assert alone.ensembles() == [(spec,) for spec in alone.fine_tuning()]


def test_backgrounds_are_those_that_the_scenario_may_use(tmp_path: Path) -> None:
    public = split_photos(find_photos(write_photos(tmp_path / "public", 20)), 20, 0)
    clinical = split_photos(find_photos(write_photos(tmp_path / "clinical", 30, seed=1)), 10, 20)
    settings = PhotoSettings(train_images=10, test_images=20, paste_probability=0.5)
    trials = PhotoTrials(settings, public, clinical, "d", tmp_path)
    for specs, behind in (
        (trials.pretraining(), public.train),
        (trials.direct(), clinical.train),
        (trials.fine_tuning(), (*public.train, *clinical.train)),
    ):
        for spec in specs:
            assert spec.paste_probability == 0.5
            assert tuple(trials.photos[at] for at in spec.backgrounds) == behind
    room = Photo("room.png", tmp_path, tmp_path, "rooms", "0" * 32, "no skin")
    furnished = PhotoTrials(settings, public, clinical, "d", tmp_path, (room,))
    for before, specs in (
        (trials.pretraining(), furnished.pretraining()),
        (trials.direct(), furnished.direct()),
        (trials.fine_tuning(), furnished.fine_tuning()),
    ):
        for old, new in zip(before, specs, strict=True):
            assert new.backgrounds == (*old.backgrounds, len(trials.photos))
            assert (new.train, new.validation) == (old.train, old.validation)
    assert furnished.photos[-1] == room
    off = PhotoTrials(PhotoSettings(), public, clinical, "d", tmp_path).fine_tuning()[0]
    assert (off.paste_probability, off.backgrounds) == (0, ())


def test_pretraining_may_have_its_own_number_of_epochs(tmp_path: Path) -> None:
    photos = split_photos(find_photos(write_photos(tmp_path / "set", 20)), 10, 10)
    settings = PhotoSettings(train_images=10, test_images=10, pretraining_epochs=3).lasting(7)
    trials = PhotoTrials(settings, photos, photos, "d", tmp_path)
    for specs, epochs in (
        (trials.pretraining(), 3),
        (trials.direct(), 7),
        (trials.fine_tuning(), 7),
    ):
        assert {spec.arm.train.epochs for spec in specs} == {epochs}


def test_the_fingerprint_is_of_bytes(tmp_path: Path) -> None:
    photos = find_photos(write_photos(tmp_path / "a" / "s", 3))
    before = photos_fingerprint(photos)
    again = find_photos(write_photos(tmp_path / "b" / "s", 3))
    assert photos_fingerprint(again) == before
    Pillow.new("L", (80, 60)).save(photos[0].mask)
    assert photos_fingerprint(photos) != before
