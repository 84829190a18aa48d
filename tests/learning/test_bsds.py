"""BSDS500: consensus of drawn annotators, and a tiny HED trained on tiny images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.io import savemat

from skinray.config.training import PretrainSettings
from skinray.errors import CohortError, LabelError, TrainingError
from skinray.learning.bsds import pairs, pretrain_hed, read_edges, read_sample
from skinray.models import build
from skinray.models.weights.load import load_weights

TINY = PretrainSettings().override(
    {
        "splits": ["train"],
        "model.options": {"width": 1 / 32},
        "epochs": 3,
        "batch_size": 2,
        "crop_px": 32,
    }
)


def write_truth(path: Path, *annotators: np.ndarray) -> None:
    """Write boundaries in the layout of the published .mat files."""
    cells = np.empty((1, len(annotators)), dtype=object)
    for index, drawn in enumerate(annotators):
        cells[0, index] = {"Segmentation": drawn.astype(np.uint16), "Boundaries": drawn}
    savemat(path, {"groundTruth": cells})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images of 40x48 with a bright square whose rim three of four annotators drew."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "bsds"
    (folder / "images/train").mkdir(parents=True)
    (folder / "groundTruth/train").mkdir(parents=True)
    for number in range(4):
        pixels = rng.integers(60, 90, (40, 48, 3), dtype=np.uint8)
        pixels[10:30, 8 + number : 30] += 120
        rim = np.zeros((40, 48), np.uint8)
        rim[10:30, 8 + number] = 1
        Image.fromarray(pixels).save(folder / f"images/train/{number}.jpg", quality=95)
        write_truth(folder / f"groundTruth/train/{number}.mat", rim, rim, rim, 0 * rim)
    return folder


def test_three_annotators_make_an_edge(tmp_path: Path) -> None:
    drawn = [np.zeros((1, 5), np.uint8) for _ in range(4)]
    for column in range(5):
        for annotator in range(column):
            drawn[annotator][0, column] = 1
    write_truth(tmp_path / "t.mat", *drawn)
    as_hed = read_edges(tmp_path / "t.mat", PretrainSettings())
    lenient = read_edges(tmp_path / "t.mat", PretrainSettings(disputed="ignore", min_annotators=2))
    assert as_hed.tolist() == [[0, 0, 0, 1, 1]]
    assert lenient.tolist() == [[0, 255, 1, 1, 1]]


def test_images_meet_their_annotations(data: Path) -> None:
    found = pairs(data, ("train",))
    assert [(image.stem, truth.stem) for image, truth in found] == [(i, i) for i in "0123"]
    sample = read_sample(*found[2], PretrainSettings())
    assert sample.shape == (40, 48)
    assert sample.masks["nerve"].sum() == 20
    assert sample.masks["nerve"][10:30, 10].all()


def test_missing_parts_are_named(data: Path) -> None:
    with pytest.raises(CohortError, match="images/val"):
        pairs(data, ("train", "val"))
    (data / "groundTruth/train/1.mat").unlink()
    with pytest.raises(CohortError, match=r"no annotations for 1 image, .*1\.mat"):
        pairs(data, ("train",))


def test_bad_annotations_are_named(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mat"
    broken.write_bytes(b"MATLAB, perhaps")
    with pytest.raises(LabelError, match=r"broken\.mat"):
        read_edges(broken, PretrainSettings())
    savemat(broken, {"something": np.ones(3)})
    with pytest.raises(LabelError, match="groundTruth"):
        read_edges(broken, PretrainSettings())
    write_truth(broken, np.zeros((7, 7), np.uint8))
    with pytest.raises(LabelError, match="do not match image"):
        read_sample(data / "images/train/0.jpg", broken, PretrainSettings())


def test_pretraining_gives_weights_that_fit_hed(data: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = pretrain_hed(data, tmp_path / "out", TINY, lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    network = build("hed", width=1 / 32)
    load_weights(network, str(path))
    assert torch.equal(network.state_dict()["fuse.weight"], load_file(path)["fuse.weight"])


class KilledError(Exception):
    """Stands for a process that ends in the middle of a training."""


def test_an_interrupted_pretraining_ends_as_an_unbroken_one(data: Path, tmp_path: Path) -> None:
    whole = load_file(pretrain_hed(data, tmp_path / "whole", TINY))

    def kill(done: int, _: int) -> None:
        if done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain_hed(data, tmp_path / "cut", TINY, kill)
    later: list[int] = []
    path = pretrain_hed(data, tmp_path / "cut", TINY, lambda done, _: later.append(done))
    assert later == [3]
    resumed = load_file(path)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_training_of_other_settings_is_not_continued(data: Path, tmp_path: Path) -> None:
    short = TINY.override({"epochs": 1})
    pretrain_hed(data, tmp_path / "out", short)
    with pytest.raises(TrainingError, match="other settings"):
        pretrain_hed(data, tmp_path / "out", short.override({"seed": 1}))


@pytest.mark.real_data
def test_the_real_bsds500(real_data: Path) -> None:
    settings = PretrainSettings()
    found = pairs(real_data / "bsds500", settings.splits)
    assert len(found) == 300
    sample = read_sample(*found[0], settings)
    assert sorted(sample.shape) == [321, 481]
    assert set(np.unique(sample.masks["nerve"])) == {0, 1}
    assert 0.002 < sample.masks["nerve"].mean() < 0.05
