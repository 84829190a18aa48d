"""What an actor does that augments for a training. No torch in it: the actor starts sooner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from skinray.cluster.train.sources import Source
from skinray.learning.crops import CropMaker, PlanRow
from skinray.learning.spec import TrialSpec

COLUMNS = ("epoch", "image", "repeat")


class Augmenter:
    """Turns plan rows into crops; one lives in each actor of the pool."""

    def __init__(self, spec: TrialSpec, source: Source) -> None:
        self.maker = CropMaker(spec, source)

    def __call__(self, block: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the rows with ``pixels`` (n, S, S, 3) and ``mask`` (n, S, S), uint8."""
        pixels, mask = self.maker.stacked([*rows_of(block)])
        return {**{name: block[name] for name in COLUMNS}, "pixels": pixels, "mask": mask}


def rows_of(block: dict[str, NDArray[Any]]) -> Iterator[PlanRow]:
    """Yield the plan's rows that a block holds."""
    columns = (block[name].tolist() for name in COLUMNS)
    return (PlanRow(*values) for values in zip(*columns, strict=True))
