"""Public sets are read in their published folders and codings, drawn small here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.errors import CohortError
from skinray.images.photos.labels import read_skin
from skinray.images.photos.public_sets import find_public, find_set
from tests.support.drawn_photos import write_photos

SHAPE = (12, 16)
NAMES = ("1_A_hgr1_id01_1", "1_A_hgr1_id01_2", "2_P_hgr2A_id03_1")


def skin(at: int) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, np.bool_)
    mask[2 : 5 + at, 3:9] = True
    return mask


def photograph(path: Path, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(at).integers(0, 256, (*SHAPE, 3), np.uint8)
    Pillow.fromarray(noise).save(path)


def label(path: Path, values: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(values).save(path)


def hgr(folder: Path) -> Path:
    """Two of the three archives unpacked side by side; skin is black."""
    for at, name in enumerate(NAMES):
        part = "hgr1" if "hgr1" in name else "hgr2a"
        photograph(folder / f"{part}_images" / "original_images" / f"{name}.jpg", at)
        black = np.where(skin(at), 0, 255).astype(np.uint8)
        label(folder / f"{part}_skin" / "skin_masks" / f"{name}.bmp", black)
    return folder


def people(folder: Path) -> list[tuple[str, int]]:
    names = ["Ann_Lee_0001", "Ann_Lee_0002", "Bob_0001"]
    for at, name in enumerate([*names, "Unlabelled_0001"]):
        photograph(folder / "lfw_funneled" / name.rpartition("_")[0] / f"{name}.jpg", at)
    return [(name, at) for at, name in enumerate(names)]


def lfw(folder: Path) -> Path:
    """Red hair above, green skin, blue background."""
    for name, at in people(folder):
        coloured = np.zeros((*SHAPE, 3), np.uint8)
        coloured[..., 2] = 255
        coloured[:2] = (255, 0, 0)
        coloured[skin(at)] = (0, 255, 0)
        label(folder / "parts_lfw_funneled_gt_images" / f"{name}.ppm", coloured)
    return folder


def lfw_superpixels(folder: Path) -> Path:
    """Superpixel 0 is hair, 1 and 3 are skin, 2 is background."""
    for name, at in people(folder):
        pixels = np.full(SHAPE, 2)
        pixels[:2] = 0
        pixels[skin(at)] = 1
        pixels[4][skin(at)[4]] = 3
        for part in ("superpixels_mat", "gt"):
            (folder / f"parts_lfw_funneled_{part}" / name[:-5]).mkdir(parents=True, exist_ok=True)
        end = f"{name[:-5]}/{name}.dat"
        np.savetxt(folder / "parts_lfw_funneled_superpixels_mat" / end, pixels, fmt="%d")
        np.savetxt(folder / "parts_lfw_funneled_gt" / end, [4, 0, 1, 2, 1], fmt="%d")
    return folder


def lvs(folder: Path) -> Path:
    """Frames of two sequences, of which every other one is labelled."""
    for at in range(6):
        one = folder / f"sequence{at % 2}"
        photograph(one / "frames" / f"{at:04d}.png", at)
        if at < 3:
            label(one / "skin" / f"{at:04d}.bmp", np.where(skin(at), 255, 0).astype(np.uint8))
    return folder


def general(folder: Path) -> Path:
    for at in range(3):
        photograph(folder / "images" / f"{at}.jpg", at)
        label(folder / "masks" / f"{at}.png", np.where(skin(at), 255, 0).astype(np.uint8))
    return folder


SETS = {
    "hgr": hgr,
    "lfw": lfw,
    "lfw, superpixels": lfw_superpixels,
    "lvs": lvs,
    "folder": general,
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("named", [False, True])
def test_published_sets_are_found_with_their_skin(name: str, named: bool, tmp_path: Path) -> None:
    folder = SETS[name](tmp_path / "set")
    kind = name.partition(",")[0]
    photos = find_set(f"{kind}:{folder}" if named else folder)
    assert len(photos) == 3
    assert [photo.md5 for photo in photos] == sorted(photo.md5 for photo in photos)
    assert {photo.source for photo in photos} == {"set" if kind == "folder" else kind}
    read = [read_skin(p.mask, p.coding, ReadSettings()) for p in photos]
    by_size = sorted(read, key=lambda mask: int(mask.sum()))
    for at, mask in enumerate(by_size):
        assert np.array_equal(mask, skin(at))
    # Each mask is that of its photograph: the drawn skin grows with the number in the order.
    order = sorted(zip(photos, read, strict=True), key=lambda pair: Path(pair[0].name).stem)
    assert [int(mask.sum()) for _, mask in order] == [int(skin(at).sum()) for at in range(3)]


def test_a_duplicate_photograph_counts_once(tmp_path: Path) -> None:
    folder = hgr(tmp_path)
    one = folder / "hgr1_images" / "original_images" / f"{NAMES[0]}.jpg"
    one.with_name(f"{NAMES[1]}.jpg").write_bytes(one.read_bytes())
    assert [Path(photo.name).stem for photo in find_set(folder) if "hgr1" in photo.name] == [
        NAMES[0]
    ]


def test_an_unknown_layout_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(CohortError) as caught:
        find_set(tmp_path)
    said = str(caught.value)
    assert "none of the known layouts" in said
    for word in ("images/ and masks/", "original_images/", "lfw_funneled/", "frames/ and skin/"):
        assert word in said
    with pytest.raises(
        CohortError, match="does not have the layout lfw, which needs lfw_funneled/, and"
    ):
        find_set(f"lfw:{tmp_path}")
    with pytest.raises(CohortError, match="no such folder"):
        find_set(f"hgr:{tmp_path / 'gone'}")


def test_half_a_set_is_an_error(tmp_path: Path) -> None:
    folder = hgr(tmp_path / "hgr")
    gone = folder / "hgr1_skin" / "skin_masks" / f"{NAMES[0]}.bmp"
    gone.unlink()
    with pytest.raises(
        CohortError, match=rf"{NAMES[0]}\.jpg: no photograph or mask with the same name"
    ):
        find_set(folder)
    faces = lfw(tmp_path / "lfw")
    (faces / "lfw_funneled" / "Bob" / "Bob_0001.jpg").unlink()
    with pytest.raises(CohortError, match=r"Bob_0001\.ppm: .*Bob_0001\.jpg is missing"):
        find_set(faces)
    empty = tmp_path / "empty"
    for name in ("original_images", "skin_masks"):
        (empty / name).mkdir(parents=True)
    with pytest.raises(CohortError, match="no photograph with a mask in the layout hgr"):
        find_set(empty)


def test_public_sets_with_one_name_stay_separate_and_share_no_photograph(tmp_path: Path) -> None:
    a, b = (write_photos(tmp_path / name / "skin", 5, seed) for seed, name in enumerate("ab"))
    found = find_public([a, b, hgr(tmp_path / "hands"), a])
    assert Counter(photo.source for photo in found) == {"skin": 5, "skin 2": 5, "hgr": len(NAMES)}
    assert {photo.image.parents[2] for photo in found if photo.source == "skin 2"} == {
        tmp_path / "b"
    }
