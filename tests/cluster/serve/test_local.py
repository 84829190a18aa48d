"""``skinray serve`` on this machine: immediate refusals, and a run from start to Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from benchmarks.serve.running import free_port
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.service.middleware.tokens import ENVIRONMENT
from tests.support.commands import Command
from tests.support.served import png, post


def test_invalid_options_are_refused_before_anything_starts(
    skinray: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ended = skinray("serve", "--bundle", tmp_path)
    assert (ended.code, "no bundle.json" in ended.err) == (1, True)
    bundle = stand_in_bundle(tmp_path / "bundle")
    ended = skinray("serve", "--bundle", bundle, "--layout", "melted")
    assert (ended.code, "layout" in ended.err) == (1, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = skinray("serve", "--bundle", bundle, "--port", taken.getsockname()[1])
    assert (ended.code, "--port" in ended.err) == (1, True)
    ended = skinray("serve", "--bundle", bundle, "--tokens", tmp_path / "none")
    assert (ended.code, "tokens cannot be read" in ended.err) == (1, True)
    ended = skinray("serve", "--bundle", bundle, "--host", "0.0.0.0", "--without-tokens")  # noqa: S104
    assert (ended.code, "let in everyone" in ended.err) == (1, True)
    for labels in (tmp_path / "note.txt", tmp_path / "note.txt" / "below"):
        (tmp_path / "note.txt").write_text("not a folder")
        ended = skinray("serve", "--bundle", bundle, "--labels", labels)
        assert (ended.code, "note.txt: a file, but" in ended.err, "--labels" in ended.err) == (
            1, True, True,
        )  # fmt: skip
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    new = tmp_path / "new" / "cohort"  # is made when the first label is stored
    ended = skinray("serve", "--bundle", bundle, "--labels", new)
    assert (ended.code, "serve deploy" in ended.err) == (1, True)
    ended = skinray("serve", "--bundle", bundle)
    assert (ended.code, "serve deploy" in ended.err) == (1, True)


@pytest.mark.ray
@pytest.mark.slow
def test_the_service_answers_until_it_is_stopped(tmp_path: Path) -> None:
    port, bundle = free_port(), stand_in_bundle(tmp_path / "bundle")
    command = [sys.executable, "-c", "from skinray.cli import main; main()", "serve"]
    command += ["--bundle", str(bundle), "--port", str(port)]
    env = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", ENVIRONMENT)}
    env["XDG_STATE_HOME"] = str(tmp_path / "state")
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=env)
    until = time.monotonic() + 120
    while f"http://127.0.0.1:{port}/docs" not in (tmp_path / "said").read_text():
        assert process.poll() is None, (tmp_path / "said").read_text()
        assert time.monotonic() < until
        time.sleep(0.2)
    assert post(f"http://127.0.0.1:{port}", png(drawn_image())).status_code == 401
    token = (tmp_path / "state" / "skinray" / "tokens").read_text().strip()
    assert token not in (tmp_path / "said").read_text()  # a file is not a person
    answer = post(f"http://127.0.0.1:{port}", png(drawn_image()), token=token)
    assert answer.json()["count"] == 2
    assert "<html" in requests.get(f"http://127.0.0.1:{port}/", timeout=30).text
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in (tmp_path / "said").read_text()
