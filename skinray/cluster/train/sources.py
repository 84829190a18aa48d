"""Where trials get decoded images from: the object store, or the disk each time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import ray
from ray.exceptions import RayError

from skinray.config.training import ClusterSettings
from skinray.images.augment import Sample

T = TypeVar("T")
# Share of the object store that decoded images may fill.
STORE_SHARE = 0.5
# A decoded image that does not come in this time went with its node: Ray decodes it again when a
# CPU is free, which may be never while those who wait for it hold them all.
PATIENCE_S = 10.0
# After a first such loss.
SHORT_PATIENCE_S = 0.5


class Source(Sequence[Sample], ABC):
    """A cohort's samples by position."""

    @abstractmethod
    def sample(self, at: int) -> Sample:
        """Return one sample; ``at`` is in range."""

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Sample]: ...
    def __getitem__(self, at: int | slice) -> Sample | Sequence[Sample]:
        """Return the sample at a position, or those of a part; IndexError beyond the end."""
        places = range(len(self))[at]
        return self.sample(places) if isinstance(places, int) else [*map(self.sample, places)]


class DiskSource(Source):
    """Images read and decoded at each access: for cohorts larger than the object store."""

    def __init__(self, labelled: Sequence[T], reader: Callable[[T], Sample]) -> None:
        self.labelled: tuple[Any, ...] = tuple(labelled)
        self.reader: Callable[[Any], Sample] = reader

    def __len__(self) -> int:
        return len(self.labelled)

    def sample(self, at: int) -> Sample:
        """Read one sample."""
        return self.reader(self.labelled[at])


class StoreSource(Source):
    """Images decoded once, held in the object store and seen without a copy.

    Those that are lost with a node are read from the disk instead.
    """

    def __init__(self, refs: Sequence[Any], disk: DiskSource) -> None:
        self.refs = tuple(refs)
        self.disk = disk
        self.lost: set[int] = set()

    def __len__(self) -> int:
        return len(self.refs)

    def sample(self, at: int) -> Sample:
        """Look one sample up."""
        if at in self.lost:
            return self.disk[at]
        try:
            found: Sample = ray.get(
                self.refs[at], timeout=SHORT_PATIENCE_S if self.lost else PATIENCE_S
            )
        except RayError:  # also what decoding raised, which reading raises again as it is
            self.lost.add(at)
            return self.disk[at]
        return found


def open_source(
    labelled: Sequence[T],
    reader: Callable[[T], Sample],
    settings: ClusterSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Decode all images into the object store if they fit there, else read from disk.

    Parameters
    ----------
    labelled : biopsies or photographs.
    reader : reads one of them; sent to the workers.
    """
    disk = DiskSource(labelled, reader)
    if settings.decoded_cache == "disk" or not labelled:
        return disk
    if settings.decoded_cache == "auto":
        first = disk[0]
        bytes_each = first.nbytes
        room = ray.cluster_resources().get("object_store_memory", 0) * STORE_SHARE
        if bytes_each * len(labelled) > room:
            return disk
    decode = ray.remote(num_cpus=1)(_decode)
    refs = [decode.remote(reader, each) for each in labelled]
    for done in range(1, len(refs) + 1):
        ray.wait(refs, num_returns=done, fetch_local=False)
        if progress is not None:
            progress(done, len(refs))
    return StoreSource(refs, disk)


def _decode(reader: Callable[[T], Sample], labelled: T) -> Sample:
    return reader(labelled)
