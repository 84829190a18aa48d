"""Doubts about photographs and their masks that a person should look at before a training."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.file_errors import counted
from skinray.images.photos.pairs import Photo
from skinray.images.read import Image

# Photographs from which the colours of marked and unmarked pixels say something, and the share of
# them that must agree. Skin is redder than what is around it in 90 and 99 of 100 photographs of two
# public sets, a lesion redder than the skin around it in 77.
FEWEST, MOST_REDDER = 8, 2 / 3
# Orientations (EXIF) that keep width and height.
SAME_SIDES = (2, 3, 4)
# Most files that a sentence names.
NAMED = 5


@dataclass
class PhotoDoubts:
    """Gathers doubts from photographs and masks, one pair after the other.

    Attributes
    ----------
    unmarked : names of the photographs whose masks mark no skin.
    """

    unmarked: list[str] = field(default_factory=list)
    _turned: list[str] = field(default_factory=list)
    _less_red: int = 0
    _compared: int = 0

    def add(self, photo: Photo, image: Image, mask: NDArray[np.bool_]) -> None:
        """Look at a photograph, and at its mask, (H, W) bool."""
        name = f"{photo.source}/{photo.name}"
        height, width = mask.shape
        if photo.coding == "no skin":
            return
        if image.orientation in SAME_SIDES or (image.orientation != 1 and height == width):
            self._turned.append(name)
        if not mask.any():
            self.unmarked.append(name)
        elif photo.coding == "mask" and not mask.all():
            red = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2YCrCb)[..., 1]
            self._compared += 1
            self._less_red += bool(red[mask].mean() < red[~mask].mean())

    def notes(self) -> list[str]:
        """Return a sentence for each kind of doubt but the unmarked photographs."""
        found = []
        if self._compared >= FEWEST and self._less_red > MOST_REDDER * self._compared:
            found.append(
                f"In {self._less_red} of {self._compared} photographs the marked area is less red "
                "than the rest. Are the masks inverted? Skin must be the brighter value."
            )
        if self._turned:
            more = f" and {len(self._turned) - NAMED} more" if len(self._turned) > NAMED else ""
            found.append(
                f"{counted(len(self._turned), 'photograph')} rotated or mirrored by EXIF data: "
                f"{', '.join(self._turned[:NAMED])}{more}. If the masks were drawn in a "
                "program that ignores EXIF, they have the right size but do not fit. Check a few."
            )
        return found
