"""Scores of skin masks against traced ones, at each photograph's own size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import bootstrap
from torch import nn

from skinray.config.images import ReadSettings
from skinray.config.photos import WHOLE, SkinSettings
from skinray.errors import ImageError
from skinray.images.photos.labels import read_skin
from skinray.images.photos.pairs import Photo, check_same_size
from skinray.images.photos.skin import NotFiniteError, find_skin
from skinray.images.photos.tone import measure_tone
from skinray.images.read import read_image
from skinray.learning.bundle.networks import StageModel

FLIPPED = WHOLE.override({"mirrored": 2})
PLAIN = SkinSettings()


class PhotoScore(BaseModel):
    """One photograph: number of pixels in truth, prediction and both; its colours.

    ``lightness`` and ``ita_deg`` are as in :class:`skinray.images.photos.tone.Tone`; None if they
    were not measured.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    md5: str
    pixels: int
    skin: int
    predicted: int
    both: int
    lightness: float | None = None
    ita_deg: float | None = None

    @property
    def either(self) -> int:
        """Number of pixels that are skin in the truth or the prediction."""
        return self.skin + self.predicted - self.both

    @property
    def jaccard(self) -> float:
        """Overlap over union; 1 if there is no skin in either."""
        return self.both / self.either if self.either else 1.0

    @property
    def dice(self) -> float:
        """Overlap over the mean of both; 1 if there is no skin in either."""
        return 2 * self.both / (self.skin + self.predicted) if self.either else 1.0


class Look(NamedTuple):
    """The networks' output for one photograph, on its own pixels.

    Attributes
    ----------
    confidence : (H, W) float32, probability of skin, before edges and threshold.
    mask : (H, W) bool, the final mask.
    """

    confidence: NDArray[np.float32]
    mask: NDArray[np.bool_]


class Estimate(BaseModel):
    """A figure with its 95 % bootstrap interval over images; None for a single image."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None
    high: float | None


class Summary(BaseModel):
    """Scores of one network in one scenario, over the test photographs."""

    model_config = ConfigDict(frozen=True)

    images: int
    jaccard: Estimate
    jaccard_pooled: Estimate
    dice: Estimate


def score_photos(
    networks: Sequence[nn.Module],
    photos: Iterable[Photo],
    settings: ReadSettings,
    device: torch.device | None = None,
    *,
    flips: bool = False,
    skin: SkinSettings = PLAIN,
) -> list[PhotoScore]:
    """Compare predicted with traced masks at each photograph's own size.

    Parameters
    ----------
    networks : one, or several whose probabilities are averaged.
    device : the networks' device; None: the CPU.
    flips : whether to average over the mirrored photograph as well.
    skin : how the mask is made from the probability map.

    Raises
    ------
    ImageError, LabelError
        If a file cannot be read, a mask does not fit, or a probability map is not finite.
    """
    scores = []
    for photo in photos:
        image = read_image(photo.image, settings).pixels
        truth = read_skin(photo.mask, photo.coding, settings)
        check_same_size(photo, image.shape[:2], truth.shape)
        try:
            found = look(networks, image, device, flips=flips, skin=skin).mask
        except NotFiniteError:
            raise ImageError(
                f"{photo.image}: the network's output is not finite, so its training failed: train "
                "again with a lower train.learning_rate"
            ) from None
        tone = measure_tone(image, truth)
        scores.append(
            PhotoScore(
                name=photo.name,
                md5=photo.md5,
                pixels=truth.size,
                skin=int(truth.sum()),
                predicted=int(found.sum()),
                both=int((truth & found).sum()),
                lightness=tone.lightness,
                ita_deg=tone.ita_deg,
            )
        )
    return scores


def look(
    networks: Sequence[nn.Module],
    image: NDArray[np.uint8],
    device: torch.device | None = None,
    *,
    flips: bool = False,
    skin: SkinSettings = PLAIN,
) -> Look:
    """Predict the skin in an (H, W, 3) photograph, as a bundle does."""
    how = FLIPPED if flips else WHOLE
    stage = StageModel(tuple(networks), None, how, device or torch.device("cpu"))
    confidence = stage.map(image)
    return Look(confidence, find_skin(image, confidence, skin).mask)


def summarise(scores: Sequence[PhotoScore], resamples: int, seed: int) -> Summary:
    """Return means over images, and the Jaccard over all pixels together, with intervals.

    The intervals are from the percentile bootstrap over images (Efron, 1979).
    """
    both, either, dices = (_column(scores, name) for name in ("both", "either", "dice"))
    return Summary(
        images=len(scores),
        jaccard=mean_jaccard(scores, resamples, seed),
        jaccard_pooled=_estimate((both, either), _pooled, resamples, seed),
        dice=_estimate((dices,), np.mean, resamples, seed),
    )


def mean_jaccard(scores: Sequence[PhotoScore], resamples: int, seed: int) -> Estimate:
    """Return the mean Jaccard over images with its interval, as in :func:`summarise`."""
    return _estimate((_column(scores, "jaccard"),), np.mean, resamples, seed)


def _column(scores: Sequence[PhotoScore], name: str) -> NDArray[np.float64]:
    return np.array([getattr(score, name) for score in scores], np.float64)


def _pooled(both: NDArray[Any], either: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    union = either.sum(axis)
    return np.where(union > 0, both.sum(axis) / np.maximum(union, 1), 1.0)


def _estimate(
    data: tuple[NDArray[Any], ...], of: Callable[..., Any], resamples: int, seed: int
) -> Estimate:
    value = float(of(*data, axis=-1))
    if len(data[0]) < 2:
        return Estimate(value=value, low=None, high=None)
    found = bootstrap(
        data, of, paired=True, vectorized=True, n_resamples=resamples, batch=500,
        method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Estimate(value=value, low=float(found.low), high=float(found.high))
