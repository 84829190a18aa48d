"""Who computes which content, so that the same bytes are computed once under any name.

One actor answers some thousand questions a second and remembers every content; on large clusters
several actors share the contents.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import ray

from skinray.scoring.run_folder import KEYS
from skinray.scoring.run_store import Output
from skinray.scoring.score_image import Turn

MOST_DEATHS = 8
# Two questions an image from nodes of some 170 images/s: under half of what one actor answers.
NODES_PER_ACTOR = 4


class Claims:
    """One actor's share of the contents.

    A claim is never given up: an image that is tried again after its worker's death gets it back.
    If this actor dies, contents may be computed twice, with the same result.

    Parameters
    ----------
    out : the run; a file in it lists the contents that have a result.
    number, of : which share this is, out of how many.
    """

    def __init__(self, out: Output, number: int = 0, of: int = 1) -> None:
        try:
            lines = out.read(KEYS).decode().splitlines()
        except FileNotFoundError:
            lines = []
        self.holders: dict[str, str] = {key: "" for key in lines if _share(key, of) == number}
        self.begun: Counter[str] = Counter()

    def ask(self, key: str, image: str) -> Turn:
        """Say whose turn a content is."""
        if self.holders.setdefault(key, image) != image:
            return "same"
        self.begun[image] += 1
        return "mine" if self.begun[image] <= MOST_DEATHS else "deadly"

    def ended(self, image: str) -> None:
        """Note that an image did not kill its worker."""
        self.begun.pop(image, None)


@dataclass(frozen=True)
class ClaimActors:
    """All shares, each in its own actor."""

    actors: tuple[Any, ...]

    @classmethod
    def start(cls, out: Output, nodes: int) -> ClaimActors:
        """Start as many as a cluster of this many nodes needs."""
        of = claim_actors(nodes)
        kind = ray.remote(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
        )(Claims)
        return cls(tuple(kind.remote(out, number, of) for number in range(of)))

    def ask(self, key: str, image: str) -> Turn:
        """Say whose turn a content is."""
        turn: Turn = ray.get(self._holder(key).ask.remote(key, image))
        return turn

    def ended(self, key: str | None, image: str) -> None:
        """Note that an image did not kill its worker; without a key it asked nothing."""
        if key is not None:
            self._holder(key).ended.remote(image)

    def _holder(self, key: str) -> Any:
        return self.actors[_share(key, len(self.actors))]


def claim_actors(nodes: int) -> int:
    """Return how many actors share the contents on this many nodes."""
    return -(-nodes // NODES_PER_ACTOR)


def _share(key: str, of: int) -> int:
    return zlib.crc32(key.encode()) % of
