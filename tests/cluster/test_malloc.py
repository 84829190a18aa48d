"""Freed memory stays with the process: counted in page faults, in a process of its own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

COUNT = """
import json, resource, sys, threading
from skinray.cluster.malloc import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work(result):
    for turn in range(6):
        if turn == 2:
            before = faults()
        blocks = [b"x" * size for size in (8_000_000, 50_000_000)]
        del blocks
    result.append((faults() - before) / 4)

kept = keep_freed_memory() if sys.argv[1] == "kept" else None
result = []
thread = threading.Thread(target=work, args=(result,))
thread.start()
thread.join()
print(json.dumps([kept, result[0]]))
"""


def faults_a_turn(how: str) -> tuple[bool | None, float]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how], stdout=subprocess.PIPE, text=True, check=True
    )
    kept, faults = json.loads(done.stdout)
    return kept, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_blocks_are_used_again_without_page_faults() -> None:
    _, before = faults_a_turn("as it is")
    kept, after = faults_a_turn("kept")
    assert kept is True
    assert before > 5000  # else this would show nothing
    assert after < before / 20


def test_other_platforms_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from skinray.cluster.malloc import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
