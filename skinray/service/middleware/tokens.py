"""The tokens that the service lets in: from a file that is read again whenever it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from skinray.errors import SettingsError

LOG = logging.getLogger("skinray.service")
# Names the file where neither an option nor a setting does.
ENVIRONMENT = "SKINRAY_TOKENS_FILE"
# Shorter ones can be guessed; what is made here has 43 letters (256 bits).
LEAST_LETTERS = 20
_PLAIN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")


class Tokens:
    """Says whether a token is one of the file's; keeps their hashes alone.

    A file that vanishes or does not fit lets no one in until it is mended: a token that was taken
    out of it must not live on.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; SettingsError where it cannot be read or a line of it does not fit."""
        self._path = path
        self._state = _state(path)
        self._hashes = [_digest(entry) for entry in read_tokens(path)]

    def admits(self, token: bytes) -> bool:
        """Whether this is a token of the file as it is now.

        The time it takes tells nothing: hashes are compared, each to its end, and all of them.
        """
        self._refresh()
        given = hashlib.sha256(token).digest()
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(given, known)
        return found

    def _refresh(self) -> None:
        state = _state(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            self._hashes = [_digest(entry) for entry in read_tokens(self._path)]
            LOG.info("tokens read again: %d", len(self._hashes))
        except SettingsError as error:
            self._hashes = []
            LOG.error("no one is let in until this is mended: %s", error)


def read_tokens(path: Path) -> list[str]:
    """Return the entries of a tokens file: one a line, as it is or as ``sha256:`` and 64 digits.

    Empty lines and those that begin with ``#`` are passed over.

    Raises
    ------
    SettingsError
        If it cannot be read, holds no token, or a line does not fit; no line is quoted.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise SettingsError(
            f"{path}: tokens cannot be read ({error.strerror}); write one token a line"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: holds letters that no token has; write ASCII") from None
    found = []
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not _HASHED.fullmatch(entry):
            if not _PLAIN.fullmatch(entry):
                raise SettingsError(f"{path}: line {number} is no token; write one a line")
            if len(entry) < LEAST_LETTERS:
                raise SettingsError(
                    f"{path}: line {number} is too short for a token; take at least "
                    f"{LEAST_LETTERS} letters, as `openssl rand -hex 32` gives"
                )
        found.append(entry)
    if not found:
        raise SettingsError(f"{path}: holds no token; write one a line")
    return found


def plain_token(path: Path) -> str | None:
    """Return the first token that stands there as it is; None where all are hashes."""
    return next((one for one in read_tokens(path) if not _HASHED.fullmatch(one)), None)


def make_tokens_file(path: Path) -> bool:
    """Write a file with one new token that its owner alone may read; False where one lies there.

    Raises
    ------
    SettingsError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise SettingsError(
            f"{path}: a token cannot be stored ({error.strerror}); name a file with --tokens"
        ) from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    return True


def own_tokens_file() -> Path:
    """Return where ``skinray serve`` keeps the token that it makes for this user."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "skinray" / "tokens"


def _digest(entry: str) -> bytes:
    hashed = _HASHED.fullmatch(entry)
    return bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(entry.encode()).digest()


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with a file, also where another one takes its name."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


@dataclass(frozen=True)
class Access:
    """The tokens file of a service; None: anyone may ask."""

    tokens: Path | None

    def settings(self) -> dict[str, Any]:
        """Return the values of ``ServiceSettings`` that say so."""
        if self.tokens is None:
            return {"without_tokens": True}
        return {"tokens": str(self.tokens)}

    def words(self, address: str, to_person: bool) -> str:
        """Return what is said once the service is ready.

        The token stands in it for a person at a terminal alone: what is written to a file or to
        the system's log would keep it.
        """
        token = None if self.tokens is None else plain_token(self.tokens)
        handed = f"#token={token}" if token is not None and to_person else ""
        if self.tokens is None:
            who = "NO TOKEN is asked for: every user and program of this machine may use it."
        else:
            who = f"Tokens: {self.tokens}"
        return f"Page: {address}/{handed}\nInterface: {address}/docs\n{who}\nCtrl-C ends it."


def choose_access(host: str, tokens: Path | None, without_tokens: bool) -> Access:
    """Decide on the options of ``skinray serve``; makes this user's own token where none is named.

    Raises
    ------
    SettingsError
        If both are asked for, or none is to be shown on an address that others reach.
    """
    if without_tokens:
        if tokens is not None:
            raise SettingsError("--tokens and --without-tokens: take one of them")
        if not _is_loopback(host):
            raise SettingsError(
                f"--without-tokens at {host} would let in everyone who reaches it: leave it out, "
                "or listen at 127.0.0.1"
            )
        return Access(None)
    if tokens is not None:
        return Access(tokens.expanduser().absolute())
    own = own_tokens_file()
    make_tokens_file(own)
    return Access(own)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
