"""The image is built from pinned parts, runs without rights, and holds no secret."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

from skinray.service.middleware.front import FRONT, SETTING, Front

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def arguments(word: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in LINES if line.startswith(f"{word} ")]


def test_every_base_is_pinned_to_a_patch() -> None:
    bases = arguments("FROM")
    assert bases
    assert [base for base in bases if not re.match(r"\S+:\d+\.\d+\.\d+-\S+", base)] == []


def test_packages_are_those_of_the_constraints() -> None:
    installs = [run for run in arguments("RUN") if "pip install" in run]
    assert installs
    assert all("--constraint constraints.txt" in run for run in installs)


def test_the_last_stage_runs_as_an_unprivileged_user() -> None:
    last = max(i for i, line in enumerate(LINES) if line.startswith("FROM "))
    (user,) = [line.split()[1] for line in LINES[last:] if line.startswith("USER ")]
    assert user.isdigit()
    assert int(user) > 0
    after = LINES[next(i for i, line in enumerate(LINES) if line.startswith("USER ")) :]
    assert not any(line.startswith(("RUN ", "COPY ", "ADD ")) for line in after)


def test_it_says_whether_it_is_healthy() -> None:
    (check,) = arguments("HEALTHCHECK")
    assert "/v2/health/live" in check


def test_signals_reach_python_and_not_a_shell() -> None:
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    (entry,), (more,) = arguments("ENTRYPOINT"), arguments("CMD")
    assert json.loads(entry)[:2] == ["skinray", "serve"]  # a form with brackets starts no shell
    assert json.loads(more)[0] == "--bundle"


def test_only_listed_files_go_in() -> None:
    rules = [r for r in (ROOT / ".dockerignore").read_text().splitlines() if r and r[0] != "#"]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        name.removeprefix("./")
        for line in arguments("COPY")
        if "--from" not in line
        for name in line.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_front_stands_in_rays_proxy() -> None:
    assert f"{SETTING}={FRONT}" in arguments("ENV")[0].split()
    module, _, name = FRONT.partition(":")
    assert getattr(import_module(module), name)()[0].cls is Front


def test_no_secret_is_named() -> None:
    text = "\n".join(LINES).lower()
    assert [w for w in ("password", "secret", "token", "api_key") if w in text] == []
