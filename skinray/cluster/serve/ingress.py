"""The ingress: HTTP in, answers out, and the switch from one bundle to the next."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from fastapi import FastAPI

from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.ray_internals import replica_on_loopback
from skinray.cluster.serve.bundles import BundleRef
from skinray.cluster.serve.engines import ChangingEngine, FusedEngine, RayEngine
from skinray.cluster.serve.metrics import RayMeter
from skinray.config.kinds import Stage
from skinray.config.scoring import ServeSettings
from skinray.errors import BundleError, SettingsError
from skinray.learning.bundle import check
from skinray.learning.bundle.info import BundleInfo
from skinray.logs import configure
from skinray.service.app import create_app
from skinray.service.middleware.doors import Doors
from skinray.service.middleware.front import FRONT, SETTING
from skinray.service.routes.health import Refusals

LOG = logging.getLogger("ray.serve")


class Frontage:
    """An engine with its HTTP service in one replica.

    ``user_config: {bundle: PATH}`` names the bundle in service and may be changed at any time;
    with ``id`` as well, only the bundle with that id is accepted.
    """

    # A replica is a process of its own. Ray's public way to build the HTTP application in the
    # replica is a function without arguments, so that finds the one instance here.
    instance: ClassVar[Frontage]

    def __init__(self, settings: ServeSettings, engine: ChangingEngine) -> None:
        keep_freed_memory()
        replica_on_loopback()
        if not configure():
            for handler in LOG.handlers:  # then Serve's log holds our errors, too
                logging.getLogger("skinray").addHandler(handler)
        torch.set_num_threads(settings.threads)
        self._settings, self._engine = settings, engine
        self._meter = RayMeter()
        self._refusals, self._doors = Refusals(), Doors()
        self._change: asyncio.Task[None] | None = None
        self._started = False
        Frontage.instance = self
        if SETTING not in os.environ:
            LOG.warning(
                "no front in Ray's proxy: bodies are kept in memory before they are refused, and a "
                "replica that dies gives a plain 500; start Ray with %s=%s on every node",
                SETTING, FRONT,
            )  # fmt: skip

    def http(self) -> FastAPI:
        """Return the HTTP application."""
        service = self._settings.service
        return create_app(self._engine, service, self._meter, self._refusals, self._doors)

    async def stop_accepting(self) -> int:
        """Refuse all further requests; return how many are still in progress."""
        return self._doors.close()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Switch to the bundle that is named; if it does not work, keep the previous one.

        While a replica is in this method, no request is sent to it. So only the first call, part
        of its start, waits for the bundle; later switches happen alongside the requests.
        """
        if self._change is not None:
            self._change.cancel()
        self._change = asyncio.create_task(self._take(user_config))
        if not self._started:
            self._started = True
            await self._change

    async def _take(self, wanted: dict[str, Any]) -> None:
        try:
            path, only = _named(wanted)
            info = await asyncio.to_thread(check, path)
            if only is not None and info.id != only:
                raise BundleError(f"{path}: its id is {info.id}, not {only}; correct one of them")
            self._refuse_other_kind(path, info)
            if not self._settings.anyway:
                info.refuse_failed(path)
            ref = BundleRef.of(path, info)
            if ref != self._engine.ref:  # also for the same bundle elsewhere: the old copy may go
                await self._engine.take(ref)
                LOG.info("bundle %s is in service from now on", info.id)
                self._meter.bundle("taken")
            self._refusals.last = None
        except Exception as error:  # whatever is wrong with it, the previous one stays in use
            self._refusals.count, self._refusals.last = self._refusals.count + 1, str(error)
            self._meter.bundle("refused")
            LOG.error("bundle refused, the previous one stays in use: %s", error)

    def _refuse_other_kind(self, path: Path, info: BundleInfo) -> None:
        """Routes, page and stages depend on the bundle's kind, so it must stay the same."""
        kind = self._engine.info.kind
        if info.kind != kind:
            raise BundleError(
                f"{path}: a {info.kind} bundle cannot replace a {kind} bundle while the service "
                "runs: name it under args and deploy again"
            )


def _named(wanted: dict[str, Any]) -> tuple[Path, str | None]:
    path, only = wanted.get("bundle"), wanted.get("id")
    if not isinstance(path, str) or set(wanted) - {"bundle", "id"}:
        raise SettingsError(f"user_config {wanted}: write bundle: PATH and, optionally, id: SHA256")
    return Path(path).absolute(), None if only is None else str(only)


class Ingress(Frontage):
    """The ingress in front of separate stages."""

    def __init__(
        self, settings: ServeSettings, ref: BundleRef, networks: dict[Stage, Any], last: Any
    ) -> None:
        super().__init__(settings, RayEngine(networks, last, ref, settings.ready_timeout_s))


class Fused(Frontage):
    """Everything in one replica, for small machines."""

    def __init__(self, settings: ServeSettings, ref: BundleRef) -> None:
        super().__init__(
            settings, FusedEngine(ref, settings.service.engine_threads, settings.backend)
        )

    async def check_health(self) -> None:
        """Raise if a network cannot answer; Serve then replaces the replica."""
        await self._engine.check_ready()


def build_app() -> FastAPI:
    """Return the HTTP application of this process's replica; Ray calls it in the replica."""
    return Frontage.instance.http()
