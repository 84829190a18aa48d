"""One labelled image in memory: what augmentation takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """An image and its two masks on one pixel grid.

    Attributes
    ----------
    image : (H, W, 3) uint8, RGB.
    nerve : (H, W) uint8, 1 on a traced nerve.
    dermis : (H, W) uint8, 1 in the dermis; in photographs, 1 on skin.
    """

    image: NDArray[np.uint8]
    nerve: NDArray[np.uint8]
    dermis: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[:2]
        return int(height), int(width)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the three arrays by name, for a table row."""
        return {"image": self.image, "nerve": self.nerve, "dermis": self.dermis}
