"""Where trainings get their images and crops: the object store, or the disk each time.

No torch in it, so that the actors that augment start sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from skinray.config.training import ClusterSettings
from skinray.images.augment import Sample
from skinray.learning.crops import CropMaker, PlanRow
from skinray.learning.spec import TrialSpec

T = TypeVar("T")
COLUMNS = ("epoch", "image", "repeat")
# Share of the object store that decoded images may fill.
STORE_SHARE = 0.5
# A decoded image that does not arrive in this time was lost with its node. Ray decodes it again
# once a CPU is free: that may be never if those who wait for it hold all CPUs.
PATIENCE_S = 10.0
# After the first loss.
SHORT_PATIENCE_S = 0.5


class Source(Sequence[Sample]):
    """A cohort's samples by position.

    Parameters
    ----------
    labelled : the biopsies or photographs.
    reader : reads and decodes one of them.
    refs : the decoded samples in the object store, seen without a copy; a sample that is lost
        with its node is read from the disk. Empty: every access reads from the disk.
    """

    def __init__(
        self,
        labelled: Sequence[T],
        reader: Callable[[T], Sample],
        refs: Sequence[Any] = (),
    ) -> None:
        self.labelled: tuple[Any, ...] = tuple(labelled)
        self.reader: Callable[[Any], Sample] = reader
        self.refs = tuple(refs)
        self.lost: set[int] = set()

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, at: Any) -> Any:
        """Return the sample at a position, or those of a slice; IndexError beyond the end."""
        places = range(len(self))[at]
        return self._sample(places) if isinstance(places, int) else [*map(self._sample, places)]

    def _sample(self, at: int) -> Sample:
        if self.refs and at not in self.lost:
            patience = SHORT_PATIENCE_S if self.lost else PATIENCE_S
            try:
                found: Sample = ray.get(self.refs[at], timeout=patience)
            except RayError:  # also an error of decoding, which the reader raises again itself
                self.lost.add(at)
            else:
                return found
        return self.reader(self.labelled[at])


def open_source(
    labelled: Sequence[T],
    reader: Callable[[T], Sample],
    settings: ClusterSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Decode all images into the object store if they fit there, else read them from the disk.

    Parameters
    ----------
    labelled : the biopsies or photographs.
    reader : reads one of them; sent to the workers.
    """
    disk = Source(labelled, reader)
    if settings.decoded_cache == "disk" or not labelled:
        return disk
    if settings.decoded_cache == "auto":
        room = ray.cluster_resources().get("object_store_memory", 0) * STORE_SHARE
        if disk[0].nbytes * len(labelled) > room:
            return disk
    decode = ray.remote(num_cpus=1)(_decode)
    refs = [decode.remote(reader, each) for each in labelled]
    for done in range(1, len(refs) + 1):
        ray.wait(refs, num_returns=done, fetch_local=False)
        if progress is not None:
            progress(done, len(refs))
    return Source(labelled, reader, refs)


def _decode(reader: Callable[[T], Sample], labelled: T) -> Sample:
    return reader(labelled)


class Augmenter:
    """Turns rows of the plan into crops; each actor of a pool holds one."""

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
