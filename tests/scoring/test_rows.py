"""Rows of scored images, parts that are committed whole, and who owns a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.stand_in import stand_in_bundle
from skinray.config.scoring import ScoreSettings
from skinray.crossings.detect import CrossingsRecord
from skinray.errors import ImageError, SettingsError, SkinrayError
from skinray.images.cohort.common_scale import refuse_too_large
from skinray.images.file_errors import UnreadableImageError
from skinray.learning.bundle.info import read_info
from skinray.scoring.entries import Entry
from skinray.scoring.ledger import Ledger
from skinray.scoring.rows import (
    Scored,
    commit,
    committed,
    content_key,
    reason_of,
    result_of,
)
from skinray.scoring.run_folder import alone, claim_folder, clear_traces, refuse_foreign
from skinray.scoring.run_store import LocalOutput
from skinray.scoring.score_image import Job

# rows


def test_a_reason_is_one_line_without_the_image() -> None:
    assert reason_of(UnreadableImageError("a.png", "empty", "copy it")) == "empty: copy it"
    assert reason_of(SkinrayError("a map\nof NaN")) == "a map of NaN"
    assert "does not fit in memory" in reason_of(MemoryError())
    assert "RuntimeError: boom" in reason_of(RuntimeError("boom"))
    assert len(reason_of(RuntimeError("x" * 10_000))) == 500
    reason_of(RuntimeError("\udce9")).encode()


def test_identity_separates_versions_and_key_separates_contents() -> None:
    entry = Entry("a", "/a", 1, "s")
    others = [Entry("a", "/a", 2, "s"), Entry("a", "/a", 1, "t"), Entry("a", "/a", 1, "s", None, 1)]
    assert len({each.identity for each in (entry, *others)}) == 4
    assert entry.identity == Entry("b", "/b", 1, "s", "subject").identity
    assert len({content_key("x", None), content_key("x", 0.5), content_key("y", None)}) == 3


def test_a_wrong_scale_does_not_make_an_image_huge() -> None:
    refuse_too_large((1000, 1000), 20, None, 10)
    refuse_too_large((1000, 1000), 0.1, 0.5, 1000)  # shrinks
    refuse_too_large((1000, 1000), 1.0, 0.5, 4_000_000)
    with pytest.raises(ImageError, match=r"1600 megapixels .*correct um_per_px"):
        refuse_too_large((1000, 1000), 20, 0.5, 250_000_000)


# parts and ledger


def entry(image: str, **facts: object) -> Entry:
    return Entry(image, f"/in/{image}", 1, "s", **facts)  # type: ignore[arg-type]


def result(image: str, sha: str, crossings: int = 1) -> Scored:
    count = CrossingsRecord(
        count=crossings, boundary_px=0.1 + 0.2, boundary_mm=None, density_per_mm=None,
        um_per_px=None, width=4, height=3, points=[(1 / 3, 2.0)] * crossings,
    )  # fmt: skip
    key = content_key(sha, None)
    return Scored(image, entry(image).identity, key, sha, "ok", None, count)


def same(image: str, sha: str) -> Scored:
    return Scored(image, entry(image).identity, content_key(sha, None), sha, "same")


@pytest.fixture
def out(tmp_path: Path) -> LocalOutput:
    return LocalOutput(tmp_path)


def test_a_retried_batch_replaces_its_part(out: LocalOutput) -> None:
    first = commit(out, [result("a", "1"), result("b", "2")])
    assert commit(out, [result("b", "2"), result("a", "1")]) == first
    commit(out, [result("a", "other content")])
    assert len(list(committed(out))) == 2
    assert not [path for path in (out.root / "parts").iterdir() if path.name.startswith(".")]


def test_a_truncated_part_is_ignored(out: LocalOutput) -> None:
    part = out.root / "parts" / commit(out, [result("a", "1")])
    part.write_bytes(part.read_bytes()[:-9])
    assert list(committed(out)) == []


def test_the_ledger_knows_pending_images_and_joins_equal_ones(out: LocalOutput) -> None:
    listing = [entry(name) for name in ("b", "a", "twin", "lost", "late")]
    listing.append(entry("bad", problem="no such file: restore it"))
    commit(out, [same("b", "1"), result("a", "2", 0)])
    with Ledger() as ledger:
        ledger.add_listing(listing)
        ledger.add_parts(committed(out))
        # b waits for a result of its content that nobody has committed.
        assert [e.image for e in ledger.pending()] == ["b", "twin", "lost", "late"]
        commit(out, [result("twin", "1", 2)])
        commit(out, [result("late", "2", 0)])
        commit(out, [Scored("elsewhere", "", None, None, "failed", "gone")])
        ledger.add_parts(committed(out))
        ledger.add_parts(committed(out))
        assert list(ledger.pending()) == [entry("lost")]
        assert set(ledger.contents()) == {content_key("1", None), content_key("2", None)}
        rows = list(ledger.rows())
        assert rows == list(ledger.rows())
    assert [row["image"] for row in rows] == [e.image for e in listing]
    assert [row["duplicate_of"] for row in rows] == [None, None, "b", None, "a", None]
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", None, "ok", None]
    assert rows[0]["source"] == "twin"
    assert result_of(rows[0]["result"]) == result("twin", "1", 2).result
    assert rows[5]["problem"] == "no such file: restore it"


def test_a_result_replaces_a_row_that_waited(out: LocalOutput) -> None:
    commit(out, [same("a", "1"), result("z", "9")])
    commit(out, [result("a", "1")])
    for order in (1, -1):
        with Ledger() as ledger:
            ledger.add_listing([entry("a")])
            ledger.add_parts(list(committed(out))[::order])
            assert list(ledger.pending()) == []
            assert [row["status"] for row in ledger.rows()] == ["ok"]


def test_a_resumed_run_retries_images_that_could_not_be_read(out: LocalOutput) -> None:
    unread = Scored("a", entry("a").identity, None, None, "failed", "no such file")
    spoilt = Scored("b", entry("b").identity, "k", "k", "failed", "damaged")
    commit(out, [unread, spoilt])
    listing = [entry("a"), entry("b")]
    with Ledger() as ledger:
        ledger.add_listing(listing)
        ledger.add_parts(committed(out), retry=True)
        assert list(ledger.pending()) == [entry("a")]
        ledger.add_parts(
            committed(out, ledger.parts())
        )  # it failed again, in a part of the same name
        assert list(ledger.pending()) == []
        assert [row["error"] for row in ledger.rows()] == ["no such file", "damaged"]
        commit(out, [result("a", "1")])
        ledger.add_parts(committed(out, ledger.parts()))
        assert [row["status"] for row in ledger.rows()] == ["ok", "failed"]


def test_a_changed_file_is_pending(out: LocalOutput) -> None:
    commit(out, [result("a", "1")])
    with Ledger() as ledger:
        changed = Entry("a", "/in/a", 1, "later")
        ledger.add_listing([changed])
        ledger.add_parts(committed(out))
        assert list(ledger.pending()) == [changed]


def test_a_picture_is_never_that_of_another_image_with_the_same_name(out: LocalOutput) -> None:
    """a was renamed to b, and another image is now a: the files named a are not b's."""
    commit(out, [result("a", "1")])
    renamed, another = entry("b"), Entry("a", "/in/a", 2, "later")
    with Ledger() as ledger:
        ledger.add_listing([another, renamed])
        ledger.add_parts(committed(out), retry=True)
        assert list(ledger.contents()) == []
        assert list(ledger.pending()) == [another, renamed]
        commit(out, [result("b", "1", 2)])
        ledger.add_parts(committed(out, ledger.parts()))
        assert [row["source"] for row in ledger.rows()] == [None, "b"]


def test_a_result_in_a_part_of_the_same_name_is_seen(out: LocalOutput) -> None:
    waiting = commit(out, [same("b", "1")])
    with Ledger() as ledger:
        ledger.add_listing([entry("a"), entry("b")])
        ledger.add_parts(committed(out), retry=True)
        assert [e.image for e in ledger.pending()] == ["a", "b"]
        assert commit(out, [result("b", "1")]) == waiting
        commit(out, [same("a", "1")])
        ledger.add_parts(committed(out, ledger.parts()))
        assert list(ledger.pending()) == []
        assert [row["status"] for row in ledger.rows()] == ["ok", "ok"]


# the folder


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    bundle = stand_in_bundle(tmp_path / "bundle")
    info, out, settings = read_info(bundle), tmp_path / "out", ScoreSettings()

    def claim(resume: bool = True, images: str = "in", info=info, **changes: object) -> None:
        job = Job(images, str(bundle), info, LocalOutput(out), settings.override(changes))
        claim_folder(job, resume=resume)

    claim(resume=False)
    told = (out / "run.json").read_text()
    assert json.loads(told)["bundle"] == info.id
    with pytest.raises(SettingsError, match="holds a run; add --resume"):
        claim(resume=False)
    claim(layout="separate", images_per_part=2)  # only how the work is spread
    for changes in ({"um_per_px": 0.5}, {"overlays": False}, {"read.max_pixels": 5}):
        with pytest.raises(SettingsError, match="its run had other settings"):
            claim(**changes)
    with pytest.raises(SettingsError, match="its run had other images"):
        claim(images="elsewhere")
    other = read_info(stand_in_bundle(tmp_path / "other", um_per_px=0.25))
    with pytest.raises(SettingsError, match="its run had another bundle"):
        claim(info=other)
    assert (out / "run.json").read_text() == told
    (out / "parts" / ".half").touch()
    clear_traces(LocalOutput(out))
    assert list((out / "parts").iterdir()) == []


def test_only_one_process_works_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    for _ in range(2):  # the lock is released
        with (
            alone(LocalOutput(tmp_path)),
            pytest.raises(SettingsError, match="another process is working"),
            alone(LocalOutput(tmp_path)),
        ):
            pass


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, reason in ((tmp_path, "not empty and not a run"),
                          (tmp_path / "file", "is a file")):  # fmt: skip
        with pytest.raises(SettingsError, match=reason):
            refuse_foreign(LocalOutput(place), resume=True)
    assert refuse_foreign(LocalOutput(tmp_path / "new"), resume=True) is False
