"""How a result was made: versions, hardware and time, recorded with every figure."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import skinray

PACKAGES = (
    "torch",
    "torchvision",
    "ray",
    "numpy",
    "scipy",
    "opencv-python",
    "Pillow",
    "tifffile",
    "openvino",
    "nncf",
)


def versions() -> dict[str, str]:
    """Return the versions of skinray, Python and the packages that affect results."""
    found = {"skinray": skinray.__version__, "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware() -> str:
    """Describe this machine's processor and GPUs in one line."""
    import torch  # takes a second

    text = f"{os.cpu_count()} cores of {_processor()}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        text += ", " + ", ".join(f"{names.count(n)} x {n}" for n in dict.fromkeys(names))
    return text


def now() -> str:
    """Return the time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
