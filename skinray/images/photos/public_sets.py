"""The public sets of skin in photographs, in the folders in which they are published.

``folder``
    ``images`` and ``masks``, files with the same names; a mask's higher value is skin.
``hgr`` (Kawulok et al., 2014)
    ``original_images`` and ``skin_masks`` anywhere below, as the archives of HGR1, HGR2A and HGR2B
    unpack; files with the same names, skin black on white.
``lfw`` (Kae et al., 2013)
    ``lfw_funneled/NAME/NAME_0001.jpg``, and either ``parts_lfw_funneled_gt_images/NAME_0001.ppm``
    (hair red, skin green, background blue) or ``parts_lfw_funneled_gt/NAME/NAME_0001.dat`` with
    ``parts_lfw_funneled_superpixels_mat``. Photographs without labels are ignored.
``lvs`` (Sigal and Sclaroff, 2000)
    Each sequence is a folder with ``frames`` and ``skin``, files with the same names. The set has
    two masks per frame, skin and background; pixels in neither ("don't care") count as background.
    Its page does not give the folders' names: these are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from skinray.errors import CohortError
from skinray.files import is_clutter
from skinray.images.photos.labels import SUPERPIXELS, Coding, superpixels_of
from skinray.images.photos.pairs import ENDINGS, Photo, find_photos

MASK_ENDINGS = ENDINGS | {".bmp", ".ppm"}
LFW_IMAGES, LFW_PARTS = "lfw_funneled", "parts_lfw_funneled_gt_images"
LFW_CLASSES = "parts_lfw_funneled_gt"


class Pair(NamedTuple):
    """A photograph, the file that marks its skin, and how."""

    image: Path
    mask: Path
    coding: Coding


class SetLayout(NamedTuple):
    """One published layout: how to recognise it, its description, and how to find its pairs."""

    matches: Callable[[Path], bool]
    description: str
    pairs: Callable[[Path], Iterator[Pair]]


def find_set(named: str | Path) -> tuple[Photo, ...]:
    """Return the photographs of a set, in the order of their MD5.

    Parameters
    ----------
    named : a folder, whose layout is recognised, or ``KIND:FOLDER`` with the kind ``folder``,
        ``hgr``, ``lfw`` or ``lvs``. Duplicates in a published set count once.

    Raises CohortError if there is no such folder, it does not have the given layout or any of
    them, or files are missing.
    """
    prefix, colon, rest = str(named).partition(":")
    kind = prefix if colon and prefix in LAYOUTS else None
    folder = Path(rest if kind else named)
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder: correct the path")
    if kind is None:
        kind = next((name for name, layout in LAYOUTS.items() if layout.matches(folder)), None)
        if kind is None:
            known = "\n  ".join(f"{name}: {layout.description}" for name, layout in LAYOUTS.items())
            raise CohortError(f"{folder}: none of the known layouts:\n  {known}")
    if kind == "folder":
        return find_photos(folder)
    layout = LAYOUTS[kind]
    if not layout.matches(folder):
        raise CohortError(
            f"{folder}: does not have the layout {kind}, which needs {layout.description}"
        )
    found = tuple(layout.pairs(folder))
    if not found:
        raise CohortError(
            f"{folder}: no photograph with a mask in the layout {kind}: {layout.description}"
        )
    return _photos(found, folder, kind)


def find_public(named: Sequence[str | Path]) -> tuple[Photo, ...]:
    """Return the photographs of several sets, each a separate source; see :func:`find_set`.

    If two sets have the same name, the second gets a number. A photograph in several sets belongs
    to the first of them.
    """
    photos: dict[str, Photo] = {}
    sources: Counter[str] = Counter()
    for one in named:
        found = find_set(one)
        source = found[0].source
        sources[source] += 1
        if sources[source] > 1:
            found = tuple(replace(p, source=f"{source} {sources[source]}") for p in found)
        for photo in found:
            photos.setdefault(photo.md5, photo)
    return tuple(photos.values())


def _photos(pairs: tuple[Pair, ...], folder: Path, source: str) -> tuple[Photo, ...]:
    photos: dict[str, Photo] = {}
    for image, mask, coding in sorted(pairs, key=lambda pair: str(pair.image)):
        photo = Photo.of(image, mask, folder, source, coding)
        photos.setdefault(photo.md5, photo)
    return tuple(photos[md5] for md5 in sorted(photos))


def _below(folder: Path, name: str) -> list[Path]:
    """Return the folders with this name: ``folder`` itself and those below."""
    return [
        one for one in sorted([folder, *folder.rglob("*")]) if one.name == name and one.is_dir()
    ]


def _files(folder: Path, endings: frozenset[str]) -> dict[str, Path]:
    return {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in endings and path.is_file() and not is_clutter(path.name)
    }


def _same_names(images: dict[str, Path], masks: dict[str, Path], coding: Coding) -> Iterator[Pair]:
    """Pair by name; CohortError if a mask has no photograph or a photograph no mask."""
    alone = [str(images[name]) for name in sorted(images.keys() - masks.keys())]
    alone += [str(masks[name]) for name in sorted(masks.keys() - images.keys())]
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        raise CohortError(
            f"{', '.join(alone[:3])}{more}: no photograph or mask with the same name: unpack the "
            "published archives completely"
        )
    for name in sorted(images):
        yield Pair(images[name], masks[name], coding)


def _hgr(folder: Path) -> Iterator[Pair]:
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for one in _below(folder, "original_images"):
        images |= _files(one, ENDINGS)
    for one in _below(folder, "skin_masks"):
        masks |= _files(one, MASK_ENDINGS)
    return _same_names(images, masks, "dark mask")


def _lfw(folder: Path) -> Iterator[Pair]:
    parts = folder / LFW_PARTS
    if parts.is_dir():
        labels = _files(parts, MASK_ENDINGS)
        coding: Coding = "green part"
    else:
        labels = {path.stem: path for path in sorted((folder / LFW_CLASSES).glob("*/*.dat"))}
        coding = "superpixels"
    for name, label in labels.items():
        image = folder / LFW_IMAGES / name.rpartition("_")[0] / f"{name}.jpg"
        halves = [image, superpixels_of(label)] if coding == "superpixels" else [image]
        for half in halves:
            if not half.is_file():
                raise CohortError(
                    f"{label}: {half} is missing: unpack the published archives completely"
                )
        yield Pair(image, label, coding)


def _lvs(folder: Path) -> Iterator[Pair]:
    for frames in _below(folder, "frames"):
        skin = frames.parent / "skin"
        if skin.is_dir():
            # Only every fifth frame is labelled.
            masks = _files(skin, MASK_ENDINGS)
            images = {k: v for k, v in _files(frames, ENDINGS).items() if k in masks}
            yield from _same_names(images, masks, "mask")


def _is_lfw(folder: Path) -> bool:
    named = (LFW_PARTS, LFW_CLASSES)
    return (folder / LFW_IMAGES).is_dir() and any((folder / name).is_dir() for name in named)


LAYOUTS: dict[str, SetLayout] = {
    "folder": SetLayout(
        lambda folder: (folder / "images").is_dir() and (folder / "masks").is_dir(),
        "images/ and masks/, files with the same names",
        lambda _: iter(()),
    ),
    "hgr": SetLayout(
        lambda folder: all(_below(folder, name) for name in ("original_images", "skin_masks")),
        "original_images/ and skin_masks/, here or below, as the archives unpack",
        _hgr,
    ),
    "lfw": SetLayout(
        _is_lfw,
        f"{LFW_IMAGES}/, and {LFW_PARTS}/ or {LFW_CLASSES}/ with {SUPERPIXELS}/",
        _lfw,
    ),
    "lvs": SetLayout(
        lambda folder: any((one.parent / "skin").is_dir() for one in _below(folder, "frames")),
        "a folder for each sequence with frames/ and skin/, files with the same names",
        _lvs,
    ),
}
