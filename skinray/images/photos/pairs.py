"""Photographs with masks of the skin: found in folders, downsampled and split by their bytes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from skinray.config.biopsies import ReadSettings
from skinray.errors import CohortError, LabelError
from skinray.images.augment import Sample
from skinray.images.file_errors import Problem
from skinray.images.photos.labels import Coding, read_skin
from skinray.images.read import read_image

IMAGES, MASKS = "images", "masks"
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})


@dataclass(frozen=True)
class Photo:
    """A photograph and its mask.

    Attributes
    ----------
    name : path of the photograph relative to its folder.
    image, mask : the files.
    source : which set it is of.
    md5 : of the photograph's bytes, in hexadecimal: its place in the order of the split.
    coding : how ``mask`` marks skin.
    """

    name: str
    image: Path
    mask: Path
    source: str
    md5: str
    coding: Coding = "mask"


@dataclass(frozen=True)
class PhotoSplit:
    """Photographs to train with, those to stop early by, and those to test on."""

    train: tuple[Photo, ...]
    validation: tuple[Photo, ...]
    test: tuple[Photo, ...]


def find_photos(folder: Path, source: str | None = None) -> tuple[Photo, ...]:
    """Pair ``images/NAME.*`` with ``masks/NAME.*``, in the order of their MD5.

    Parameters
    ----------
    folder : holds ``images`` and ``masks``, with folders below if need be; a mask has its
        photograph's name, whatever the ending.
    source : what to call the set; none: the folder's name.

    Raises
    ------
    CohortError
        With every problem at once: a photograph without mask or with two, a mask without
        photograph, a file twice, no photograph at all.
    """
    missing = [name for name in (IMAGES, MASKS) if not (folder / name).is_dir()]
    if missing:
        raise CohortError(
            f"{folder}: has no folder {' and no folder '.join(missing)}: put photographs in "
            f"{IMAGES}/ and masks of the same names in {MASKS}/"
        )
    images, masks = _by_name(folder / IMAGES), _by_name(folder / MASKS)
    problems = [*_unpaired(images, masks)]
    photos: dict[str, Photo] = {}
    for name in sorted(images.keys() & masks.keys()):
        (image, *_), (mask, *_) = images[name], masks[name]
        relative = image.relative_to(folder / IMAGES).as_posix()
        md5 = hashlib.md5(image.read_bytes(), usedforsecurity=False).hexdigest()
        if md5 in photos:
            reason = f"the same bytes as {photos[md5].name}"
            problems.append(Problem(None, relative, reason, "keep one of the two"))
        photos[md5] = Photo(relative, image, mask, source or folder.resolve().name, md5)
    if not images:
        problems.append(
            Problem(None, f"{folder / IMAGES}", "no PNG, JPEG or TIFF file", "name another folder")
        )
    if problems:
        lines = "\n  ".join(str(problem) for problem in problems)
        raise CohortError(f"{folder}: {len(problems)} to mend\n  {lines}")
    return tuple(photos[md5] for md5 in sorted(photos))


def refuse_shared(photos: Iterable[Photo], known: Iterable[Photo], why: str) -> None:
    """Raise CohortError if photographs are among others, whatever their names.

    Parameters
    ----------
    why : goes on from the name of the one that is known, with the remedy.
    """
    by_md5 = {photo.md5: photo for photo in known}
    shared = [photo for photo in photos if photo.md5 in by_md5]
    if shared:
        more = f" (and {len(shared) - 1} more such)" if len(shared) > 1 else ""
        raise CohortError(
            f"{shared[0].image}: the same bytes as {by_md5[shared[0].md5].image}{more}, {why}"
        )


def find_backgrounds(folder: Path) -> tuple[Photo, ...]:
    """Return the photographs without skin in a folder and below, in the order of their MD5.

    Parameters
    ----------
    folder : of PNG, JPEG or TIFF files; no masks are needed. What it holds twice counts once.

    Raises
    ------
    CohortError
        If there is no photograph.
    """
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder: correct the path")
    photos: dict[str, Photo] = {}
    for path in sorted(path for paths in _by_name(folder).values() for path in paths):
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        name = path.relative_to(folder).as_posix()
        photos[md5] = Photo(name, path, path, folder.resolve().name, md5, "no skin")
    if not photos:
        raise CohortError(f"{folder}: no PNG, JPEG or TIFF file: name another folder")
    return tuple(photos[md5] for md5 in sorted(photos))


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the files below a folder by their path without its ending."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file():
            found[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    return dict(found)


def _unpaired(images: dict[str, list[Path]], masks: dict[str, list[Path]]) -> list[Problem]:
    problems = []
    for kind, files in ((IMAGES, images), (MASKS, masks)):
        for name, paths in files.items():
            if len(paths) > 1:
                names = " and ".join(path.name for path in paths)
                problems.append(
                    Problem(None, f"{kind}/{name}", f"there twice ({names})", "keep one of them")
                )
    for name in sorted(images.keys() - masks.keys()):
        problems.append(
            Problem(None, f"{IMAGES}/{name}", "no mask of this name", "trace it, or leave it out")
        )
    for name in sorted(masks.keys() - images.keys()):
        problems.append(
            Problem(None, f"{MASKS}/{name}", "no photograph of this name", "restore or remove it")
        )
    return problems


def split_photos(
    photos: Sequence[Photo], train: int, test: int, validation_fraction: float = 0.2
) -> PhotoSplit:
    """Split by the order of the MD5, which needs no list to be kept.

    The first ``train`` photographs train, the next ``test`` test; of those that train, the first
    ``validation_fraction`` of each source, rounded, are for early stopping.

    Raises
    ------
    CohortError
        If there are not so many, or too few to train and to validate.
    """
    if train + test > len(photos):
        raise CohortError(
            f"{', '.join(_by_source(photos))}: {len(photos)} photographs cannot be split into "
            f"{train} to train and {test} to test: ask for fewer (--train, --test)"
        )
    ordered = sorted(photos, key=lambda photo: photo.md5)
    kept, held = _hold_out(ordered[:train], validation_fraction)
    if train and not (kept and held):
        raise CohortError(
            f"{', '.join(_by_source(photos))}: {train} photographs leave none to train or none to "
            f"validate at a validation fraction of {validation_fraction:g}: give more, or another "
            "fraction (--set validation_fraction)"
        )
    return PhotoSplit(kept, held, tuple(ordered[train : train + test]))


def with_part_held_out(split: PhotoSplit, fraction: float, part: int) -> PhotoSplit:
    """Hold out another part of the photographs that train; those to test on stay.

    Parameters
    ----------
    split : as :func:`split_photos` made it, with the same ``fraction``.
    part : 0 is the part that ``split`` holds out. Parts follow each other by the order of the MD5,
        and begin anew after the last photograph.
    """
    together = sorted((*split.train, *split.validation), key=lambda photo: photo.md5)
    return PhotoSplit(*_hold_out(together, fraction, part), split.test)


def _hold_out(
    ordered: Sequence[Photo], fraction: float, part: int = 0
) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    """Return those to train with and those to validate by: of each source its share."""
    held = set()
    for of in _by_source(ordered).values():
        share = round(len(of) * fraction)
        for at in range(part * share, (part + 1) * share):
            photo = of[at % len(of)]
            held.add((photo.source, photo.md5))
    kept = tuple(photo for photo in ordered if (photo.source, photo.md5) not in held)
    return kept, tuple(photo for photo in ordered if (photo.source, photo.md5) in held)


def downsample(
    photos: Sequence[Photo], most: int | Literal["all", "smallest"]
) -> tuple[Photo, ...]:
    """Take at most so many photographs of each source, the first by the order of the MD5.

    Parameters
    ----------
    photos : of several sources.
    most : of each source; ``smallest``: as many as the smallest source has; ``all``: every one.
    """
    ordered = sorted(photos, key=lambda photo: photo.md5)
    if most == "all":
        return tuple(ordered)
    by_source = _by_source(ordered)
    smallest = min(map(len, by_source.values()), default=0)
    limit = smallest if isinstance(most, str) else most
    kept = [photo for of in by_source.values() for photo in of[:limit]]
    return tuple(sorted(kept, key=lambda photo: photo.md5))


def _by_source(ordered: Sequence[Photo]) -> dict[str, list[Photo]]:
    by_source: dict[str, list[Photo]] = defaultdict(list)
    for photo in ordered:
        by_source[photo.source].append(photo)
    return by_source


def load_photo(photo: Photo, side: int, settings: ReadSettings) -> Sample:
    """Return a photograph and its skin at ``side`` x ``side`` pixels, as training takes it.

    Raises
    ------
    ImageError, LabelError
        If a file cannot be read, or the two differ in size.
    """
    image = read_image(photo.image, settings).pixels
    mask = read_skin(photo.mask, photo.coding, settings)
    check_same_size(photo, image.shape[:2], mask.shape)
    how = cv2.INTER_AREA if min(image.shape[:2]) > side else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)
    share = cv2.resize(mask.astype(np.float32), (side, side), interpolation=how)
    skin = (np.asarray(share) >= 0.5).astype(np.uint8)
    return Sample(small, {"skin": skin})


def check_same_size(photo: Photo, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    """Raise LabelError unless a mask has the size of its photograph."""
    if image != mask:
        raise LabelError(
            f"{photo.mask}: mask of {mask[1]}x{mask[0]} px, photograph of {image[1]}x{image[0]} "
            "px: export it at the photograph's own size, upright"
        )
