"""Tokens files: their content, changes to them, and that their tokens are never revealed."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path

import pytest

from skinray.errors import SettingsError
from skinray.service.middleware.tokens import (
    Tokens,
    make_tokens_file,
    own_tokens_file,
    plain_token,
    read_tokens,
)

ANNA, BEN, CLEO = "anna-" + "a1" * 16, "ben-" + "b2" * 16, "cleo." + "c3" * 16


def hashed(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_only_the_tokens_in_the_file_are_accepted(tmp_path: Path) -> None:
    file = written(tmp_path / "tokens", "# the lab", ANNA, "", f"  {hashed(BEN)}")
    tokens = Tokens(file)
    assert tokens.admits(ANNA.encode())
    assert tokens.admits(BEN.encode())
    near = [ANNA[:-1], ANNA + "a", ANNA.upper(), " " + ANNA, ANNA + "\n", ANNA[:-1] + "2", CLEO]
    near += ["", hashed(BEN), hashed(ANNA), "# the lab", "\xe4" * 32]
    assert [one for one in near if tokens.admits(one.encode("latin-1"))] == []


def test_a_changed_file_takes_effect_immediately(tmp_path: Path) -> None:
    file = written(tmp_path / "tokens", ANNA)
    tokens = Tokens(file)
    written(file, ANNA, BEN)  # both, while users switch
    assert tokens.admits(ANNA.encode())
    assert tokens.admits(BEN.encode())
    os.replace(written(tmp_path / "new", BEN), file)
    assert not tokens.admits(ANNA.encode())
    assert tokens.admits(BEN.encode())


def test_a_redirected_link_counts_as_a_change(tmp_path: Path) -> None:
    """This is how Kubernetes updates the files of a secret."""
    for name, token in (("one", ANNA), ("two", BEN)):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "tokens", token)
    link = tmp_path / "data"
    link.symlink_to("one")
    tokens = Tokens(link / "tokens")
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", link)
    assert tokens.admits(BEN.encode())
    assert not tokens.admits(ANNA.encode())


@pytest.mark.parametrize("broken", [None, "", "short", ANNA + "\nsecret with spaces in it all\n"])
def test_a_broken_file_admits_no_token_until_it_is_fixed(
    tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "tokens", ANNA)
    tokens = Tokens(file)
    with caplog.at_level(logging.DEBUG):
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        assert not tokens.admits(ANNA.encode())
        assert not tokens.admits(b"")
        written(file, ANNA, BEN)
        assert tokens.admits(ANNA.encode())
    assert "no token is accepted" in caplog.text
    assert "secret with" not in caplog.text
    assert ANNA not in caplog.text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("canary" * 2, "line 2 is too short"),
        ("canary canary canary canary", "line 2 is not a token"),
        ("canarÿ" * 9, "ASCII"),
        ("sha256:" + "canary" * 9, "line 2 is not a token"),
        ("sha256:" + "AB" * 32, "line 2 is not a token"),
    ],
)
def test_an_invalid_line_is_reported_by_its_number_only(
    tmp_path: Path, line: str, reason: str
) -> None:
    file = written(tmp_path / "tokens", ANNA, line)
    with pytest.raises(SettingsError, match=reason) as raised:
        read_tokens(file)
    assert "canar" not in str(raised.value).removeprefix(str(file))
    assert ANNA not in str(raised.value)


def test_an_empty_or_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no token"):
        Tokens(written(tmp_path / "tokens", "# none yet"))
    with pytest.raises(SettingsError, match="cannot be read"):
        Tokens(tmp_path / "nowhere")


def test_a_token_is_created_once_and_readable_only_by_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = own_tokens_file()
    assert make_tokens_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = plain_token(file)
    assert token is not None
    assert len(token) >= 43
    assert not make_tokens_file(file)
    assert plain_token(file) == token
    assert make_tokens_file(tmp_path / "other")
    assert plain_token(tmp_path / "other") != token


def test_hashes_cannot_be_shown_as_tokens(tmp_path: Path) -> None:
    assert plain_token(written(tmp_path / "a", hashed(ANNA))) is None
    assert plain_token(written(tmp_path / "b", hashed(ANNA), BEN)) == BEN
