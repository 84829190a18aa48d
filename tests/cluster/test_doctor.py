"""Each check finds the fault of a broken machine and gives the remedy."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from skinray.cli import app
from skinray.cluster import doctor
from skinray.cluster.doctor import Finding, table

GIB = 1 << 30


def test_python_too_old() -> None:
    assert doctor.python((3, 11, 0)).level == "OK"
    old = doctor.python((3, 10, 9))
    assert (old.level, old.found) == ("FAIL", "3.10.9")
    assert "3.11" in old.remedy


@pytest.mark.parametrize(
    ("found", "level"),
    [("2.56", "OK"), ("2.56.0", "OK"), ("2.60.0", "OK"), ("2.9.1", "FAIL"), ("2.56.0rc1", "FAIL"),
     ("none of all", "FAIL"), (None, "FAIL")],
)  # fmt: skip
def test_versions_are_compared_with_their_floors(found: str | None, level: str) -> None:
    (finding,) = doctor.versions(lambda _: found, {"ray": "2.56"})
    assert finding.level == level
    assert finding.remedy == ('pip install --upgrade "ray>=2.56"' if level == "FAIL" else "")


def test_this_environment_is_safe() -> None:
    assert not doctor.failed(doctor.versions(doctor.installed))
    assert doctor.installed("no-such-package-of-skinray") is None


@pytest.mark.parametrize(("free", "level"), [(0, "FAIL"), (5 * GIB, "WARN"), (50 * GIB, "OK")])
def test_space_for_runs(free: int, level: str) -> None:
    finding = doctor.space("storage", free)
    assert finding.level == level
    assert bool(finding.remedy) == (level != "OK")


def test_storage_is_tried_where_the_folder_would_be_made(tmp_path: Path) -> None:
    (finding,) = doctor.storage(tmp_path / "new" / "runs")
    assert "GiB free" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_storage_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (finding,) = doctor.storage(tmp_path / "file")
    assert finding.level == "FAIL"
    assert str(tmp_path / "file") in finding.found
    assert "--runs" in finding.remedy


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.shared_memory(tmp_path / "none").level == "WARN"
    usage = type("usage", (), {"free": 64 << 20})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert "--shm-size" in doctor.shared_memory(tmp_path).remedy


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (finding,) = doctor.ports({port: "skinray serve"})
        assert (finding.level, finding.found) == ("WARN", "in use")
        assert "skinray serve" in finding.remedy
    (finding,) = doctor.ports({port: "skinray serve"})
    assert (finding.level, finding.remedy) == ("OK", "")


def test_the_token(tmp_path: Path) -> None:
    path = tmp_path / "auth_token"
    assert doctor.token({}, path).level == "WARN"
    path.write_text("canary")
    path.chmod(0o644)
    open_to_all = doctor.token({}, path)
    assert (open_to_all.level, open_to_all.remedy) == ("FAIL", f"chmod 600 {path}")
    path.chmod(0o600)
    assert doctor.token({}, path).level == "OK"
    assert doctor.token({"RAY_ADDRESS": "head:6379"}, path).level == "WARN"
    assert doctor.token({"RAY_ADDRESS": "x", "RAY_AUTH_MODE": "token"}, path).level == "OK"
    assert doctor.token({"RAY_AUTH_MODE": "disabled"}, path).level == "FAIL"
    elsewhere = {"RAY_AUTH_TOKEN_PATH": str(path)}
    assert doctor.token(elsewhere, tmp_path / "none").level == "OK"
    said = [doctor.token({"RAY_AUTH_TOKEN": "canary"}, path), doctor.token({}, path)]
    assert not any("canary" in str(finding) for finding in said)


def test_gpu_and_weights_are_findings() -> None:
    for finding in (doctor.gpu(), doctor.weights()):
        assert finding.level == "OK" or finding.remedy


def test_only_what_must_be_fixed_fails() -> None:
    assert not doctor.failed([Finding("a", "OK", ""), Finding("b", "WARN", "", "x")])
    assert doctor.failed([Finding("a", "OK", ""), Finding("b", "FAIL", "", "x")])


def test_the_table_shows_every_text_as_it_is() -> None:
    out = io.StringIO()
    odd = Finding("storage /x[bold]", "FAIL", "[/red] full", "free [some] space")
    Console(file=out, width=120).print(table([odd, Finding("GPU", "OK", "none")]))
    assert all(text in out.getvalue() for text in ("/x[bold]", "[/red] full", "free [some] space"))
    assert "FAIL" in out.getvalue()


def test_everything_is_checked(tmp_path: Path) -> None:
    found = {finding.what for finding in doctor.examine(tmp_path, dict(os.environ))}
    assert {"Python", "GPU", "weights", "Ray token", "shared memory", "port 8000"} <= found
    assert set(doctor.FLOORS) <= found
    assert f"storage {tmp_path}" in found


@pytest.mark.parametrize(("level", "code"), [("OK", 0), ("WARN", 0), ("FAIL", 1)])
def test_the_exit_code_is_1_if_something_must_be_fixed(
    level: doctor.Level, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def examine(folder: Path) -> list[Finding]:
        asked.append(folder)
        return [Finding("disk", level, "so and so", "do this")]

    monkeypatch.setattr(doctor, "examine", examine)
    ended = CliRunner().invoke(app, ["doctor", "--runs", str(tmp_path)])
    assert ended.exit_code == code
    assert asked == [tmp_path]
    assert all(text in ended.output for text in (level, "disk", "so and so", "do this"))
