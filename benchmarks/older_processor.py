"""Run a benchmark as on a processor with AVX2 alone: what came later is hidden from every library.

Each of them asks the processor with the instruction CPUID. The kernel can make it fault, and a
preloaded library then answers without AVX-VNNI, AVX512 and AMX. Only clock, caches and memory stay
those of the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("avx2_only.c")


def possible() -> str:
    """Say why instructions cannot be hidden here; "" if they can."""
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "only Linux can hide instructions"
    if "cpuid_fault" not in known:
        return "this processor cannot fault on CPUID (cpuid_fault)"
    if "LD_PRELOAD" in os.environ:
        return "LD_PRELOAD is set: unset it"
    return "" if shutil.which("gcc") else "gcc is not installed"


def run_with_avx2_only(command: list[str]) -> int:
    """Run a command that sees no instructions after AVX2; return its exit status.

    Raises
    ------
    SystemExit
        If that is not possible here.
    """
    if why := possible():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder) / "avx2_only.so")
        subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True
        )
        return subprocess.run(command, env=os.environ | {"LD_PRELOAD": library}).returncode


def this_again() -> list[str]:
    """Return the command that started this process, without ``--avx2``."""
    return [sys.executable, *(word for word in sys.orig_argv[1:] if word != "--avx2")]
