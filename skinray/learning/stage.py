"""One stage of a bundle: its networks, and how they see an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skinray.config import PredictSettings
from skinray.learning.predict import predict_at_scale

PROBE_PX = 64


@dataclass(frozen=True)
class StageModel:
    """The networks of one stage, nerve or dermis.

    Attributes
    ----------
    networks : one, or the folds' as an ensemble, whose mean probability is the map.
    um_per_px : the scale they were trained at; None: unknown.
    settings : from which size on an image goes through them in tiles.
    device : where they lie.
    """

    networks: tuple[nn.Module, ...]
    um_per_px: float | None
    settings: PredictSettings
    device: torch.device

    def map(self, image: NDArray[np.uint8], um_per_px: float | None = None) -> NDArray[np.float32]:
        """Return the probability map of one image, (H, W) float32 on its own pixels.

        Parameters
        ----------
        image : (H, W, 3) uint8, RGB.
        um_per_px : the image's scale, if known; at another scale than the training's it is
            resampled for the networks, and the map brought back.

        Raises
        ------
        ImageError
            If the array is no RGB image of bytes.
        """
        total = None
        for network in self.networks:
            values = predict_at_scale(
                network, image, um_per_px, self.um_per_px, self.device, self.settings
            )
            total = values if total is None else total + values
        assert total is not None  # noqa: S101 - a stage has at least one network
        if len(self.networks) == 1:
            return total
        return np.asarray(total / np.float32(len(self.networks)), np.float32)

    def answers(self) -> bool:
        """Say whether the networks give finite probabilities of a small grey image."""
        grey = np.full((PROBE_PX, PROBE_PX, 3), 128, np.uint8)
        return bool(np.isfinite(self.map(grey)).all())
