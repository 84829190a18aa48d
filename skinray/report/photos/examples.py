"""Best, median and worst test photograph: the network's skin and confidence, the traced skin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skinray.config.images import ReadSettings
from skinray.images.photos.labels import read_skin
from skinray.images.photos.pairs import Photo
from skinray.images.read import read_image
from skinray.learning.photos.scores import Look, PhotoScore
from skinray.report.charts import Rank, ranks
from skinray.scoring.overlays import BOUNDARY, NERVE, encode_jpeg, skin_overlay

EXAMPLES = "examples"
WIDTH = 480
FOUND, TRACED = NERVE, BOUNDARY  # on every page blue is the network's, green is traced


class PhotoExample(BaseModel):
    """Three drawings of one photograph, paths relative to the run folder.

    ``found`` and ``traced`` outline the skin; ``confidence`` is the network's raw confidence in
    grey, empty if a run did not draw it.
    """

    model_config = ConfigDict(frozen=True)

    rank: Rank
    name: str
    jaccard: float
    found: str
    traced: str
    confidence: str = ""


def pick(scores: Sequence[PhotoScore]) -> list[tuple[Rank, int]]:
    """Return rank and position of the best, median and worst; of fewer than three, each once."""
    order = sorted(range(len(scores)), key=lambda at: (-scores[at].jaccard, scores[at].md5))
    return [(rank, order[place]) for rank, place in ranks(len(order))]


def write_examples(
    run_dir: Path,
    key: str,
    photos: Sequence[Photo],
    scores: Sequence[PhotoScore],
    predict: Callable[[NDArray[np.uint8]], Look],
    settings: ReadSettings,
) -> list[PhotoExample]:
    """Draw the chosen photographs into the run folder.

    Parameters
    ----------
    key : of the trial; part of the file names.
    photos, scores : of the same photographs, in the same order.
    predict : returns a network's output for an (H, W, 3) photograph.
    """
    (run_dir / EXAMPLES).mkdir(parents=True, exist_ok=True)
    drawn = []
    for rank, at in pick(scores):
        image = read_image(photos[at].image, settings).pixels
        traced = read_skin(photos[at].mask, photos[at].coding, settings)
        seen = predict(image)
        names = {}
        for kind, drawing in (
            ("found", draw_skin(image, seen.mask, FOUND)),
            ("traced", draw_skin(image, traced, TRACED)),
            ("confidence", draw_confidence(seen.confidence)),
        ):
            names[kind] = f"{EXAMPLES}/{key}-{rank.lower()}-{kind}.jpg"
            (run_dir / names[kind]).write_bytes(encode_jpeg(drawing))
        score = scores[at]
        drawn.append(PhotoExample(rank=rank, name=score.name, jaccard=score.jaccard, **names))
    return drawn


def draw_skin(
    image: NDArray[np.uint8], skin: NDArray[np.bool_], colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return the photograph made small, its skin outlined and everything else darkened.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB; not changed.
    skin : (H, W) bool, pixels of the image.
    colour : RGB of the outline.
    """
    small = _small(image).astype(np.uint8)
    return skin_overlay(small, _small(skin.astype(np.float32)) >= 0.5, colour)


def draw_confidence(confidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a network's confidence, made small, as in the paper's figure 3.

    Parameters
    ----------
    confidence : (H, W) float32 in 0..1.

    Returns
    -------
    (h, w) uint8: 0 is 0 %, 255 is 100 %.
    """
    return np.asarray(np.rint(255 * _small(confidence).clip(0, 1)), np.uint8)


def _small(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W) or (H, W, 3) pixels, at most ``WIDTH`` wide."""
    height, width = pixels.shape[:2]
    size = (min(width, WIDTH), max(1, round(height * min(width, WIDTH) / width)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
