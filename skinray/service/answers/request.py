"""What a client wants of one image: from the networks' maps to all that is sent back."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from skinray.config.kinds import Kind, Stage
from skinray.learning.bundle import Maps
from skinray.learning.bundle.info import BundleInfo

A = TypeVar("A")
# Of a sweep.
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


class Want(ABC, Generic[A]):
    """A wish, and the last stage that fulfils it. It goes from process to process as it is.

    Attributes
    ----------
    kind : of the bundles that can.
    """

    kind: ClassVar[Kind]

    @property
    @abstractmethod
    def pixels(self) -> bool:
        """Whether the image itself is needed, beside its maps."""

    @abstractmethod
    def thresholds(self, info: BundleInfo) -> dict[Stage, float]:
        """Return the stages of which a mask above this threshold will do as map."""

    @abstractmethod
    def answer(
        self,
        info: BundleInfo,
        image: NDArray[np.uint8] | None,
        maps: Maps,
        um_per_px: float | None,
    ) -> A:
        """Return what is wanted. Pure: can run in any process.

        Parameters
        ----------
        info : of the bundle that made the maps.
        image : (H, W, 3) uint8 RGB; None where ``pixels`` says that it is not needed.
        maps : of each stage, (H, W) float32, probability, on the image's own pixels; (H, W) uint8
            masks of where it is above the threshold, for those that ``thresholds`` names.
        um_per_px : scale of the image; None: unknown.

        Raises
        ------
        SkinrayError
            If a map is no probability map, or does not have the image's size.
        """


PNG_SCHEMA: dict[str, JsonValue] = {"contentEncoding": "base64", "contentMediaType": "image/png"}


def as_text(data: bytes | None) -> str | None:
    """Return a file as base64; None stays None."""
    return None if data is None else base64.b64encode(data).decode("ascii")


def to_grey(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a probability map as (H, W) uint8, 255 for 1."""
    return np.asarray(np.rint(probability * np.float32(255)), np.uint8)
