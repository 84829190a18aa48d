"""Photographs with masks of the skin: found in folders, limited, split by their bytes, loaded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.errors import CohortError, LabelError
from skinray.files import is_clutter
from skinray.images.augment import Sample
from skinray.images.file_errors import FileProblem, counted, refuse_problems
from skinray.images.photos.labels import Coding, read_skin
from skinray.images.read import Image, read_image

IMAGES, MASKS = "images", "masks"
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff"})
# Other pictures that people hand in.
OTHER_ENDINGS = frozenset(
    {
        ".heic", ".heif", ".bmp", ".gif", ".webp", ".avif", ".jp2", ".jxl", ".psd", ".xcf", ".dng",
        ".cr2", ".nef", ".arw", ".raw",
    }
)  # fmt: skip

_JOINTS = " ._-()"


@dataclass(frozen=True)
class Photo:
    """A photograph and its mask.

    Attributes
    ----------
    name : path of the photograph relative to its folder.
    image, mask : the files.
    source : the set that it belongs to.
    md5 : of the photograph's bytes, in hexadecimal; photographs are ordered by it.
    coding : how ``mask`` marks skin.
    """

    name: str
    image: Path
    mask: Path
    source: str
    md5: str
    coding: Coding = "mask"

    @classmethod
    def of(
        cls, image: Path, mask: Path, folder: Path, source: str, coding: Coding = "mask"
    ) -> Self:
        """Hash the file ``image``, in ``folder`` or below it."""
        md5 = hashlib.md5(image.read_bytes(), usedforsecurity=False).hexdigest()
        return cls(image.relative_to(folder).as_posix(), image, mask, source, md5, coding)


@dataclass(frozen=True)
class PhotoSplit:
    """Photographs for training, for early stopping, and for the test."""

    train: tuple[Photo, ...]
    validation: tuple[Photo, ...]
    test: tuple[Photo, ...]


def find_photos(folder: Path) -> tuple[Photo, ...]:
    """Pair ``images/NAME.*`` with ``masks/NAME.*``, in the order of their MD5.

    Parameters
    ----------
    folder : contains ``images`` and ``masks``, with or without subfolders; a mask has its
        photograph's name, with any extension. The set is named after the folder.

    Raises CohortError that lists every problem: a photograph without a mask or with two, a mask
    without a photograph, a file twice, no photograph at all.
    """
    missing = [name for name in (IMAGES, MASKS) if not (folder / name).is_dir()]
    if missing:
        raise CohortError(
            f"{folder}: has no folder {' and no folder '.join(missing)}: put photographs in "
            f"{IMAGES}/ and masks with the same names in {MASKS}/"
        )
    images, masks = _by_name(folder / IMAGES), _by_name(folder / MASKS)
    problems = [*_of_other_kinds(folder, IMAGES, MASKS), *_unpaired(images, masks)]
    photos: dict[str, Photo] = {}
    for name in sorted(images.keys() & masks.keys()):
        (image, *_), (mask, *_) = images[name], masks[name]
        photo = Photo.of(image, mask, folder / IMAGES, folder.resolve().name)
        if photo.md5 in photos:
            reason = f"the same bytes as {photos[photo.md5].name}"
            problems.append(FileProblem(None, photo.name, reason, "keep one of the two"))
        photos[photo.md5] = photo
    if not images:
        problems.append(
            FileProblem(None, str(folder / IMAGES), "no PNG, JPEG or TIFF file", "add photographs")
        )
    refuse_problems(folder, problems)
    return tuple(photos[md5] for md5 in sorted(photos))


def refuse_shared(photos: Iterable[Photo], known: Iterable[Photo], why: str) -> None:
    """Raise CohortError if photographs have the same bytes as known ones, whatever their names.

    ``why`` ends the message, after the name of the known photograph, with the remedy.
    """
    by_md5 = {photo.md5: photo for photo in known}
    shared = [photo for photo in photos if photo.md5 in by_md5]
    if shared:
        more = f" (and {len(shared) - 1} more like it)" if len(shared) > 1 else ""
        raise CohortError(
            f"{shared[0].image}: the same bytes as {by_md5[shared[0].md5].image}{more}, {why}"
        )


def find_backgrounds(folder: Path) -> tuple[Photo, ...]:
    """Return the photographs without skin in a folder and its subfolders, ordered by MD5.

    They are PNG, JPEG or TIFF files, without masks; duplicates count once. Raises CohortError if
    there is none, or a picture in another format.
    """
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder: correct the path")
    refuse_problems(folder, list(_of_other_kinds(folder, "")))
    photos: dict[str, Photo] = {}
    for path in sorted(path for paths in _by_name(folder).values() for path in paths):
        photo = Photo.of(path, path, folder, folder.resolve().name, "no skin")
        photos[photo.md5] = photo
    if not photos:
        raise CohortError(f"{folder}: no PNG, JPEG or TIFF file: use another folder")
    return tuple(photos[md5] for md5 in sorted(photos))


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the files below a folder, by path without extension."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() in ENDINGS and path.is_file() and not any(map(is_clutter, parts)):
            found[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    return dict(found)


def _of_other_kinds(folder: Path, *inside: str) -> Iterator[FileProblem]:
    """Yield pictures below a folder that are not read: left out in silence, they would be missing.

    ``inside``: the folders to look in, below ``folder``.
    """
    for path in (path for kind in inside for path in sorted((folder / kind).rglob("*"))):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() not in OTHER_ENDINGS or any(map(is_clutter, parts)):
            continue
        if path.is_file():
            reason = f"{path.suffix[1:].upper()} is not read"
            yield FileProblem(None, "/".join(parts), reason, "export it as PNG, JPEG or TIFF")


def _unpaired(images: dict[str, list[Path]], masks: dict[str, list[Path]]) -> list[FileProblem]:
    problems = []
    for kind, files in ((IMAGES, images), (MASKS, masks)):
        for name, paths in files.items():
            if len(paths) > 1:
                reason = f"several files ({' and '.join(path.name for path in paths)})"
                problems.append(FileProblem(None, f"{kind}/{name}", reason, "keep one of them"))
    left = masks.keys() - images.keys()
    meant = defaultdict(list)
    folded = {name.casefold(): name for name in images}
    for mask in sorted(left):
        meant[_meant(mask.casefold(), folded)].append(mask)
    for name in sorted(images.keys() - masks.keys()):
        remedy = "trace or remove it"
        if len(meant[name]) == 1:
            (mask,) = meant[name]
            left.discard(mask)
            ending = masks[mask][0].suffix
            remedy = f"rename {MASKS}/{mask}{ending} to {Path(name).name}{ending}"
        problems.append(FileProblem(None, f"{IMAGES}/{name}", "no mask with this name", remedy))
    reason, remedy = "no photograph with this name", "add or remove it"
    return problems + [FileProblem(None, f"{MASKS}/{one}", reason, remedy) for one in sorted(left)]


def _meant(mask: str, images: dict[str, str]) -> str | None:
    """Return the photograph whose name starts a mask's and is the longest; None if there is none.

    What follows is an addition such as ``_mask``; a number makes another name, as in ``scan_2``.

    Parameters
    ----------
    mask : in lower case.
    images : names of the photographs, by the same in lower case.
    """
    for at in range(len(mask), 0, -1):
        rest = mask[at:]
        if (not rest or rest[0] in _JOINTS) and mask[:at] in images:
            return None if rest.strip(_JOINTS)[:1].isdigit() else images[mask[:at]]
    return None


def split_photos(
    photos: Sequence[Photo], train: int, test: int, validation_fraction: float = 0.2
) -> PhotoSplit:
    """Split by the order of the MD5, so that no list has to be stored.

    The first ``train`` photographs are for training and the next ``test`` for the test. Of those
    for training, the first ``validation_fraction`` of each source, rounded, are held out for
    early stopping.

    Raises CohortError if there are too few photographs, or none is left to train or to validate.
    """
    if train + test > len(photos):
        raise CohortError(
            f"{', '.join(_by_source(photos))}: {len(photos)} photographs cannot be split into "
            f"{train} to train on and {test} to test on: ask for fewer (--train, --test)"
        )
    ordered = sorted(photos, key=lambda photo: photo.md5)
    kept, held = _hold_out(ordered[:train], validation_fraction)
    if train and not (kept and held):
        raise CohortError(
            f"{', '.join(_by_source(photos))}: with a validation fraction of "
            f"{validation_fraction:g}, {counted(train, 'photograph')} leave none to train or none "
            "to validate: use more, or another fraction (--set validation_fraction)"
        )
    return PhotoSplit(kept, held, tuple(ordered[train : train + test]))


def with_part_held_out(split: PhotoSplit, fraction: float, part: int) -> PhotoSplit:
    """Hold out another part of the training photographs; the test photographs stay.

    ``split`` is from :func:`split_photos` with the same ``fraction``, and holds out part 0. Parts
    follow each other in the order of the MD5 and wrap around after the last photograph.
    """
    together = sorted((*split.train, *split.validation), key=lambda photo: photo.md5)
    return PhotoSplit(*_hold_out(together, fraction, part), split.test)


def _hold_out(
    ordered: Sequence[Photo], fraction: float, part: int = 0
) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    """Return those to train on and those held out, with the same share from each source."""
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
    """Take at most ``most`` photographs from each source, the first in the order of the MD5.

    ``smallest``: as many as the smallest source has; ``all``: every one.
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


def read_pair(photo: Photo, settings: ReadSettings) -> tuple[Image, NDArray[np.bool_]]:
    """Return a photograph and its skin, (H, W) bool.

    Raises ImageError or LabelError if a file cannot be read, or the two differ in size.
    """
    image = read_image(photo.image, settings)
    mask = read_skin(photo.mask, photo.coding, settings)
    check_same_size(photo, image.pixels.shape[:2], mask.shape)
    return image, mask


def load_photo(photo: Photo, side: int, settings: ReadSettings) -> Sample:
    """Return a photograph and its skin, resized to ``side`` x ``side`` pixels for training.

    Raises ImageError or LabelError if a file cannot be read, or the two differ in size.
    """
    image, mask = read_pair(photo, settings)
    how = cv2.INTER_AREA if min(mask.shape) > side else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image.pixels, (side, side), interpolation=how), np.uint8)
    share = cv2.resize(mask.astype(np.float32), (side, side), interpolation=how)
    skin = (np.asarray(share) >= 0.5).astype(np.uint8)
    return Sample(small, {"skin": skin})


def check_same_size(photo: Photo, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    """Raise LabelError unless a mask has the size of its photograph."""
    if image != mask:
        raise LabelError(
            f"{photo.mask}: mask of {mask[1]}x{mask[0]} px, photograph of {image[1]}x{image[0]} "
            "px: export it at the photograph's size, upright"
        )
