"""Pinned versions are at or above those without a known fault of security."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from skinray.cluster.doctor import FLOORS, LEAST_PYTHON

ROOT = Path(__file__).parents[2]
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"])}


def test_every_line_of_the_constraints_is_an_exact_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
    assert len(PINS) == sum(not line.startswith("#") for line in lines)


@pytest.mark.parametrize("package", FLOORS)
def test_no_pin_and_no_floor_of_ours_is_unsafe(package: str) -> None:
    name, floor = canonicalize_name(package), Version(FLOORS[package])
    assert PINS[name] >= floor
    (least,) = (s.version for s in WANTED[name].specifier if s.operator == ">=")
    assert Version(least) >= floor


def test_every_dependency_is_pinned_within_its_own_bounds() -> None:
    for name, requirement in WANTED.items():
        assert requirement.specifier.contains(PINS[name]), name


def test_python_is_the_one_the_project_names() -> None:
    assert PROJECT["requires-python"] == ">=" + ".".join(map(str, LEAST_PYTHON))
