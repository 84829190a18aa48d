"""Which of the media types on offer a client likes best (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from skinray.service.problems import ProblemError


def negotiate(accept: str | None, offered: Sequence[str]) -> str:
    """Return the best of ``offered``; its order decides between equals.

    Parameters
    ----------
    accept : the request's header; None or empty: anything goes.

    Raises
    ------
    ProblemError
        ``not_acceptable``, if the client takes none of them.
    """
    ranges = [_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    if _quality(best, ranges) <= 0:
        raise ProblemError("not_acceptable", f"accept one of {', '.join(offered)}")
    return best


def _range(part: str) -> tuple[str, float]:
    """Split ``text/html; q=.5`` into media range and quality; one that is no number counts 0."""
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return kind, min(1.0, max(0.0, float(value)))
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that holds ``kind``; 0: none does."""
    for wanted in (kind, f"{kind.split('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
