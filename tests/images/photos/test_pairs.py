"""Photographs are paired with their masks, split and downsampled by their bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from skinray.config.photos import PhotoSettings
from skinray.errors import CohortError
from skinray.images.photos.pairs import (
    Photo,
    downsample,
    find_backgrounds,
    find_photos,
    refuse_shared,
    split_photos,
    with_part_held_out,
)
from skinray.images.read import read_mask


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)
    Pillow.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(6):
        write(tmp_path / "set" / "images" / f"{seed}.jpg", seed)
        write(tmp_path / "set" / "masks" / f"{seed}.png", seed)
    write(tmp_path / "set" / "images" / "ward" / "0.PNG", 7)
    write(tmp_path / "set" / "masks" / "ward" / "0.png", 8)
    (tmp_path / "set" / "images" / "notes.txt").write_text("no image")
    return tmp_path / "set"


def named(count: int, source: str = "a") -> list[Photo]:
    md5s = (hashlib.md5(f"{source}{at}".encode()).hexdigest() for at in range(count))  # noqa: S324
    return [Photo(f"{md5}.png", Path(md5), Path(md5), source, md5) for md5 in md5s]


def test_photographs_are_paired_by_name_in_the_order_of_their_bytes(folder: Path) -> None:
    photos = find_photos(folder)
    assert {photo.name for photo in photos} == {*(f"{n}.jpg" for n in range(6)), "ward/0.PNG"}
    for photo in photos:
        assert photo.mask.parent.name in ("masks", "ward")
        assert photo.mask.stem == photo.image.stem
        assert photo.md5 == hashlib.md5(photo.image.read_bytes()).hexdigest()  # noqa: S324
        assert photo.source == "set"
    assert [photo.md5 for photo in photos] == sorted(photo.md5 for photo in photos)
    (folder / "images").rename(folder.parent / "elsewhere")
    with pytest.raises(CohortError, match="has no folder images: put photographs in images/"):
        find_photos(folder)


def test_what_systems_leave_behind_is_no_photograph(folder: Path) -> None:
    before = [photo.name for photo in find_photos(folder)]
    for place in ("images/._a.jpg", "images/__MACOSX/a.jpg", "masks/.ipynb_checkpoints/a.png"):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_bytes(b"x")
    assert [photo.name for photo in find_photos(folder)] == before


def test_all_problems_are_listed(folder: Path) -> None:
    (folder / "masks" / "1.png").unlink()
    write(folder / "masks" / "2.tif", 2)
    write(folder / "masks" / "more.png", 3)
    write(folder / "masks" / "copy.png", 3)
    (folder / "images" / "copy.jpg").write_bytes((folder / "images" / "4.jpg").read_bytes())
    with pytest.raises(CohortError) as caught:
        find_photos(folder)
    said = str(caught.value)
    assert "4 problems" in said
    assert "masks/2: several files (2.png and 2.tif): keep one of them" in said
    assert "images/1: no mask with this name: trace or remove it" in said
    assert "masks/more: no photograph with this name: add or remove it" in said
    assert "copy.jpg: the same bytes as 4.jpg" in said or "4.jpg: the same bytes as copy" in said


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(CohortError, match="no PNG, JPEG or TIFF file"):
        find_photos(tmp_path)


def test_photographs_without_skin_need_no_masks(tmp_path: Path) -> None:
    for seed, name in enumerate(("b.jpg", "rooms/a.png", "rooms/a.jpg")):
        write(tmp_path / "none" / name, seed)
    (tmp_path / "none" / "again.png").write_bytes((tmp_path / "none/rooms/a.png").read_bytes())
    (tmp_path / "none" / "notes.txt").write_text("no image")
    found = find_backgrounds(tmp_path / "none")
    assert len(found) == 3  # two files are the same
    assert [photo.md5 for photo in found] == sorted(photo.md5 for photo in found)
    assert {(photo.source, photo.coding) for photo in found} == {("none", "no skin")}


def test_a_folder_without_photographs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"nowhere: no such folder"):
        find_backgrounds(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"empty: no PNG, JPEG or TIFF file"):
        find_backgrounds(tmp_path / "empty")


def test_a_photograph_in_two_places_is_an_error_whatever_its_name(
    folder: Path, tmp_path: Path
) -> None:
    known = find_photos(folder)
    for at, name in enumerate(("x.jpg", "y.jpg")):
        (tmp_path / "none").mkdir(exist_ok=True)
        (tmp_path / "none" / name).write_bytes(known[at].image.read_bytes())
    write(tmp_path / "none" / "other.png", 99)
    found = find_backgrounds(tmp_path / "none")
    with pytest.raises(
        CohortError,
        match=r"[xy]\.jpg: the same bytes as .* \(and 1 more like it\), so: take it out",
    ):
        refuse_shared(found, known, "so: take it out")
    refuse_shared([one for one in found if one.name == "other.png"], known, "never said")


def test_the_split_follows_the_md5_and_nothing_else() -> None:
    photos = named(400)
    split = split_photos(photos, 100, 300)
    assert split == split_photos(photos[::-1], 100, 300)
    ordered = sorted(photos, key=lambda photo: photo.md5)
    assert [*split.validation, *split.train, *split.test] == ordered
    assert (len(split.validation), len(split.train), len(split.test)) == (20, 80, 300)


def test_every_source_gives_its_share_to_the_validation() -> None:
    split = split_photos(named(50, "few") + named(100, "many"), 150, 0)
    held = [photo.source for photo in split.validation]
    assert (held.count("few"), held.count("many")) == (10, 20)
    kept = [photo.source for photo in split.train]
    assert (kept.count("few"), kept.count("many")) == (40, 80)
    few = sorted(photo.md5 for photo in named(50, "few"))
    assert [photo.md5 for photo in split.validation if photo.source == "few"] == few[:10]


def test_every_part_is_held_out_in_turn() -> None:
    split = split_photos(named(50, "few") + named(100, "many"), 150, 0)
    parts = [with_part_held_out(split, 0.2, part) for part in range(6)]
    assert parts[0] == split
    assert parts[5] == split  # five fifths: the sixth is the first again
    held = [photo for part in parts[:5] for photo in part.validation]
    assert len(held) == len(set(held)) == 150
    for part in parts:
        assert len(part.validation) == 30
        assert not set(part.validation) & set(part.train)
        assert {*part.validation, *part.train} == {*split.validation, *split.train}
        assert [photo.source for photo in part.validation].count("few") == 10


def test_the_last_part_wraps_around_to_the_first_photographs() -> None:
    split = split_photos(named(14), 10, 4, 0.3)
    ordered = sorted((*split.train, *split.validation), key=lambda photo: photo.md5)
    last = with_part_held_out(split, 0.3, 3)
    assert set(last.validation) == {ordered[9], ordered[0], ordered[1]}
    assert last.test == split.test


def test_splits_that_cannot_be_made() -> None:
    with pytest.raises(CohortError, match="10 photographs cannot be split into 8"):
        split_photos(named(10), 8, 3)
    for train in (1, 2):
        with pytest.raises(CohortError, match="none to train or none to validate"):
            split_photos(named(10), train, 3)
    assert split_photos(named(10), 0, 10).train == ()


def of_each(photos: Sequence[Photo]) -> dict[str, int]:
    return dict(Counter(photo.source for photo in photos))


def test_the_papers_sets_give_the_papers_numbers() -> None:
    """LFW parts has more than a thousand photographs, the two other sets have fewer."""
    photos = named(2927, "lfw") + named(721, "lvs") + named(899, "hgr")
    shown = downsample(photos, PhotoSettings().pretraining_images)
    assert of_each(shown) == {"lfw": 1000, "lvs": 721, "hgr": 899}
    assert len(shown) == 2620
    assert shown == downsample(photos[::-1], 1000)
    first = sorted(photo.md5 for photo in named(2927, "lfw"))[:1000]
    assert [photo.md5 for photo in shown if photo.source == "lfw"] == first


def test_sets_are_balanced_only_on_request() -> None:
    photos = named(5, "few") + named(40, "many") + named(1200, "most")
    assert of_each(downsample(photos, "smallest")) == {"few": 5, "many": 5, "most": 5}
    assert of_each(downsample(photos, "all")) == {"few": 5, "many": 40, "most": 1200}
    assert of_each(downsample(photos, 8)) == {"few": 5, "many": 8, "most": 8}
    assert downsample([], "smallest") == downsample([], "all") == ()


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "count"), [("abd_skin", 300), ("hgr1_256", 648)])
def test_real_sets_are_read_whole(real_data: Path, name: str, count: int) -> None:
    photos = find_photos(real_data / name)
    assert len(photos) == count
    for photo in photos[:20]:
        assert 0.02 < read_mask(photo.mask).mean() < 1


@pytest.mark.parametrize("name", ["images/b.HEIC", "masks/b.bmp"])
def test_pictures_of_other_kinds_are_named(tmp_path: Path, name: str) -> None:
    for seed in range(3):
        write(tmp_path / "images" / f"{seed}.jpg", seed)
        write(tmp_path / "masks" / f"{seed}.png", seed)
    (tmp_path / name).write_bytes(b"picture")
    with pytest.raises(CohortError, match=rf"{name}: .* is not read"):
        find_photos(tmp_path)


@pytest.mark.parametrize(
    "mask", ["IMG_1_mask.png", "IMG_1-seg.png", "img_1.png", "IMG_1 Mask.tif", "IMG_1.jpg.png"]
)
def test_a_mask_whose_name_is_nearly_the_photographs_is_to_be_renamed(
    tmp_path: Path, mask: str
) -> None:
    write(tmp_path / "images" / "IMG_1.jpg", 1)
    write(tmp_path / "images" / "IMG_10.jpg", 2)
    write(tmp_path / "masks" / "IMG_10.png", 3)
    write(tmp_path / "masks" / mask, 4)
    with pytest.raises(CohortError) as raised:
        find_photos(tmp_path)
    said = str(raised.value)
    ending = Path(mask).suffix
    assert f"images/IMG_1: no mask with this name: rename masks/{mask} to IMG_1{ending}" in said
    assert said.count("no photograph with this name") == 0


def test_each_mask_is_meant_for_the_longest_name_that_fits(tmp_path: Path) -> None:
    for seed, name in enumerate(("arm", "arm_left", "anna", "leg")):
        write(tmp_path / "images" / f"{name}.jpg", seed)
    for seed, name in enumerate(("arm_mask", "arm_left_mask", "annabel", "leg_mask", "leg_old")):
        write(tmp_path / "masks" / f"{name}.png", 9 + seed)
    with pytest.raises(CohortError) as raised:
        find_photos(tmp_path)
    said = str(raised.value)
    assert "images/arm: no mask with this name: rename masks/arm_mask.png to arm.png" in said
    assert "images/arm_left: no mask with this name: rename masks/arm_left_mask.png to arm_" in said
    for name in ("anna", "leg"):  # no mask, or two that may be meant
        assert f"images/{name}: no mask with this name: trace or remove it" in said
    for name in ("annabel", "leg_mask", "leg_old"):
        assert f"masks/{name}: no photograph with this name: add or remove it" in said


def test_pictures_that_are_not_read_are_named_and_clutter_is_not(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.jpe"):
        write(tmp_path / "images" / "a.jpg", 1)
        (tmp_path / "images" / "a.jpg").rename(tmp_path / "images" / name)
        write(tmp_path / "masks" / f"{name[0]}.png", 2)
    write(tmp_path / "images" / "b.jpg", 7)
    (tmp_path / "images" / "b.jpg").rename(tmp_path / "images" / "b.jpe")
    (tmp_path / "images" / "._b.heic").write_bytes(b"x")
    assert len(find_photos(tmp_path)) == 2
    rooms = tmp_path / "rooms"
    write(rooms / "1.jpg", 3)
    (rooms / "2.heic").write_bytes(b"x")
    with pytest.raises(CohortError, match=r"2\.heic: HEIC is not read: export it as PNG"):
        find_backgrounds(rooms)


def test_another_number_is_another_photograph(tmp_path: Path) -> None:
    write(tmp_path / "images" / "scan.jpg", 1)
    write(tmp_path / "masks" / "scan_2.png", 2)
    with pytest.raises(CohortError) as raised:
        find_photos(tmp_path)
    assert "images/scan: no mask with this name: trace or remove it" in str(raised.value)
    assert "masks/scan_2: no photograph with this name" in str(raised.value)
