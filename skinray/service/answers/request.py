"""What a client wants from one image, and what every answer has in common.

A :class:`Want` travels to the last stage, in whichever process that runs, and turns the networks'
maps into an :class:`Answer`. Pictures in an answer are PNG files: bytes in Python, base64 in JSON.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, PlainSerializer

from skinray.config.kinds import Kind, Stage
from skinray.learning.bundle import Maps
from skinray.learning.bundle.info import BundleInfo
from skinray.service.metrics import Meter

# The thresholds of a sweep.
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


class Answer(Protocol):
    """What one image gave; a pydantic model whose JSON is the HTTP answer."""

    def measure(self, meter: Meter) -> None:
        """Report the result to the meter."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of the Open Inference model of the whole image, by name."""


AnswerT = TypeVar("AnswerT", bound=Answer, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Want(ABC, Generic[AnswerT]):
    """A wish, and the last stage that fulfils it. It is sent between processes as it is.

    Attributes
    ----------
    kind : of the bundles that can fulfil it.
    image_sha256 : of the file that was sent, for the answer to repeat; empty: there was no file.
    """

    kind: ClassVar[Kind]
    image_sha256: str = ""

    def about(self, image: NDArray[np.uint8], sha256: str = "") -> Self:
        """Return the wish for an image, (H, W, 3) uint8 RGB, and the hash of its file, if any."""
        return replace(self, image_sha256=sha256)

    @property
    @abstractmethod
    def pixels(self) -> bool:
        """Whether the image itself is needed, in addition to its maps."""

    @abstractmethod
    def thresholds(self, info: BundleInfo) -> dict[Stage, float]:
        """Return the stages for which a mask above this threshold is enough, not the whole map."""

    @abstractmethod
    def answer(
        self,
        info: BundleInfo,
        image: NDArray[np.uint8] | None,
        maps: Maps,
        um_per_px: float | None,
        backend: str,
    ) -> AnswerT:
        """Return what is wanted. Pure: can run in any process.

        Parameters
        ----------
        info : of the bundle that made the maps.
        image : (H, W, 3) uint8 RGB; None is allowed where ``pixels`` is False.
        maps : of each stage, (H, W) float32, probability, on the image's own pixels; (H, W) uint8
            masks of where it is above the threshold, for those that ``thresholds`` names.
        um_per_px : scale of the image; None: unknown.
        backend : what computed the maps, for the answer to repeat.

        Raises
        ------
        SkinrayError
            If a map is no probability map, or does not have the image's size.
        """


def _as_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


Png = Annotated[bytes, PlainSerializer(_as_text, return_type=str, when_used="json")]
_PNG_SCHEMA: dict[str, JsonValue] = {"contentEncoding": "base64", "contentMediaType": "image/png"}


def png_field(description: str) -> Any:
    """Return the field of an optional picture: ``Png | None``, None unless asked for."""
    return Field(None, description=description, json_schema_extra=_PNG_SCHEMA)


def to_grey(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a probability map as (H, W) uint8, 255 for 1."""
    return np.asarray(np.rint(probability * np.float32(255)), np.uint8)
