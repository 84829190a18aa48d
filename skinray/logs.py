"""Log as JSON lines, each with its run and its request.

``SKINRAY_LOG=json`` switches it on for commands, jobs and the service's replicas.
``SKINRAY_LOG_LEVEL`` sets the level (default INFO). ``SKINRAY_RUN_ID`` names the run; otherwise an
id is drawn, which the processes of the run inherit. No line names a file, a subject or a tag; only
the error that ends a command may, as it tells the user what to fix.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import SocketHandler
from pathlib import Path
from typing import TextIO

from skinray.errors import SettingsError
from skinray.progress import listening

LOG = logging.getLogger("skinray.run")
FORM, LEVEL, RUN = "SKINRAY_LOG", "SKINRAY_LOG_LEVEL", "SKINRAY_RUN_ID"
# Where the processes of one service send their lines, for its one stream.
SOCKET = "SKINRAY_LOG_SOCKET"
STDOUT, STDERR = 1, 2
JOIN_S = 2.0
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
    shared = environment.get(SOCKET)
    handler: logging.Handler
    if shared and stream is None:
        handler = _ToSocket(shared, None)
    else:
        handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(run))
    logger = logging.getLogger(_OURS)
    for old in [one for one in logger.handlers if isinstance(one.formatter, JsonLines)]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return True


def complain(message: str, environment: MutableMapping[str, str] = os.environ) -> bool:
    """Log the error that ends a command, if JSON lines are switched on; return whether they are."""
    try:
        if not configure(environment):
            return False
    except SettingsError:  # the very error may be that the format is unknown
        return False
    LOG.error(message)
    return True


@contextmanager
def one_stream(environment: MutableMapping[str, str] = os.environ) -> Iterator[bool]:
    """Join all that a service's processes write into one stream of JSON lines on standard error.

    Does nothing unless JSON lines are switched on; yields whether they are. Processes that begin
    within the block and call :func:`configure` send their lines here. What libraries and other
    programs write to standard output or error becomes the message of a line. A terminal at
    standard output is left alone, for what a person must read.
    """
    if not configure(environment):
        yield False
        return
    sys.stdout.flush()
    sys.stderr.flush()
    caught = [STDERR] if os.isatty(STDOUT) else [STDOUT, STDERR]
    kept = {number: os.dup(number) for number in caught}
    folder = Path(tempfile.mkdtemp(prefix="skinray-log-"))  # for this user alone
    with os.fdopen(os.dup(STDERR), "w", encoding="utf-8") as out:
        stream = _Stream(out, JsonLines(environment[RUN]))
        configure(environment, out)
        ours, theirs = socket.socketpair()
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(folder / "socket"))
        server.listen()
        environment[SOCKET] = str(folder / "socket")
        threading.Thread(target=stream.accept, args=(server,), daemon=True).start()
        stream.begin(ours)
        for number in caught:
            os.dup2(theirs.fileno(), number)
        theirs.close()
        try:
            yield True
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, before in kept.items():
                os.dup2(before, number)
                os.close(before)
            environment.pop(SOCKET, None)
            server.close()
            stream.end()
            configure(environment)
            shutil.rmtree(folder, ignore_errors=True)


class _Stream:
    """Writes lines from any number of threads, each as one JSON object."""

    def __init__(self, out: TextIO, form: JsonLines) -> None:
        self._out, self._form, self._lock, self._ended = out, form, threading.Lock(), False
        self._takers: list[threading.Thread] = []

    def accept(self, server: socket.socket) -> None:
        """Take lines from everyone who connects, until the server is closed."""
        with suppress(OSError):
            while True:
                self.begin(server.accept()[0])

    def begin(self, client: socket.socket) -> None:
        """Take the lines of one connection until it ends."""
        taker = threading.Thread(target=self._take, args=(client,), daemon=True)
        self._takers.append(taker)
        taker.start()

    def end(self) -> None:
        """Wait for the ends of the connections, but not long; then write no more."""
        until = time.monotonic() + JOIN_S
        for taker in self._takers:
            taker.join(max(0, until - time.monotonic()))
        with self._lock:
            self._ended = True

    def _take(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                text = self._as_json(line.decode("utf-8", errors="replace").rstrip())
                self._write(f"{text}\n" if text else "")

    def _write(self, text: str) -> None:
        with self._lock, suppress(OSError):  # perhaps nobody reads the log
            if not self._ended:
                self._out.write(text)
                self._out.flush()

    def _as_json(self, text: str) -> str:
        with suppress(ValueError):
            if isinstance(json.loads(text), dict):
                return text
        facts = {"name": "stderr", "levelname": "WARNING", "msg": text}
        return self._form.format(logging.makeLogRecord(facts)) if text else ""


class _ToSocket(SocketHandler):
    """Sends lines to the service's one stream; if nobody takes them, they are lost."""

    def makePickle(self, record: logging.LogRecord) -> bytes:  # noqa: N802 - of the library
        """Return what is sent, which is no pickle: a line of JSON."""
        return f"{self.format(record)}\n".encode()


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
