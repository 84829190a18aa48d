"""Which networks the bundle of a run on photographs holds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skinray.config.photos import LOOKED_AT, PhotoSettings
from skinray.config.training import ModelSettings
from skinray.errors import TrainingError
from skinray.files import sha256_of
from skinray.images.photos.pairs import PhotoSplit, find_photos, split_photos
from skinray.images.photos.skin import Skin
from skinray.learning import bundle as bundles
from skinray.learning.bundle.info import BundleInfo, read_info
from skinray.learning.photos.trials import PhotoTrials
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import OUTCOME, WEIGHTS, TrialOutcome
from skinray.models import build
from skinray.report.photos.bundle import write_photo_bundle
from skinray.report.photos.table import PhotoResults
from tests.support.drawn_photos import write_photos
from tests.support.fake_photo_run import fake_photo_results

BIASES = {"direct": -30.0, "first": -10.0, "second": -50.0}


@pytest.fixture
def trials(tmp_path: Path) -> PhotoTrials:
    photos = split_photos(find_photos(write_photos(tmp_path / "set", 30)), 10, 20)
    settings = PhotoSettings(train_images=10, test_images=20, members=2).only(["skin_unet"])
    pixel = settings.networks[0].model_copy(update={"model": ModelSettings(name="pixel")})
    settings = settings.model_copy(update={"networks": (pixel,)})
    return PhotoTrials(settings, photos, photos, "d", tmp_path / "run" / "trials")


def trained(trials: PhotoTrials, spec: TrialSpec, score: float | None, bias: float) -> None:
    """Leave what a training leaves: its outcome, and a network that calls red skin."""
    folder = trials.trials / spec.key
    folder.mkdir(parents=True)
    outcome = TrialOutcome(
        key=spec.key, fingerprint=spec.fingerprint(), score=score, history=[], seconds=1
    )
    (folder / OUTCOME).write_text(outcome.model_dump_json(), encoding="utf-8")
    network = build("pixel", weights=(60.0, 0.0, 0.0), bias=bias)
    save_file(network.state_dict(), folder / WEIGHTS)


def results_of(run: Path, members: int) -> PhotoResults:
    """Return results whose fine-tuned U-Net is once alone, and once an ensemble."""
    results = fake_photo_results(run)
    alone = next(r for r in results.rows if (r.scenario, r.network) == ("fine-tuning", "U-Net"))
    ensemble = alone.model_copy(update={"members": members})
    return results.model_copy(update={"rows": [*results.rows, ensemble]})


def written(trials: PhotoTrials, scores: tuple[float | None, float, float]) -> BundleInfo:
    direct, (first, second) = trials.direct()[0], trials.ensembles()[0]
    for spec, score, bias in zip((direct, first, second), scores, BIASES.values(), strict=True):
        trained(trials, spec, score, bias)
    run = trials.trials.parent
    return read_info(write_photo_bundle(run, trials, results_of(run, 2)))


def test_an_ensemble_counts_by_the_mean_of_its_members(trials: PhotoTrials) -> None:
    info = written(trials, (0.7, 0.5, 0.95))
    assert (info.fold, info.members) == ("fine-tuning", 2)
    named = "1 - Jaccard loss in validation (mean of members, each by itself)"
    assert info.metrics[named] == 0.725
    folder = trials.trials.parent / "bundle"
    found = bundles.load(folder, "cpu").predict(np.full((4, 4, 3), (128, 0, 0), np.uint8))
    assert isinstance(found, Skin)
    red = 60 * 128 / 255
    each = [torch.sigmoid(torch.tensor(red + BIASES[name])).item() for name in ("first", "second")]
    assert found.probability.mean() == pytest.approx(sum(each) / 2, abs=1e-5)
    before = (folder / "bundle.json").read_bytes()
    write_photo_bundle(folder.parent, trials, results_of(folder.parent, 2))
    assert (folder / "bundle.json").read_bytes() == before  # it lay there already


def test_one_good_member_is_not_enough(trials: PhotoTrials) -> None:
    info = written(trials, (0.7, 0.4, 0.95))
    assert (info.fold, info.members) == ("direct training", 1)
    assert info.metrics["1 - Jaccard loss in validation"] == 0.7


def test_a_bundle_says_what_its_figures_were_developed_on(trials: PhotoTrials) -> None:
    assert LOOKED_AT not in written(trials, (0.7, 0.5, 0.95)).metrics.values()
    run = trials.trials.parent
    told = results_of(run, 2).model_dump() | {"settings": {"recipe": "varied"}}
    info = read_info(write_photo_bundle(run, trials, PhotoResults.model_validate(told)))
    assert info.metrics["This training was"] == LOOKED_AT


def test_without_a_validation_score_nothing_is_chosen(trials: PhotoTrials) -> None:
    trained(trials, trials.direct()[0], None, 0.0)
    run = trials.trials.parent
    with pytest.raises(TrainingError, match="no training has a validation score"):
        write_photo_bundle(run, trials, results_of(run, 2))


def test_a_bundle_knows_the_photographs_it_was_trained_on(trials: PhotoTrials) -> None:
    photos = trials.clinical
    clinical = {sha256_of(photo.image) for photo in (*photos.train, *photos.validation)}
    one = PhotoSplit(photos.test[:1], (), ())
    trials = replace(trials, public=one, clinical=replace(photos, test=photos.test[1:]))
    assert written(trials, (0.7, 0.4, 0.95)).trained_on == clinical
    shutil.rmtree(trials.trials.parent)
    tuned = written(trials, (0.7, 0.5, 0.95))
    assert tuned.trained_on == clinical | {sha256_of(photos.test[0].image)}
