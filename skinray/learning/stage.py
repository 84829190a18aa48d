"""One stage of a bundle: its networks, and how they see an image."""

from __future__ import annotations

from collections.abc import Sequence
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
        """Return the probability map of one image, (H, W) float32; see :meth:`maps`."""
        result: NDArray[np.float32] = self.maps([image], um_per_px)[0]
        return result

    def maps(
        self, images: Sequence[NDArray[np.uint8]], um_per_px: float | None = None
    ) -> NDArray[np.float32]:
        """Return the probability maps of images, (N, H, W) float32 on their own pixels.

        Parameters
        ----------
        images : N of (H, W, 3) uint8, RGB, all of one size. They share the networks' passes, so
            that a map may differ from the one of its image alone by
            :data:`skinray.learning.predict.STACK_TOLERANCE`.
        um_per_px : the scale of all of them, if known; at another scale than the training's they
            are resampled for the networks, and the maps brought back.

        Raises
        ------
        ImageError
            If an array is no RGB image of bytes.
        """
        total = None
        for network in self.networks:
            values = predict_at_scale(
                network, images, um_per_px, self.um_per_px, self.device, self.settings
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
