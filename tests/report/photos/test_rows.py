"""A row of the table, from a network that knows what red is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.config.photos import FURTHER, PhotoSettings, SkinSettings
from skinray.config.training import ArmSettings, ModelSettings
from skinray.errors import WeightsError
from skinray.images.photos.pairs import find_photos, split_photos
from skinray.images.read import read_image
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.photos.trials import PhotoTrials, beginning, with_weights_at_hand
from skinray.learning.trial import TrialOutcome
from skinray.models import build
from skinray.report.photos.csv_files import HEADER, cells
from skinray.report.photos.rows import best_epoch, epoch_s, photo_row, score_and_draw
from skinray.scoring.overlays import encode_jpeg
from tests.support.drawn_photos import write_photos


def outcome(*validation: float | None) -> TrialOutcome:
    history = [
        EpochEnd(at, 0.5, 0.01, value, 4, seconds=(9.0, 1.0, 2.0, 1.5)[at])
        for at, value in enumerate(validation)
    ]
    return TrialOutcome(key="k", fingerprint="f", score=None, history=history, seconds=1)


def test_the_best_epoch_is_the_first_of_the_best_validation() -> None:
    assert best_epoch(outcome(0.1, 0.7, 0.7, 0.2)) == 2
    assert best_epoch(outcome(None, float("nan"))) is None


def test_the_time_of_an_epoch_is_the_median_of_all() -> None:
    assert epoch_s(outcome(0.1, 0.7, 0.7)) == 2
    assert epoch_s(outcome(0.1, 0.7, 0.7, 0.2)) == 1.75
    assert epoch_s(outcome()) is None


def test_a_row_holds_scores_views_and_drawings(tmp_path: Path) -> None:
    photos = find_photos(write_photos(tmp_path / "set", 30))
    settings = PhotoSettings(train_images=10, test_images=20, resamples=100)
    split = split_photos(photos, 10, 20)
    spec = PhotoTrials(settings, split, split, "d", tmp_path).direct()[0]
    network = build("pixel", weights=(60.0, 0.0, 0.0), bias=-30.0)
    tested = score_and_draw(
        [network], split.test, ReadSettings(), tmp_path, spec.key, torch.device("cpu"),
        flips=True, skin=SkinSettings(),
    )  # fmt: skip
    row = photo_row(
        "direct training", spec, outcome(0.1, 0.3), tested, settings, "random weights", flips=True
    )
    assert row.summary.images == len(row.photos) == 20
    assert row.summary.jaccard.value > 0.9
    assert (row.label, row.paper) == ("Dense Residual U-Net, flips averaged", "")
    assert (row.epochs, row.best_epoch) == (2, 2)
    assert [view.name for view in row.views] == ["skin tone", "lighting", "share of skin"]
    assert len({one.found for one in row.examples}) == 3
    assert all("flips" in one.found for one in row.examples)
    assert all((tmp_path / one.traced).is_file() for one in row.examples)
    # The pixel network's three weights and bias; of nine and one seconds an epoch.
    assert (row.parameters, row.epoch_s) == (4, 5)
    # Of two networks, which see skin in the same places: the same figures, other drawings.
    both = score_and_draw(
        [network, network], split.test, ReadSettings(), tmp_path, spec.key, torch.device("cpu"),
        flips=True, skin=SkinSettings(),
    )  # fmt: skip
    assert both.scores == tested.scores
    assert not {one.found for one in both.examples} & {one.found for one in row.examples}
    averaged = photo_row(
        "fine-tuning", spec, outcome(0.1, 0.3), both, settings, "random weights", flips=True,
        members=2,
    )  # fmt: skip
    assert averaged.label == "Dense Residual U-Net, 2 members and flips averaged"
    assert (averaged.paper, averaged.best_epoch, averaged.plain) == ("", None, False)
    assert averaged.parameters == 4  # of one network
    assert cells(averaged)[HEADER.index("prediction")] == "2 members, flips"


@pytest.mark.parametrize("skin", [SkinSettings(), SkinSettings(refine=True, threshold=0.6)])
def test_the_raw_confidence_is_drawn_before_edges_and_threshold(
    tmp_path: Path, skin: SkinSettings
) -> None:
    photos = find_photos(write_photos(tmp_path / "set", 3))
    unsure = build("pixel", weights=(4.0, 0.0, 0.0), bias=-2.0)
    drawn = score_and_draw(
        [unsure], photos, ReadSettings(), tmp_path, "key", torch.device("cpu"), flips=False,
        skin=skin,
    ).examples  # fmt: skip
    for one in drawn:
        (photo,) = (photo for photo in photos if photo.name == one.name)
        red = read_image(photo.image, ReadSettings()).pixels[..., 0].astype(float)
        answered = np.rint(255 / (1 + np.exp(2 - 4 * red / 255))).astype(np.uint8)
        expected = Pillow.open(io.BytesIO(encode_jpeg(answered)))  # with JPEG's own loss
        drawn_there = Pillow.open(tmp_path / one.confidence)
        apart = np.subtract(*(np.asarray(image).astype(int) for image in (drawn_there, expected)))
        assert np.abs(apart).mean() < 0.1


def test_published_weights_that_are_missing_give_random_ones_and_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path))
    asked = PhotoSettings(networks=FURTHER)
    used, said = with_weights_at_hand(asked)
    assert used.networks[0].model.weights is None
    name = FURTHER[0].model.weights
    assert [text.partition(":")[0] for text in said] == [
        f"{arm.label} starts from random weights" for arm in FURTHER
    ]
    assert f"`skinray weights fetch {name}`" in said[0]
    assert beginning(asked.networks[0], used.networks[0]) == (
        f"random weights, since {name} was not available"
    )
    file = tmp_path / "own.safetensors"
    file.touch()
    own = ArmSettings(
        label="own", model=ModelSettings(name="skin_unet", weights=str(file)),
        train=FURTHER[0].train,
    )  # fmt: skip
    kept, said = with_weights_at_hand(PhotoSettings(networks=(own,)))
    assert (kept.networks, said) == ((own,), [])
    file.unlink()
    with pytest.raises(WeightsError, match=r"own: .*own\.safetensors is neither a file nor publ"):
        with_weights_at_hand(PhotoSettings(networks=(own,)))
    file.touch()
    assert beginning(own, own) == f"weights {file}"
    plain = PhotoSettings().networks[0]
    assert beginning(plain, plain) == "random weights"
