"""``skinray serve``: the service on this machine, until Ctrl-C or SIGTERM."""

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
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import ray
from ray import serve

from skinray.cluster.ray_internals import proxies
from skinray.cluster.serve.app import app, guarded
from skinray.cluster.session import session
from skinray.config.scoring import ServeSettings
from skinray.errors import ResourcesError, SettingsError, StoppedError
from skinray.learning.bundle import check
from skinray.service.middleware.tokens import plain_token

NAME = "skinray"
READY_S = 60.0
POLL_S = 0.3
# Beyond the time limit of a request: until its answer has passed through Serve's proxy.
ANSWER_S = 5.0
# How long a client has to fetch the rest of an answer that the proxy has finished.
FETCH_S = 1.0
LOG = logging.getLogger("skinray.service")


def serve_bundle(
    settings: ServeSettings, host: str, port: int, tell: Callable[[str], None]
) -> None:
    """Serve over HTTP until Ctrl-C or SIGTERM, then finish the requests in progress.

    From then on new requests get 503. Those in progress have ``timeout_s`` of the settings, as
    always; nothing of Ray is left when this returns. A second signal stops at once.

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
    StoppedError
        If requests in progress were cut off: by a second signal, or because they took too long.
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
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with _until_stopped() as signals, session():
        if signals.asked.is_set():
            return
        _start(settings, host, port)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown.replace('0.0.0.0', '127.0.0.1')}:{port}"  # noqa: S104
        if _wait_until_ready(address, settings.service.tokens, signals.asked):
            tell(address)
            signals.asked.wait()
            LOG.info("stopping: requests in progress are finished, new ones are refused")
            _finish(settings.service.timeout_s + ANSWER_S)
        signals.ignore()


def _finish(seconds: float) -> None:
    """Refuse new requests and wait until all others have been answered; StoppedError if not."""
    until = time.monotonic() + seconds
    front, left = serve.get_app_handle(NAME), 1
    while left and time.monotonic() < until:
        with suppress(TimeoutError):
            left = front.stop_accepting.remote().result(timeout_s=ANSWER_S)
        time.sleep(POLL_S if left else 0)
    if left:
        raise StoppedError(
            f"stopped after {seconds:g} s with {left} requests in progress, which got no answer"
        )
    # The replica has answered; the proxy may still be passing an answer on.
    until = time.monotonic() + ANSWER_S
    with suppress(TimeoutError):
        for proxy in proxies():
            ray.get(proxy.update_draining.remote(True), timeout=ANSWER_S)
            while not ray.get(proxy.is_drained.remote(), timeout=ANSWER_S):
                if time.monotonic() > until:
                    break  # refusals alone keep it busy
                time.sleep(POLL_S)
    time.sleep(FETCH_S)


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
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy in between
    until = time.monotonic() + READY_S
    while (left := until - time.monotonic()) > 0:
        try:
            with straight.open(asked, timeout=left):
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            said = str(error)
        if stopped.wait(POLL_S):
            return False
    raise ResourcesError(
        f"the service does not become ready ({said}); look for the cause in Ray's log folder, "
        f"{Path('/tmp/ray/session_latest/logs/serve')}"  # noqa: S108 - Ray's own
    )


class _Signals:
    """Ctrl-C and SIGTERM: the first asks to stop, the second interrupts, others do nothing."""

    def __init__(self) -> None:
        self.asked, self._hurried = threading.Event(), False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self.asked.is_set():
            self.asked.set()
        elif not self._hurried:
            self.ignore()
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """Let no signal disturb the end of Ray."""
        self.asked.set()
        self._hurried = True


@contextmanager
def _until_stopped() -> Iterator[_Signals]:
    """Take Ctrl-C and SIGTERM while the block runs; StoppedError for the second."""
    signals = _Signals()
    before = {one: signal.signal(one, signals) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped at once by a second signal: requests in progress got no answer"
        ) from None
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
