"""The listing: order, names, skipped files, and rows that cannot be scored."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import pytest

from skinray.config.images import ReadSettings
from skinray.errors import CohortError, ImageError
from skinray.scoring.entries import Entry, printable, read_entries, write_entries
from skinray.scoring.listing import Listing
from skinray.scoring.object_store import without_password


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    return folder


def names(images: object, **options: object) -> list[str]:
    return [entry.image for entry in Listing(str(images), **options)]  # type: ignore[arg-type]


# folders


def test_a_folder_is_listed_in_order_with_its_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/2.TIFF", "a/1.jpg", "a.tif", "c.txt", ".hidden.png", ".git/x.png")
    listing = Listing(str(tmp_path))
    entries = list(listing)
    assert [entry.image for entry in entries] == ["a.tif", "a/1.jpg", "a/2.TIFF", "b.png"]
    assert listing.left_out == 2  # hidden folders are not opened, so not counted
    assert {entry.size for entry in entries} == {5}
    assert entries[0].path == str(tmp_path / "a.tif")
    assert list(listing) == entries
    assert listing.left_out == 2


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", "__MACOSX/._a.png", "__MACOSX/a.png", "Thumbs.db")
    touch(tmp_path, ".ipynb_checkpoints/a-checkpoint.png", "b/.DS_Store", "b/._c.tif", "b/c.tif")
    assert names(tmp_path) == ["a.png", "b/c.tif"]
    assert names(tmp_path / "b" / "*") == ["c.tif"]


def test_a_link_to_a_parent_is_followed_no_further(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "deep/b.png")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    assert names(tmp_path) == ["a.png", "deep/b.png"]


@pytest.mark.parametrize("folder", ["scan [1]", "[2026] skin", "what*now", "a?"])
def test_brackets_in_folders_stand_for_themselves(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / folder, "a.png", "b [2].png", "c.txt")
    assert names(tmp_path / folder) == ["a.png", "b [2].png"]
    assert names(tmp_path / folder / "*.png") == ["a.png", "b [2].png"]
    assert names(tmp_path / folder / "[a-b].png") == ["a.png"]
    assert names(tmp_path / folder / "b [2].png") == ["b [2].png"]


def test_an_entry_shows_that_its_file_has_changed(tmp_path: Path) -> None:
    path = touch(tmp_path, "a.png") / "a.png"
    (before,) = Listing(str(tmp_path))
    os.utime(path, ns=(1, 1))
    (after,) = Listing(str(tmp_path))
    assert before.stamp != after.stamp == "1"


def test_results_are_not_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/overlays/a.png.jpg", "out2/b.png")
    assert names(tmp_path, skip=str(tmp_path / "out")) == ["a.png", "out2/b.png"]


def test_results_are_not_listed_by_a_pattern_or_a_file_address(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/overlays/a.png.jpg", "out2/b.png")
    results = str(tmp_path / "out")
    assert names(f"{tmp_path}/**", skip=results) == ["a.png", "out2/b.png"]
    assert names(f"file://{tmp_path}", skip=results) == ["a.png", "out2/b.png"]
    assert names(tmp_path, skip=f"file://{results}") == ["a.png", "out2/b.png"]
    assert names(tmp_path, skip="s3://elsewhere/out") == names(tmp_path)


def test_a_link_to_itself_has_a_row_in_a_pattern_too(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "round.png").symlink_to("round.png")
    assert names(f"{tmp_path}/*.png") == names(tmp_path) == ["a.png", "round.png"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "elsewhere/b.png")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    assert names(tmp_path / "in") == ["a.png", "nowhere.png", "there/b.png"]


def test_undecodable_names_stay_different(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(b"image")
    touch(tmp_path, "caf\\xe9.png", "line\nbreak.png", "é.png")
    entries = list(Listing(str(tmp_path)))
    assert len({entry.image for entry in entries}) == 4
    by_name = {entry.image: entry for entry in entries}
    assert os.fsencode(by_name["caf\\xe9.png"].path) == odd
    assert by_name["caf\\\\xe9.png"].path == str(tmp_path / "caf\\xe9.png")
    write_entries(entries, tmp_path / "listing.parquet")
    assert list(read_entries(tmp_path / "listing.parquet")) == entries


@pytest.mark.parametrize("count", [0, 1, 4096, 9000])
def test_any_number_of_entries_is_stored(tmp_path: Path, count: int) -> None:
    entries = [Entry(f"{at}.png", f"/x/{at}.png", at, "s", None, 0.5 if at else None, None)
               for at in range(count)]  # fmt: skip
    assert write_entries(iter(entries), tmp_path / "listing.parquet") == count
    assert list(read_entries(tmp_path / "listing.parquet")) == entries


def test_missing_images_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"nothing-here: not found; name a folder"):
        Listing(str(tmp_path / "nothing-here"))
    with pytest.raises(CohortError, match=r"cannot be opened .*install the fsspec package"):
        Listing("nosuchkind://bucket/folder")
    assert names(tmp_path) == []


def test_a_single_file_of_any_name(tmp_path: Path) -> None:
    assert names(touch(tmp_path, "slide.dat") / "slide.dat") == ["slide.dat"]


# patterns


def test_a_pattern_names_images_from_its_first_wildcard_on(tmp_path: Path) -> None:
    touch(tmp_path, "s2/a.png", "s1/a.png", "s1/deep/b.jpg", "s1/c.txt", "t/a.png")
    assert names(tmp_path / "s*" / "*.png") == ["s1/a.png", "s2/a.png"]
    listing = Listing(f"{tmp_path}/s1/**")
    assert [entry.image for entry in listing] == ["a.png", "deep/b.jpg"]
    assert listing.left_out == 1
    assert names(tmp_path / "z*") == []


def test_a_folder_named_like_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "run[1]/a.png", "run1/b.png")
    assert names(tmp_path / "run[1]") == ["a.png"]


# manifests


def test_a_manifest_gives_every_row_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "images/b.png", "images/a.png", "images/c.png", "d.png", "nerves/a.png")
    (tmp_path / "manifest.csv").write_text(
        "image,subject,um_per_px,count,nerves\n"
        "images/b.png,S1,0.25,3,nerves/missing.png\n"
        "images/a.png,,,x,\n"
        "gone.png,S2,,,\n"
        ",S3,,,\n"
        "../outside.png,S4,,,\n"
        "/etc/passwd,S5,,,\n"
        "C:\\scans\\a.png,S5,,,\n"
        "images/c.png,S6,300,,\n"
        "images\\b.png,S7,,,\n"
        "images,S8,,,\n"
        f"{'n' * 300}.png,S9,,,\n"
        'd.png,S10,,,,,"one, too many"\n',
        encoding="utf-8",
    )
    entries = list(Listing(str(tmp_path)))
    assert list(Listing(str(tmp_path / "manifest.csv"))) == entries
    assert [(e.image, e.subject, e.um_per_px) for e in entries[:2]] == [
        ("images/b.png", "S1", 0.25), ("images/a.png", None, None),
    ]  # fmt: skip
    assert [entry.problem for entry in entries[:2]] == [None, None]
    assert len(entries) == 12
    assert len({entry.image for entry in entries}) == 12
    reasons = [
        "no such file", "no image", "leaves the cohort folder", "leaves the cohort folder",
        "leaves the cohort folder", "um_per_px '300' is not", "is also in row 2",
        "no such file", "cannot be used", "7 cells under 5 columns",
    ]  # fmt: skip
    for entry, reason in zip(entries[2:], reasons, strict=True):
        assert reason in str(entry.problem), entry
    assert entries[3].image == "manifest.csv row 5"
    assert [entry.subject for entry in entries[2:6]] == ["S2", "S3", "S4", "S5"]


def test_a_manifest_of_another_name_and_with_decimal_commas(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "list.csv").write_text("image;um_per_px\na.png;0,5\n", encoding="utf-8")
    (entry,) = Listing(str(tmp_path / "list.csv"))
    assert entry.um_per_px == 0.5


def test_a_table_that_is_not_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,subject\na.png,1\n", encoding="utf-8")
    with pytest.raises(CohortError, match="column 'image' is missing"):
        list(Listing(str(tmp_path)))


# addresses


@pytest.fixture
def bucket() -> str:
    """A folder in fsspec's memory: the same calls as for s3:// or gs://."""
    system = fsspec.filesystem("memory")
    for name in ("b.png", "deep/a.tif", "deep/notes.txt", ".hidden.png"):
        system.pipe(f"/bucket/{name}", b"image " + name.encode())
    return "memory://bucket"


def test_an_address_is_listed_and_read_like_a_folder(bucket: str) -> None:
    listing = Listing(bucket)
    entries = list(listing)
    assert [entry.image for entry in entries] == ["b.png", "deep/a.tif"]
    assert listing.left_out == 2
    assert entries[0].size == 11
    data = [listing.store.read(entry.path, ReadSettings()) for entry in entries]
    assert data == [b"image b.png", b"image deep/a.tif"]
    assert names(f"{bucket}/deep/*.tif") == ["a.tif"]
    assert names(f"{bucket}/**") == ["b.png", "deep/a.tif"]


def test_results_among_the_images_are_not_listed_at_an_address(bucket: str) -> None:
    listing = Listing(bucket, skip=f"{bucket}/deep")
    assert [entry.image for entry in listing] == ["b.png"]


def test_results_are_not_listed_by_a_pattern_at_an_address(bucket: str) -> None:
    assert names(f"{bucket}/**", skip=f"{bucket}/deep") == ["b.png"]


def test_a_file_that_cannot_be_read_at_an_address_is_an_image_error(bucket: str) -> None:
    store = Listing(bucket).store
    with pytest.raises(ImageError, match="cannot be read"):
        store.read("/bucket/gone.png", ReadSettings())
    fsspec.filesystem("memory").pipe("/bucket/large.png", bytes(16 * 10 + (1 << 20) + 1))
    with pytest.raises(ImageError, match="too large for an image within the limit"):
        store.read("/bucket/large.png", ReadSettings(max_pixels=10))
    with pytest.raises(CohortError, match=r"memory://nowhere: not found"):
        Listing("memory://nowhere")


def test_a_manifest_at_an_address(bucket: str) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/manifest.csv", b"image,subject\nb.png,S1\nno.png,S2\n")
    try:
        entries = list(Listing(bucket))
    finally:
        system.rm("/bucket/manifest.csv")
    assert [(e.image, e.subject, e.problem is None) for e in entries] == [
        ("b.png", "S1", True), ("no.png", "S2", False),
    ]  # fmt: skip


def test_an_archive_in_an_address(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.writestr("in/b.png", b"b")
        archive.writestr("in/a.png", b"a")
    listing = Listing(f"zip://in::{tmp_path}/scans.zip")
    assert [entry.image for entry in listing] == ["a.png", "b.png"]
    assert [listing.store.read(e.path, ReadSettings()) for e in listing] == [b"a", b"b"]


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert list(Listing(f"file://{tmp_path}")) == list(Listing(str(tmp_path)))


def test_passwords_are_not_shown() -> None:
    assert without_password("sftp://lab:secret@host/x") == "sftp://lab@host/x"
    assert without_password("s3://bucket/a@b") == "s3://bucket/a@b"


def test_printable_keeps_text() -> None:
    assert printable("a/é b.png") == "a/é b.png"
