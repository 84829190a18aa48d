"""Pretraining of HED on BSDS500, for when the published weights are not available.

The data are Arbelaez et al.'s images with the boundaries drawn by 4 to 9 annotators each. As in
HED (Xie and Tu 2015): a pixel is an edge if at least three annotators drew one, and otherwise
background; the loss is class-balanced and applies to every side output and the fusion; crops are
rotated by any angle and mirrored. Unlike HED, the optimiser is Adam and the learning rate follows
the plateau schedule of the other trainings here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat

from skinray.config.images import AugmentSettings
from skinray.config.training import PretrainSettings, TrainSettings
from skinray.errors import CohortError, LabelError, size_of
from skinray.images.augment import Sample
from skinray.images.file_errors import counted
from skinray.images.read import read_image
from skinray.learning.checkpoint import EpochEnd, TrainState
from skinray.learning.crops import augmented, epoch_plan
from skinray.learning.feed import as_batch
from skinray.learning.loop import Batch, Objective, fit
from skinray.models import build
from skinray.models.weights.files import write_state
from skinray.models.weights.load import load_weights

EDGE, IGNORED = 1, 255
WEIGHTS, STATE = "hed_bsds500.safetensors", "state.safetensors"


def pairs(data: Path, splits: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """List images of BSDS500 with their annotations, by split and name.

    Parameters
    ----------
    data : folder with ``images/SPLIT/*.jpg`` and ``groundTruth/SPLIT/*.mat``.

    Raises
    ------
    CohortError
        If a split has no image, or an image has no annotations.
    """
    found = []
    for split in splits:
        images = sorted((data / "images" / split).glob("*.jpg"))
        if not images:
            raise CohortError(
                f"{data}: no image in images/{split}; give the BSDS500 folder that holds "
                "images/ and groundTruth/"
            )
        truths = data / "groundTruth" / split
        found += [(image, truths / f"{image.stem}.mat") for image in images]
    absent = [str(truth) for _, truth in found if not truth.is_file()]
    if absent:
        raise CohortError(
            f"{data}: no annotations for {counted(len(absent), 'image')}, the first {absent[0]}; "
            "unpack groundTruth/ next to images/"
        )
    return found


def read_edges(path: Path, settings: PretrainSettings) -> NDArray[np.uint8]:
    """Return the annotators' consensus, (H, W) uint8: 1 edge, 0 background, 255 ignored.

    Raises
    ------
    LabelError
        If the file is not a ground truth of BSDS500.
    """
    try:
        annotations = loadmat(path)["groundTruth"].ravel()
        drawn = [np.asarray(one["Boundaries"][0, 0]) > 0 for one in annotations]
        votes = np.sum(drawn, axis=0, dtype=np.uint8)
    except Exception as error:  # damaged .mat files raise many kinds of error
        raise LabelError(
            f"{path}: not a ground truth of BSDS500 ({type(error).__name__}: {error}); "
            "unpack it again"
        ) from None
    if votes.ndim != 2:
        raise LabelError(f"{path}: has no boundaries; unpack it again")
    agreed = votes >= min(settings.min_annotators, len(drawn))
    disputed = IGNORED if settings.disputed == "ignore" else 0
    return np.where(agreed, EDGE, np.where(votes > 0, disputed, 0)).astype(np.uint8)


def read_sample(image: Path, truth: Path, settings: PretrainSettings) -> Sample:
    """Return one labelled image; its edges are its mask "nerve", coded as in :func:`read_edges`."""
    pixels, edges = read_image(image).pixels, read_edges(truth, settings)
    if pixels.shape[:2] != edges.shape:
        raise LabelError(
            f"{truth}: boundaries {size_of(edges.shape)} do not match image "
            f"{size_of(pixels.shape)}; unpack both from the same release"
        )
    return Sample(pixels, {"nerve": edges})


def pretrain_hed(
    data: Path,
    out: Path,
    settings: PretrainSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train HED on BSDS500; return a ``.safetensors`` file for the option ``weights``.

    Parameters
    ----------
    data : BSDS500, as in :func:`pairs`.
    out : folder for the weights and the training state. Called again with the same settings,
        training continues after the last complete epoch.
    progress : called with the number of epochs done and in total.

    Raises
    ------
    CohortError, LabelError, ImageError
        If the data are incomplete or damaged.
    TrainingError
        If ``out`` holds a training with other settings or images, or the loss is not finite.
    """
    settings = settings or PretrainSettings()
    files = pairs(Path(data), settings.splits)
    samples = [read_sample(*pair, settings) for pair in files]
    names = [image.stem for image, _ in files]
    state_file, owner = Path(out) / STATE, f"{settings.fingerprint()} {_digest(names)}"
    torch.manual_seed(settings.seed)
    network = build(settings.model.name, **settings.model.options)
    if settings.model.weights is not None and not state_file.is_file():
        load_weights(network, settings.model.weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)

    def on_epoch(end: EpochEnd, snapshot: Callable[[], TrainState]) -> None:
        snapshot().save(state_file, owner)
        if progress is not None:
            progress(end.epoch + 1, settings.epochs)

    train = training(settings)
    state = fit(
        Objective(network, train),
        network,
        train,
        lambda epoch, row: _batches(samples, names, settings, epoch, row),
        seed=settings.seed,
        device=device,
        start=TrainState.load(state_file, owner) if state_file.is_file() else None,
        on_epoch=on_epoch,
    )
    notes = {"trained_on": "BSDS500", "settings": json.dumps(settings.model_dump(mode="json"))}
    write_state(Path(out) / WEIGHTS, state.kept, notes)
    return Path(out) / WEIGHTS


def training(settings: PretrainSettings) -> TrainSettings:
    """Return the training settings: HED's loss on five side outputs and the fusion."""
    return TrainSettings(
        loss="balanced_bce",
        side_weight=5,  # times the mean of five side losses is their sum, as in HED
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
    )


def _digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _batches(
    samples: list[Sample], names: list[str], settings: PretrainSettings, epoch: int, row: int
) -> Iterator[Batch]:
    """Yield an epoch's batches; negative pixels of the int8 truth are ignored by the loss."""
    size = settings.batch_size
    turned = AugmentSettings(
        translate_px=0,
        rotate_deg=180,
        shear_deg=0,
        orientations_deg=(0,),
        crop_px=settings.crop_px,
    )
    rows = epoch_plan(names, settings.seed, epoch, step=size)
    for start in range(row, len(rows), size):
        crops = [
            augmented(samples[at.image], at, names[at.image], settings.seed, turned)
            for at in rows[start : start + size]
        ]
        truth = np.stack([crop.masks["nerve"] for crop in crops]).view(np.int8)  # 255 becomes -1
        yield as_batch(np.stack([crop.image for crop in crops]), truth, size)
