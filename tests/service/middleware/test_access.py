"""Who may use `skinray serve`: what its options decide, and what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from skinray.errors import SettingsError
from skinray.service.middleware.tokens import choose_access, plain_token


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_without_options_a_token_is_created_and_kept(home: Path) -> None:
    access = choose_access("127.0.0.1", None, False)
    assert access.settings() == {"tokens": str(home / "skinray" / "tokens")}
    token = plain_token(home / "skinray" / "tokens")
    assert choose_access("192.168.1.4", None, False) == access
    assert f"/#token={token}" in access.words("http://127.0.0.1:8000", to_person=True)


def test_the_token_is_shown_only_to_a_person(home: Path) -> None:
    access = choose_access("127.0.0.1", None, False)
    words = access.words("http://127.0.0.1:8000", to_person=False)
    assert str(plain_token(home / "skinray" / "tokens")) not in words
    assert str(home / "skinray" / "tokens") in words


def test_no_token_is_announced_and_possible_only_on_loopback(home: Path) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        access = choose_access(host, None, True)
        assert access.settings() == {"without_tokens": True}
        assert "NO TOKEN" in access.words("http://127.0.0.1:8000", to_person=True)
    for host in ("::", "192.168.1.4", "lab.example"):
        with pytest.raises(SettingsError, match="let in everyone"):
            choose_access(host, None, True)
    assert list(home.iterdir()) == []  # then no token is created


def test_a_tokens_file_and_no_tokens_exclude_each_other(home: Path) -> None:
    with pytest.raises(SettingsError, match="one of them"):
        choose_access("127.0.0.1", home / "tokens", True)
    assert choose_access("127.0.0.1", home / "tokens", False).tokens == home / "tokens"
