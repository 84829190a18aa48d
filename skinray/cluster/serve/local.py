"""``skinray serve``: the service on this machine, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from ray import serve

from skinray.cluster.serve.app import app, guarded
from skinray.cluster.session import session
from skinray.config.scoring import ServeSettings
from skinray.errors import ResourcesError, SettingsError
from skinray.learning.bundle import check
from skinray.service.middleware.tokens import plain_token

NAME = "skinray"
READY_S = 60.0
POLL_S = 0.3


def serve_bundle(
    settings: ServeSettings, host: str, port: int, tell: Callable[[str], None]
) -> None:
    """Serve over HTTP until Ctrl-C or SIGTERM, then finish the images in progress.

    Parameters
    ----------
    settings : the bundle and the layout.
    host, port : where to listen.
    tell : called with the address as soon as every network answers.

    Raises
    ------
    BundleError
        If the bundle's hashes are wrong.
    ResourcesError
        If the port is taken, or the service does not become ready.
    SettingsError
        If ``RAY_ADDRESS`` names a cluster, or the tokens file is invalid.
    """
    info = check(settings.bundle)
    if not settings.anyway:
        info.refuse_failed(Path(settings.bundle))
    settings = guarded(settings)
    if os.environ.get("RAY_ADDRESS"):
        raise SettingsError(
            "skinray serve runs on this machine only, and RAY_ADDRESS names a cluster: unset it, "
            "or run `skinray serve-config gpu > gpu.yaml` and `serve deploy gpu.yaml` there"
        )
    refuse_taken(host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with _until_stopped() as stopped, session():
        _start(settings, host, port)
        try:
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown.replace('0.0.0.0', '127.0.0.1')}:{port}"  # noqa: S104
            if _wait_until_ready(address, settings.service.tokens, stopped):
                tell(address)
                stopped.wait()
        finally:
            serve.shutdown()


def refuse_taken(host: str, port: int) -> None:
    """Raise ResourcesError if another program already listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourcesError(
                f"cannot listen at {host}:{port} ({error.strerror}): choose another --port, or "
                "stop the program that uses this one"
            ) from None


def _start(settings: ServeSettings, host: str, port: int) -> None:
    # Longer than the service's own limit, whose error says more.
    limit = settings.service.timeout_s + 10
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port, "request_timeout_s": limit},
        )
        serve.run(app(settings.model_dump(mode="json")), name=NAME, route_prefix="/")
    except (RuntimeError, TimeoutError) as error:
        serve.shutdown()
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
        raise ResourcesError(
            f"the service did not start: {reason}; free some memory, or use --layout fused"
        ) from error


def _wait_until_ready(address: str, tokens: str | None, stopped: threading.Event) -> bool:
    """Return whether the service is ready; False if it was stopped while starting."""
    said = "no answer"
    token = None if tokens is None else plain_token(Path(tokens))
    # If the file has only hashes, there is no token to send; networks are checked at their start.
    hashes_alone = tokens is not None and token is None
    url = f"{address}/v2/health/{'live' if hashes_alone else 'ready'}"
    assert urlsplit(url).scheme == "http"  # noqa: S101 - built above
    asked = urllib.request.Request(url)  # noqa: S310 - checked above
    if token is not None:
        asked.add_header("Authorization", f"Bearer {token}")
    until = time.monotonic() + READY_S
    while (left := until - time.monotonic()) > 0:
        try:
            with urllib.request.urlopen(asked, timeout=left):  # noqa: S310 - checked above
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            said = str(error)
        if stopped.wait(POLL_S):
            return False
    raise ResourcesError(
        f"the service does not become ready ({said}); look for the cause in Ray's log folder, "
        f"{Path('/tmp/ray/session_latest/logs/serve')}"  # noqa: S108 - Ray's own
    )


@contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event while the block runs."""
    stopped = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        if stopped.is_set():  # the second time, stop at once
            raise KeyboardInterrupt
        stopped.set()

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
