"""Check that this machine can train, score and serve, and say how to fix what cannot.

Each check looks at one thing and returns findings. A check changes nothing, except that it writes
and removes a file to test a folder. Nothing starts Ray.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from packaging.version import InvalidVersion, Version
from rich.table import Table
from rich.text import Text

Level = Literal["OK", "WARN", "FAIL"]

LEAST_PYTHON = (3, 11)
# The first versions without a known vulnerability that a stranger or a file could exploit.
FLOORS = {
    "ray": "2.56",
    "torch": "2.11",
    "Pillow": "13.0.0",
    "opencv-python": "4.12",
    "starlette": "1.3.1",
    "python-multipart": "0.0.27",
    "pyarrow": "14.0.1",
}
# A run keeps checkpoints of two networks for each trial; with less than the first it cannot start.
FAIL_BELOW_BYTES = 1 << 30
WARN_BELOW_BYTES = 10 << 30
# Serve's HTTP port, and the dashboard's port, which also takes jobs.
PORTS = {8000: "skinray serve", 8265: "Ray's dashboard and jobs"}
# Rights on a file with a secret that nobody but its owner may have.
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was checked, its state, and what to do."""

    what: str
    level: Level
    found: str
    remedy: str = ""


def examine(folder: Path, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Return every finding; ``folder`` is where runs will be written."""
    return [
        python(sys.version_info[:3]),
        *versions(installed),
        gpu(),
        *storage(folder),
        shared_memory(Path("/dev/shm")),  # noqa: S108 - where Ray keeps its objects
        weights(),
        *ports(PORTS),
        token(environment, Path.home() / ".ray" / "auth_token"),
    ]


def failed(findings: Iterable[Finding]) -> bool:
    """Whether anything must be fixed first."""
    return any(finding.level == "FAIL" for finding in findings)


def python(running: tuple[int, ...]) -> Finding:
    """Check the interpreter's version."""
    found, least = (".".join(map(str, numbers)) for numbers in (running, LEAST_PYTHON))
    if running >= LEAST_PYTHON:
        return Finding("Python", "OK", found)
    return Finding("Python", "FAIL", found, f"install skinray with Python {least} or newer")


def installed(package: str) -> str | None:
    """Return a package's version; None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions(
    of: Callable[[str], str | None], floors: Mapping[str, str] = FLOORS
) -> Iterable[Finding]:
    """Check each package against its floor."""
    for package, floor in floors.items():
        found, remedy = of(package), f'pip install --upgrade "{package}>={floor}"'
        if found is None:
            yield Finding(package, "FAIL", "missing", remedy)
        elif below(found, floor):
            yield Finding(package, "FAIL", f"{found}, unsafe below {floor}", remedy)
        else:
            yield Finding(package, "OK", found)


def below(found: str, floor: str) -> bool:
    """Whether a version is below the floor; a version that cannot be read counts as below."""
    try:
        return Version(found) < Version(floor)
    except InvalidVersion:
        return True


def gpu() -> Finding:
    """Check for a GPU that torch can use."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("GPU", "OK", ", ".join(names))
    if Path("/proc/driver/nvidia").exists():
        remedy = "install the driver for the CUDA version that torch was built with, then restart"
        return Finding("GPU", "FAIL", "installed, but torch cannot use it", remedy)
    remedy = "enough for scoring and the demo; use a machine with a GPU for --recipe paper"
    return Finding("GPU", "WARN", "none", remedy)


def storage(folder: Path) -> Iterable[Finding]:
    """Check that runs can be written to ``folder``, or to the folder it would be created in."""
    what = f"storage {folder}"
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there) as probe:
            probe.write(b"skinray")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        remedy = "choose another folder with --runs, or give yourself the right to write there"
        yield Finding(what, "FAIL", f"{there} cannot be written: {error.strerror}", remedy)
        return
    yield space(what, shutil.disk_usage(there).free)


def space(what: str, free: int) -> Finding:
    """Judge the free bytes for runs."""
    found = _gib(free)
    if free < FAIL_BELOW_BYTES:
        return Finding(what, "FAIL", found, "free some space: a run stops when the disk is full")
    if free < WARN_BELOW_BYTES:
        return Finding(what, "WARN", found, "enough for the demo; --recipe paper needs 10 GiB")
    return Finding(what, "OK", found)


def shared_memory(folder: Path) -> Finding:
    """Check the memory that Ray's processes share; a container often has only 64 MiB."""
    what = "shared memory"
    if not folder.is_dir():
        return Finding(what, "WARN", f"no {folder}", "Ray uses the disk, which is slower")
    free = shutil.disk_usage(folder).free
    if free < FAIL_BELOW_BYTES:
        return Finding(what, "WARN", _gib(free), "start the container with --shm-size=2g")
    return Finding(what, "OK", _gib(free))


def _gib(free: int) -> str:
    return f"{free / (1 << 30):.1f} GiB free"


def weights() -> Finding:
    """Check which published weights are in the cache."""
    from skinray.models.weights.load import rows

    table = rows()
    have = [str(row["name"]) for row in table if row["in cache"] == "yes"]
    found = f"{len(have)} of {len(table)} in the cache"
    if have:
        return Finding("weights", "OK", f"{found}: {', '.join(have)}")
    remedy = "--recipe paper needs them: `skinray weights list`, then fetch or import them"
    return Finding("weights", "WARN", found, remedy)


def ports(wanted: Mapping[int, str]) -> Iterable[Finding]:
    """Check on loopback that no other program uses our ports."""
    for port, user in wanted.items():
        with socket.socket() as probe:
            probe.settimeout(1)
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        if taken:
            remedy = f"needed for {user}: stop the program that uses it, or choose another port"
            yield Finding(f"port {port}", "WARN", "in use", remedy)
        else:
            yield Finding(f"port {port}", "OK", "free")


def token(environment: Mapping[str, str], default: Path) -> Finding:
    """Check that this user has a Ray token, that Ray uses it, and that nobody else can read it."""
    what = "Ray token"
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        remedy = "unset RAY_AUTH_MODE: anyone who reaches this Ray can run code on it"
        return Finding(what, "FAIL", "switched off by RAY_AUTH_MODE", remedy)
    if environment.get("RAY_AUTH_TOKEN"):
        return Finding(what, "OK", "from RAY_AUTH_TOKEN")
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or default)
    if not path.is_file() or not path.stat().st_size:
        remedy = "run `ray get-auth-token --generate`; for a cluster, copy the cluster's token"
        return Finding(what, "WARN", f"none at {path}", remedy)
    if path.stat().st_mode & OTHERS:
        return Finding(what, "FAIL", f"{path}: others can read it", f"chmod 600 {path}")
    if environment.get("RAY_AUTH_MODE", "").lower() != "token" and environment.get("RAY_ADDRESS"):
        remedy = "export RAY_AUTH_MODE=token, or clients do not send it"
        return Finding(what, "WARN", f"at {path}, not sent to the cluster", remedy)
    return Finding(what, "OK", f"at {path}")


COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


def table(findings: Iterable[Finding]) -> Table:
    """Draw one row per finding; texts are shown as they are, even with brackets in them."""
    drawn = Table("", "check", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        drawn.add_row(
            Text(finding.level, COLOURS[finding.level]),
            Text(finding.what),
            Text(finding.found, overflow="fold"),
            Text(finding.remedy, overflow="fold"),
        )
    return drawn
