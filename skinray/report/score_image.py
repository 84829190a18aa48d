"""Score one listed image: read, decode, predict, count, write its files; it always gives a row.

The stages of scoring call these functions one after the other, in one process or in several; the
networks and the crossings are the bundle's own, so counts are those of :meth:`Bundle.predict`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skinray.config import ScoreSettings
from skinray.crossings.density import to_mm
from skinray.errors import StorageError
from skinray.images.entry import Entry
from skinray.images.output import Output
from skinray.images.read import decode_image
from skinray.images.store import Store
from skinray.learning.bundle import Maps
from skinray.learning.bundle_info import BundleInfo
from skinray.learning.count import Count
from skinray.learning.score_parts import log_computed
from skinray.learning.scored import (
    Scored,
    content_key,
    identity,
    reason_of,
    refuse_too_large,
    sha256_of,
)
from skinray.learning.skin_area import SkinArea
from skinray.report.scored_files import biopsy_files, photo_files, write_files

# Whose turn it is to compute a content: this image's, another's, or nobody's any more.
Turn = Literal["mine", "same", "deadly"]
Ask = Callable[[str, str], Turn]
# Makes an image's files, by kind, where they are wanted.
Draw = Callable[[], dict[str, bytes]]
DEADLY = "its worker died each time it was tried: look at the image, or give workers more memory"


@dataclass(frozen=True)
class Opened:
    """An image on its way through the stages.

    Attributes
    ----------
    image, identity, key, sha256 : as in :class:`Scored`.
    um_per_px : its scale: given, or as the file states it.
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


def open_image(
    entry: Entry,
    store: Store,
    settings: ScoreSettings,
    trained_um_per_px: float | None,
    ask: Ask,
) -> Opened | Scored:
    """Read and decode an image; a row at once if it fails, or if its content has been taken.

    Parameters
    ----------
    entry : the image.
    store : where it lies.
    settings : the limit of pixels, and a scale that overrides all.
    trained_um_per_px : scale of the networks.
    ask : asked with the content's key and the image's name, before anything is decoded.
    """
    version = identity(entry)
    try:
        data = store.read(entry.path, settings.read)
    except StorageError:
        raise  # nor is a store that is away
    except Exception as error:  # whatever it is, it is this image's row
        return Scored(entry.image, version, None, None, "failed", reason_of(error))
    given = entry.um_per_px if settings.um_per_px is None else settings.um_per_px
    sha256 = sha256_of(data)
    key = content_key(sha256, given)
    turn = ask(key, entry.image)
    if turn == "same":
        return Scored(entry.image, version, key, sha256, "same")
    if turn == "deadly":
        return Scored(entry.image, version, key, sha256, "failed", DEADLY)
    try:
        image = decode_image(data, entry.image, settings.read)
        um_per_px = image.um_per_px if given is None else given
        to_mm(0, um_per_px)
        refuse_too_large(image.pixels.shape, um_per_px, trained_um_per_px, settings.read.max_pixels)
    except Exception as error:  # whatever it is, it is this image's row
        return Scored(entry.image, version, key, sha256, "failed", reason_of(error))
    return Opened(entry.image, version, key, sha256, um_per_px, image.pixels)


def finish_image(
    opened: Opened,
    maps: Maps,
    info: BundleInfo,
    settings: ScoreSettings,
    out: Output,
) -> Scored:
    """Count the crossings, or find the skin, on the maps of an image and write its files.

    Parameters
    ----------
    opened : the image.
    maps : of each stage, (H, W) float32, probability.
    info : the bundle's.
    settings : whether files are written.
    out : the run.
    """
    try:
        told, files = (
            _biopsy(opened, maps, info) if info.kind == "biopsy" else _photo(opened, maps, info)
        )
        if settings.overlays:
            write_files(out, opened.image, info.kind, files())
    except (OSError, StorageError):
        raise  # a full disk is not the image's fault
    except Exception as error:  # whatever it is, it is this image's row
        return opened.failed(error)
    log_computed(out, opened.image)
    return Scored(opened.image, opened.identity, opened.key, opened.sha256, "ok", None, told)


def _biopsy(opened: Opened, maps: Maps, info: BundleInfo) -> tuple[Count, Draw]:
    found = info.find_crossings(maps["nerve"], maps["dermis"], opened.um_per_px)
    nerve = maps["nerve"] > np.float32(info.counting.nerve_threshold)
    return Count.of(found, opened.um_per_px), partial(biopsy_files, opened.pixels, nerve, found)


def _photo(opened: Opened, maps: Maps, info: BundleInfo) -> tuple[SkinArea, Draw]:
    found = info.find_skin(opened.pixels, maps["skin"])
    return SkinArea.of(found), partial(photo_files, opened.pixels, found)
