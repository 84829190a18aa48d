"""Log as JSON lines, each with its run and its request.

``SKINRAY_LOG=json`` switches it on for commands, jobs and the service's replicas.
``SKINRAY_LOG_LEVEL`` sets the level (default INFO). ``SKINRAY_RUN_ID`` names the run; otherwise an
id is drawn, which the processes of the run inherit. No line names a file, a subject or a tag.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

from skinray.errors import SettingsError
from skinray.progress import listening

LOG = logging.getLogger("skinray.run")
FORM, LEVEL, RUN = "SKINRAY_LOG", "SKINRAY_LOG_LEVEL", "SKINRAY_RUN_ID"
_OURS = "skinray"
_FACTS = ("request", "step", "done", "total", "seconds", "code")


class JsonLines(logging.Formatter):
    """Writes each record as one line of JSON; a traceback goes into ``trace``."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line."""
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run": self._run,
        }
        values |= {name: vars(record)[name] for name in _FACTS if name in vars(record)}
        if record.exc_info:
            values["trace"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False, default=str)


def configure(
    environment: MutableMapping[str, str] = os.environ, stream: TextIO | None = None
) -> bool:
    """Write the log as JSON lines if the environment asks for it, and return whether it does.

    Raises SettingsError if the format or the level is unknown.
    """
    form = environment.get(FORM, "").lower()
    if form not in ("", "text", "json"):
        raise SettingsError(f"{FORM} is '{form}': write json, or remove it")
    if form != "json":
        return False
    level = environment.get(LEVEL, "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        raise SettingsError(f"{LEVEL} is '{level}': write DEBUG, INFO, WARNING or ERROR")
    run = environment.setdefault(RUN, secrets.token_hex(8))
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(run))
    logger = logging.getLogger(_OURS)
    for old in [one for one in logger.handlers if isinstance(one.formatter, JsonLines)]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return True


@contextmanager
def logged_run(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Log the beginning, the steps and the end of a command, if JSON lines are switched on."""
    if not configure(environment):
        yield
        return
    LOG.info("began")
    code: object = 0
    try:
        with listening(_tell):
            yield
    except SystemExit as end:
        code = end.code or 0
        raise
    except BaseException as error:
        code = type(error).__name__
        raise
    finally:
        LOG.info("ended", extra={"code": code})


def _tell(step: str, done: int, total: int, state: str) -> None:
    if state != "running":
        LOG.info(state, extra={"step": step, "done": done, "total": total})
