"""The service's measurements as Ray metrics, which each node exports to Prometheus."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterable

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from skinray.errors import NotReadyError
from skinray.service.metrics import Meter

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
FRACTIONS = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
COUNTS = [0.5, 1.5, 2.5, 5.5, 10.5, 15.5, 20.5, 30.5, 50.5, 100.5]


OURS = "ray_skinray_"
READ_S = 5.0


class RayMeter(Meter):
    """Passes measurements to Ray; in Prometheus the names are prefixed with ``ray_``.

    Create it inside a replica: Ray adds the replica's name to every value.
    """

    def __init__(self) -> None:
        self._requests = Counter(
            "skinray_requests", "requests answered", tag_keys=("route", "status")
        )
        self._seconds = Histogram(
            "skinray_request_seconds", "time of a request", SECONDS, tag_keys=("route",)
        )
        self._errors = Counter("skinray_errors", "error responses", tag_keys=("reason",))
        self._stages = Histogram(
            "skinray_stage_seconds", "time of a stage", SECONDS, tag_keys=("stage",)
        )
        self._in_flight = Gauge("skinray_in_flight", "requests in progress")
        self._queued = Gauge("skinray_queued", "requests waiting")
        self._images = Counter("skinray_images", "images accepted for processing")
        self._pixels = Counter("skinray_pixels", "pixels of those images")
        self._counts = Histogram("skinray_count", "crossings per image", COUNTS)
        self._fractions = Histogram(
            "skinray_skin_fraction", "share of a photograph that is skin", FRACTIONS
        )
        self._bundles = Counter("skinray_bundle_changes", "bundles named", tag_keys=("outcome",))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Take a finished request."""
        self._requests.inc(1, {"route": route, "status": str(status)})
        self._seconds.observe(seconds, {"route": route})

    def error(self, reason: str) -> None:
        """Take an error response."""
        self._errors.inc(1, {"reason": reason})

    def stage(self, stage: str, seconds: float) -> None:
        """Take the time of one stage of a request."""
        self._stages.observe(seconds, {"stage": stage})

    def load(self, in_flight: int, queued: int) -> None:
        """Take how many requests are in progress and how many wait."""
        self._in_flight.set(in_flight)
        self._queued.set(queued)

    def image(self, pixels: int) -> None:
        """Take an image that is about to be processed."""
        self._images.inc(1)
        self._pixels.inc(pixels)

    def counted(self, count: int) -> None:
        """Take the count of one image."""
        self._counts.observe(count)

    def covered(self, skin_fraction: float) -> None:
        """Take the share of one photograph that is skin."""
        self._fractions.observe(skin_fraction)

    def bundle(self, outcome: str) -> None:
        """Take a bundle that was named to the service: ``taken`` or ``refused``."""
        self._bundles.inc(1, {"outcome": outcome})

    async def exposition(self) -> str:
        """Return skinray's measurements on all nodes; NotReadyError if a node does not give them.

        Each node gathers them every ten seconds.
        """
        return merged(await asyncio.to_thread(_of_nodes))


def _of_nodes() -> list[str]:
    """Read the metrics port of every node; Ray opens it to those who reach it, without a token."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy in between
    found = []
    for node in nodes:
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        try:
            with straight.open(address, timeout=READ_S) as answer:
                found.append(answer.read().decode())
        except (OSError, ValueError) as error:
            raise NotReadyError(f"a node's metrics cannot be read: {error}") from None
    return found


def merged(pages: Iterable[str]) -> str:
    """Join the nodes' texts into one: each metric of skinray once, with the values of all nodes."""
    about: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for page in pages:
        name = ""
        for line in page.splitlines():
            if line.startswith("#"):
                name = line.split(" ", 3)[2]
                lines = about.setdefault(name, [])
                if line not in lines:
                    lines.append(line)
            else:
                values.setdefault(name, []).append(line)
    ours = [name for name in about if name.startswith(OURS) and name in values]
    return "".join(f"{line}\n" for name in ours for line in (*about[name], *values[name]))
