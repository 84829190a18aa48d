"""The service's tokens: the file that lists them, and the options that choose or create it.

The file is read again whenever it changes. :func:`choose_access` decides for ``skinray serve``
whether a token is needed, and :class:`Access` says so to the user.
"""

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
# Names the file if neither an option nor a setting does.
ENVIRONMENT = "SKINRAY_TOKENS_FILE"
# Shorter ones can be guessed; those created here have 43 characters (256 bits).
MIN_CHARACTERS = 20
_PLAIN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")


class Tokens:
    """Checks whether a token is in the file; only hashes are kept in memory.

    If the file disappears or becomes invalid, no token is accepted until it is fixed: a token that
    was removed must not stay valid.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; SettingsError if it cannot be read or a line is invalid."""
        self._path = path
        self._state = _state(path)
        self._hashes = [_digest(entry) for entry in read_tokens(path)]

    def admits(self, token: bytes) -> bool:
        """Whether this token is in the file as it is now.

        The time taken reveals nothing: every hash is compared, each in constant time.
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
            LOG.info("tokens file read again: %d tokens", len(self._hashes))
        except SettingsError as error:
            self._hashes = []
            LOG.error("no token is accepted until this is fixed: %s", error)


def read_tokens(path: Path) -> list[str]:
    """Return the entries of a tokens file, one per line: plain, or ``sha256:`` and 64 hex digits.

    Empty lines and those that begin with ``#`` are skipped.

    Raises
    ------
    SettingsError
        If it cannot be read, holds no token, or a line is invalid; no line is quoted.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise SettingsError(
            f"{path}: tokens cannot be read ({error.strerror}); write one token per line"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: contains a character that is not ASCII") from None
    found = []
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not _HASHED.fullmatch(entry):
            if not _PLAIN.fullmatch(entry):
                raise SettingsError(f"{path}: line {number} is not a token; write one per line")
            if len(entry) < MIN_CHARACTERS:
                raise SettingsError(
                    f"{path}: line {number} is too short for a token; use at least "
                    f"{MIN_CHARACTERS} characters, for example from `openssl rand -hex 32`"
                )
        found.append(entry)
    if not found:
        raise SettingsError(f"{path}: holds no token; write one per line")
    return found


def plain_token(path: Path) -> str | None:
    """Return the first plain token; None if all are hashes."""
    return next((one for one in read_tokens(path) if not _HASHED.fullmatch(one)), None)


def make_tokens_file(path: Path) -> bool:
    """Write a file with one new token, readable only by its owner; False if the file exists.

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
            f"{path}: cannot store a token ({error.strerror}); name another file with --tokens"
        ) from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    return True


def own_tokens_file() -> Path:
    """Return where ``skinray serve`` keeps the token that it creates for this user."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "skinray" / "tokens"


def _digest(entry: str) -> bytes:
    hashed = _HASHED.fullmatch(entry)
    return bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(entry.encode()).digest()


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with a file, also when another one replaces it."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


@dataclass(frozen=True)
class Access:
    """The tokens file of a service; None: no token is needed."""

    tokens: Path | None

    def settings(self) -> dict[str, Any]:
        """Return the corresponding values of ``ServiceSettings``."""
        if self.tokens is None:
            return {"without_tokens": True}
        return {"tokens": str(self.tokens)}

    def words(self, address: str, to_person: bool) -> str:
        """Return the message for when the service is ready.

        It contains the token only for a person at a terminal: a file or the system's log would
        keep it.
        """
        token = None if self.tokens is None else plain_token(self.tokens)
        handed = f"#token={token}" if token is not None and to_person else ""
        if self.tokens is None:
            who = "NO TOKEN is needed: every user and program on this machine may use the service."
        else:
            who = f"Tokens: {self.tokens}"
        return f"Page: {address}/{handed}\nAPI: {address}/docs\n{who}\nPress Ctrl-C to stop."


def choose_access(host: str, tokens: Path | None, without_tokens: bool) -> Access:
    """Apply the options of ``skinray serve``; creates a token for this user if no file is named.

    Raises
    ------
    SettingsError
        If both options are given, or no token is to be needed at an address that others can reach.
    """
    if without_tokens:
        if tokens is not None:
            raise SettingsError("--tokens and --without-tokens: use only one of them")
        if not _is_loopback(host):
            raise SettingsError(
                f"--without-tokens at {host} would let in everyone who can reach it: leave it out, "
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
