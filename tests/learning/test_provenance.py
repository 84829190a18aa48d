from __future__ import annotations

import platform
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest

import skinray
from skinray.learning import provenance


def test_versions_are_those_installed() -> None:
    found = provenance.versions()
    assert found["skinray"] == skinray.__version__
    assert found["Python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert set(provenance.PACKAGES) < set(found)


def test_a_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert provenance.versions()["no-such-package"] == "not installed"


def test_the_hardware_is_one_line() -> None:
    text = provenance.hardware()
    assert " cores of " in text
    assert "\n" not in text


def test_now_is_utc_to_the_second() -> None:
    stamp = datetime.fromisoformat(provenance.now())
    assert stamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - stamp) < timedelta(minutes=5)
    assert stamp.microsecond == 0
