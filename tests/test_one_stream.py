"""A service's one stream: whatever any of its processes writes is a line of JSON, and once only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

SERVICE = """
import logging, os, subprocess, sys
from skinray.logs import configure, logged_run, one_stream
with logged_run(), one_stream() as joined:
    print("printed", joined)
    print('{"already": "an object"}')
    logging.getLogger("skinray.service").info("own")
    os.system("echo of a program; echo 17 >&2")
    replica = '''
import logging, sys
from skinray.logs import configure
configure()
logging.getLogger("skinray.service").info("of a replica", extra={"request": "r1", "code": 200})
try:
    raise ValueError("x" * 20_000)
except ValueError:
    logging.getLogger("skinray.service").exception("failed")
'''
    subprocess.run([sys.executable, "-c", replica], check=True)
    print("unfinished", end="", file=sys.stderr)
assert "SKINRAY_LOG_SOCKET" not in os.environ
print("afterwards")
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SERVICE]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)


def test_all_that_is_written_is_one_stream_of_json_on_standard_error() -> None:
    done = run(SKINRAY_LOG="json", SKINRAY_RUN_ID="ward-3")
    assert done.stdout == "afterwards\n"
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    said = [one.get("message", one) for one in found]
    assert said[0] == "began"
    assert said[-1] == "ended"
    assert sorted(map(str, said)) == sorted(
        ["began", "printed True", "{'already': 'an object'}", "unfinished", "own", "of a program",
         "17", "of a replica", "failed", "ended"]
    )  # fmt: skip
    assert {one["run"] for one in found if "run" in one} == {"ward-3"}
    (request,) = [one for one in found if "request" in one]
    assert (request["request"], request["code"]) == ("r1", 200)
    (failure,) = [one for one in found if "trace" in one]
    assert "x" * 20_000 in failure["trace"]


def test_without_json_everything_stays_as_it_is() -> None:
    done = run(SKINRAY_LOG="")
    assert "printed False" in done.stdout
    assert "of a program" in done.stdout
    assert "unfinished" in done.stderr
    assert "began" not in done.stderr
