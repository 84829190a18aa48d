"""Who may ask ``skinray serve``: a tokens file given, one made for its user, or anyone, aloud."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from skinray.errors import SettingsError
from skinray.service.tokens import make_tokens_file, own_tokens_file, plain_token


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
