"""What the service measures while it runs."""

from __future__ import annotations


class Meter:
    """Takes measurements and keeps none; subclasses pass them on.

    Calls come from the event loop and must not block.
    """

    def request(self, route: str, status: int, seconds: float) -> None:
        """Take a finished request: its route as OpenAPI names it, and how it ended."""

    def error(self, reason: str) -> None:
        """Take an error response, by the reason code of its problem report."""

    def stage(self, stage: str, seconds: float) -> None:
        """Take the time of one stage of a request: ``decode``, ``answer`` or ``map``."""

    def load(self, in_flight: int, queued: int) -> None:
        """Take how many requests are in progress and how many wait, after every change."""

    def image(self, pixels: int) -> None:
        """Take an image that is about to be processed, by its number of pixels."""

    def counted(self, count: int) -> None:
        """Take the count of one image: its distribution shows drift in the images sent."""

    async def exposition(self) -> str:
        """Return all that was measured, as Prometheus reads it; one that keeps nothing, nothing."""
        return ""

    def covered(self, skin_fraction: float) -> None:
        """Take the share of one photograph that is skin, for the same reason."""
