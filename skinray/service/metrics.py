"""What the service tells of itself while it runs; who listens is decided from outside."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Takes measurements of the service. Calls come from the event loop and must not block."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Take a finished request: its route as the OpenAPI names it, and how it ended."""

    def error(self, reason: str) -> None:
        """Take an error answered, by the reason code of its problem report."""

    def stage(self, stage: str, seconds: float) -> None:
        """Take the time of one stage of a request: ``decode``, ``answer`` or ``map``."""

    def load(self, in_flight: int, queued: int) -> None:
        """Take how many requests are worked on and how many wait, after every change."""

    def image(self, pixels: int) -> None:
        """Take an image that is going to be judged, by its number of pixels."""

    def counted(self, count: int) -> None:
        """Take the count of one image: the distribution shows a drift of what comes in."""

    def covered(self, skin_fraction: float) -> None:
        """Take the share of one photograph that is skin, for the same reason."""


class NoMeter:
    """Listens to nothing."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Do nothing."""

    def error(self, reason: str) -> None:
        """Do nothing."""

    def stage(self, stage: str, seconds: float) -> None:
        """Do nothing."""

    def load(self, in_flight: int, queued: int) -> None:
        """Do nothing."""

    def image(self, pixels: int) -> None:
        """Do nothing."""

    def counted(self, count: int) -> None:
        """Do nothing."""

    def covered(self, skin_fraction: float) -> None:
        """Do nothing."""
