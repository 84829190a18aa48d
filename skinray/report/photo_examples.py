"""Best, median and worst test photograph: the network's skin beside the traced one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skinray.config import ReadSettings
from skinray.images.photos import Photo
from skinray.images.read import read_image
from skinray.images.skin_labels import read_skin
from skinray.learning.photo_scores import PhotoScore
from skinray.report.overlays import BOUNDARY, NERVE, encode_jpeg, skin_overlay
from skinray.report.shown import Rank, ranks

EXAMPLES = "examples"
WIDTH = 480
FOUND, TRACED = NERVE, BOUNDARY  # blue is the network's on every page, green what was traced

Mask = NDArray[np.bool_]


class PhotoExample(BaseModel):
    """Two drawings of one photograph, paths relative to the run folder."""

    model_config = ConfigDict(frozen=True)

    rank: Rank
    name: str
    jaccard: float
    found: str
    traced: str


def pick(scores: Sequence[PhotoScore]) -> list[tuple[Rank, int]]:
    """Return rank and position of best, median and worst; of fewer than three, each once."""
    order = sorted(range(len(scores)), key=lambda at: (-scores[at].jaccard, scores[at].md5))
    return [(rank, order[place]) for rank, place in ranks(len(order))]


def write_examples(
    run_dir: Path,
    key: str,
    photos: Sequence[Photo],
    scores: Sequence[PhotoScore],
    predict: Callable[[NDArray[np.uint8]], Mask],
    settings: ReadSettings,
) -> list[PhotoExample]:
    """Draw the chosen photographs into the run folder.

    Parameters
    ----------
    key : names the files; the trial's own.
    photos, scores : of the same photographs, in one order.
    predict : returns the (H, W) skin that a network finds in an (H, W, 3) photograph.
    """
    (run_dir / EXAMPLES).mkdir(parents=True, exist_ok=True)
    drawn = []
    for rank, at in pick(scores):
        image = read_image(photos[at].image, settings).pixels
        traced = read_skin(photos[at].mask, photos[at].coding, settings)
        names = {}
        for kind, mask, colour in (
            ("found", predict(image), FOUND),
            ("traced", traced, TRACED),
        ):
            names[kind] = f"{EXAMPLES}/{key}-{rank.lower()}-{kind}.jpg"
            (run_dir / names[kind]).write_bytes(encode_jpeg(draw_skin(image, mask, colour)))
        score = scores[at]
        drawn.append(PhotoExample(rank=rank, name=score.name, jaccard=score.jaccard, **names))
    return drawn


def draw_skin(
    image: NDArray[np.uint8], skin: Mask, colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Return the photograph, made small, its skin outlined and all else in the shade.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB; left as it is.
    skin : (H, W) bool, on its pixels.
    colour : RGB of the outline.
    """
    height, width = skin.shape
    size = (min(width, WIDTH), max(1, round(height * min(width, WIDTH) / width)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    share = cv2.resize(skin.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    inside = np.asarray(share) >= 0.5
    return skin_overlay(small, inside, colour)
