"""Which media type a client gets."""

from __future__ import annotations

import pytest

from skinray.service.problems import ProblemError
from skinray.service.routes.one_image import negotiate

OFFERED = ("application/json", "application/geo+json", "image/png")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/png"),
        ("application/geo+json, application/json;q=0.9", "application/geo+json"),
        ("text/html, application/json;q=.2, image/png; q=.3", "image/png"),
        ("application/json;q=0, */*;q=.1", "application/geo+json"),
        ("*/*, application/json;q=.5, application/geo+json;q=.5", "image/png"),
        ("application/json;version=1", "application/json"),
    ],
)
def test_the_best_quality_wins_then_the_order(accept, kind):
    assert negotiate(accept, OFFERED) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/png;q=x", "audio/*", ","])
def test_unavailable_media_types_are_refused(accept):
    with pytest.raises(ProblemError) as caught:
        negotiate(accept, OFFERED)
    assert caught.value.reason == "not_acceptable"
