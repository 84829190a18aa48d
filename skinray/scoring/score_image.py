"""Score one listed image: read, decode, count, write its files; it always gives a row.

Workers call ``Job.open``, then the networks, then ``Job.finish``, in one process or in several. The
networks and the crossings are the bundle's own, so counts are those of :meth:`Bundle.predict`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skinray.config.scoring import ScoreSettings
from skinray.crossings.density import to_mm
from skinray.errors import BundleError, StorageError
from skinray.images.cohort.common_scale import refuse_too_large
from skinray.images.read import decode_image
from skinray.learning.bundle.info import BundleInfo, read_info
from skinray.scoring.entries import Entry, from_rows
from skinray.scoring.image_store import Store, open_store
from skinray.scoring.kinds import SCORED_KINDS, ScoredKind
from skinray.scoring.rows import Scored, content_key, log_computed, reason_of
from skinray.scoring.run_store import Output

if TYPE_CHECKING:
    from skinray.learning.bundle import Maps
    from skinray.learning.bundle.networks import Seen

# Who computes a content: this image, another one, or no image any more.
Turn = Literal["mine", "same", "deadly"]
# Asked with a content's key and an image's name.
Ask = Callable[[str, str], Turn]
DEADLY = "its worker died at every attempt: check the image, or give workers more memory"
# Lists of what is still to do, a file for so many batches.
PENDING, BATCHES_PER_FILE = "pending", 128
# Images that are opened at most to compare backends on.
MOST_TRIED = 48


@dataclass(frozen=True)
class Opened:
    """A decoded image on its way through the stages.

    Attributes
    ----------
    image, identity, key, sha256 : as in :class:`Scored`.
    um_per_px : its scale, as given or from the file.
    pixels : (H, W, 3) uint8, RGB.
    """

    image: str
    identity: str
    key: str
    sha256: str
    um_per_px: float | None
    pixels: NDArray[np.uint8]

    def failed(self, error: Exception) -> Scored:
        """Return the row of an image that a later stage failed on."""
        return Scored(self.image, self.identity, self.key, self.sha256, "failed", reason_of(error))


@dataclass(frozen=True)
class Job:
    """What every worker of a scoring run needs to know; it travels between machines.

    Attributes
    ----------
    images : folder, pattern, manifest or address.
    bundle : the bundle's folder; ``info`` is its ``bundle.json``.
    out : the run.
    settings : what decides results, and how the work is spread.
    long : there are so many images that it pays to compare backends first.
    """

    images: str
    bundle: str
    info: BundleInfo
    out: Output
    settings: ScoreSettings
    long: bool = False

    @property
    def kind(self) -> ScoredKind:
        """What scoring finds in such images and leaves of them."""
        return SCORED_KINDS[self.info.kind]

    @cached_property
    def store(self) -> Store:
        """Where the images are; opened in each process that reads them."""
        return open_store(self.images)[0]

    def check_bundle(self) -> None:
        """Raise BundleError if the bundle is not the one that the run began with."""
        if read_info(Path(self.bundle)).id != self.info.id:
            raise BundleError(f"{self.bundle}: replaced during the run; start the run again")

    def first(self) -> Iterator[Seen]:
        """Read pending images one after the other, to compare backends on; few if none opens."""
        batches = -(-MOST_TRIED // self.settings.images_per_part)
        entries = (entry for batch in range(batches) for entry in self.entries(batch))
        for entry in islice(entries, MOST_TRIED):
            opened = self.open(entry, lambda key, image: "mine")
            if isinstance(opened, Opened):
                yield opened.pixels, opened.um_per_px

    def entries(self, batch: int) -> list[Entry]:
        """Return the entries of one batch of the pending images."""
        size = self.settings.images_per_part
        file, at = divmod(batch, BATCHES_PER_FILE)
        data = io.BytesIO(self.out.read(f"{PENDING}/{file:06d}.parquet"))
        table = pq.read_table(data, partitioning=None)
        return list(from_rows(table.slice(at * size, size).to_pylist()))

    def open(self, entry: Entry, ask: Ask) -> Opened | Scored:
        """Read and decode an image; its row at once if that fails or its content is taken.

        ``ask`` is called before anything is decoded.
        """
        settings, store = self.settings, self.store
        image, version = entry.image, entry.identity
        try:
            data = store.read(entry.path, settings.read)
        except StorageError:
            raise  # the whole store is away, which is not the image's fault
        except Exception as error:  # whatever it is, it is this image's row
            return Scored(image, version, None, None, "failed", reason_of(error))
        given = entry.um_per_px if settings.um_per_px is None else settings.um_per_px
        sha256 = hashlib.sha256(data).hexdigest()
        key = content_key(sha256, given)
        turn = ask(key, image)
        if turn == "same":
            return Scored(image, version, key, sha256, "same")
        if turn == "deadly":
            return Scored(image, version, key, sha256, "failed", DEADLY)
        try:
            found = decode_image(data, image, settings.read)
            um_per_px = found.um_per_px if given is None else given
            to_mm(0, um_per_px)
            most = settings.read.max_pixels
            refuse_too_large(found.pixels.shape, um_per_px, self.info.um_per_px, most)
        except Exception as error:  # whatever it is, it is this image's row
            return Scored(image, version, key, sha256, "failed", reason_of(error))
        return Opened(image, version, key, sha256, um_per_px, found.pixels)

    def finish(self, opened: Opened, maps: Maps, backend: str) -> Scored:
        """Count the crossings, or find the skin, on an image's maps and write its files.

        Parameters
        ----------
        maps : of each stage, (H, W) float32, probability.
        backend : what computed them.
        """
        try:
            result, draw = self.kind.find(self.info, maps, opened.pixels, opened.um_per_px)
            if self.settings.overlays:
                self.kind.write_files(self.out, opened.image, draw())
        except (OSError, StorageError):
            raise  # a full disk is not the image's fault
        except Exception as error:  # whatever it is, it is this image's row
            return opened.failed(error)
        log_computed(self.out, opened.image)
        known = (opened.image, opened.identity, opened.key, opened.sha256)
        return Scored(*known, "ok", None, result, backend)
