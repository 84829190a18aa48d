"""A run's files by name: a folder and an address behave the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from skinray.config.images import ReadSettings
from skinray.errors import SettingsError, StorageError
from skinray.scoring import object_store
from skinray.scoring.image_store import RemoteStore
from skinray.scoring.object_store import steadily
from skinray.scoring.run_store import LocalOutput, Output, RemoteOutput, open_output


@pytest.fixture(params=["folder", "address"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Output]:
    if request.param == "folder":
        yield open_output(tmp_path / "run")
        return
    yield open_output("memory://outputs/run/")
    if fsspec.filesystem("memory").exists("/outputs"):
        fsspec.filesystem("memory").rm("/outputs", recursive=True)


def test_files_are_written_read_listed_copied_and_removed(out: Output) -> None:
    assert out.files("") == []
    out.write("a/b.bin", b"1")
    out.write("a/b.bin", b"2", durable=True)
    out.write("c.bin", b"3")
    assert out.read("a/b.bin") == b"2"
    out.copy("a/b.bin", "a/deep/d.bin")
    out.copy("a/not there", "e.bin")
    assert out.files("") == ["a", "c.bin"]
    assert out.files("a") == ["b.bin", "deep"]
    assert out.read("a/deep/d.bin") == b"2"
    out.remove("a")
    out.remove("a")
    out.remove("c.bin")
    assert out.files("a") == []
    with pytest.raises(FileNotFoundError):
        out.read("c.bin")


def test_files_of_the_desk_are_published(out: Output) -> None:
    out.write("run.json", b"{}")
    with out.desk() as desk:
        out.fetch(desk, "run.json")
        out.fetch(desk, "pictures/none.jpg")
        assert (desk / "run.json").read_bytes() == b"{}"
        assert not (desk / "pictures/none.jpg").exists()
        (desk / "more").mkdir()
        for name in ("table", "more/x"):
            (desk / name).write_bytes(name.encode())
            out.publish(desk, name)
    assert out.read("table") == b"table"
    assert out.read("more/x") == b"more/x"


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    out = LocalOutput(tmp_path)
    out.write("ü" * 110 + ".jpg", b"1")
    assert out.files("") == ["ü" * 110 + ".jpg"]


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    assert open_output(f"file://{tmp_path}") == LocalOutput(tmp_path)


def test_an_unknown_kind_of_address_is_refused() -> None:
    with pytest.raises(SettingsError, match="install the fsspec package"):
        open_output("nonesuch://x/y")
    assert str(RemoteOutput("sftp://lab:secret@host/x")) == "sftp://lab@host/x"


def test_a_refusal_by_the_store_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError("When writing: AWS Error ACCESS_DENIED")

    monkeypatch.setattr(object_store.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", refuses)
    with pytest.raises(StorageError, match=r"memory://x: .*ACCESS_DENIED.*check .* their rights"):
        RemoteOutput("memory://x").write("a", b"")


# a store that fails


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made; only they move the clock."""
    pauses: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", pauses.append)
    monkeypatch.setattr(object_store.time, "monotonic", lambda: sum(pauses))
    return pauses


def broken(times: int) -> list[OSError]:
    return [OSError("connection refused") for _ in range(times)]


def test_a_store_that_comes_back_is_waited_for(waits: list[float]) -> None:
    left = broken(9)

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    def away() -> None:
        raise OSError("connection refused")

    assert steadily(call, away, "s3://lab") == "done"
    assert 20 < sum(waits) < 60


def test_a_store_that_stays_away_is_a_storage_error(waits: list[float]) -> None:
    def away() -> None:
        raise OSError("connection refused")

    with pytest.raises(StorageError, match=r"s3://lab: did not answer for 120 s .*--resume"):
        steadily(away, away, "s3://lab")
    assert object_store.PATIENCE_S <= sum(waits) < object_store.PATIENCE_S + 10


def test_a_file_that_fails_while_the_store_answers_is_to_blame(waits: list[float]) -> None:
    def fails() -> None:
        raise OSError("bad block")

    def not_found() -> None:
        raise FileNotFoundError

    for answers in (lambda: None, not_found):
        waits.clear()
        with pytest.raises(OSError, match="bad block"):
            steadily(fails, answers, "s3://lab")
        assert len(waits) == object_store.ATTEMPTS - 1
    waits.clear()
    with pytest.raises(FileNotFoundError):
        steadily(not_found, not_found, "s3://lab")
    assert waits == []


@pytest.mark.parametrize("down", range(1, 12))
def test_no_file_is_blamed_when_the_store_comes_back(waits: list[float], down: int) -> None:
    """It comes back between two requests, also between a call and the check that follows."""
    requests = iter(range(99))

    def request() -> str:
        if next(requests) < down:
            raise OSError("connection refused")
        return "done"

    assert steadily(request, request, "s3://lab") == "done"


def test_a_file_cut_short_by_the_connection_is_read_again(waits: list[float]) -> None:
    class Breaking:
        left = 2

        def info(self, path: str) -> dict[str, int]:
            return {"size": 6}

        def cat_file(self, path: str) -> bytes:
            self.left -= 1
            return b"abc" if self.left >= 0 else b"abcdef"

    assert RemoteStore(Breaking()).read("lab/a.png", ReadSettings()) == b"abcdef"
