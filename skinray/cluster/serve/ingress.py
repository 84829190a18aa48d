"""The ingress: HTTP in, answers out, and the change from one bundle to the next."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI

from skinray.cluster.malloc import keep_freed_memory
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
from skinray.service.routes.health import Refusals

LOG = logging.getLogger("ray.serve")


class Frontage:
    """An engine with its HTTP service in one replica.

    ``user_config: {bundle: PATH}`` names the bundle that answers, and may be changed at any
    time; with ``id`` beside it, only the bundle of that id is taken.
    """

    def __init__(self, settings: ServeSettings, engine: ChangingEngine) -> None:
        keep_freed_memory()
        configure()
        torch.set_num_threads(settings.threads)
        self._settings, self._engine = settings, engine
        self._meter = RayMeter()
        self._refusals = Refusals()
        self._change: asyncio.Task[None] | None = None
        self._started = False

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Ray calls it in the replica."""
        return create_app(self._engine, self._settings.service, self._meter, self._refusals)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Change to the bundle that is named, or go on with the one before.

        While a replica is in this method no request is sent to it. So only the first call,
        which is part of its start, waits for the bundle; later ones go on beside the requests.
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
                raise BundleError(f"{path}: is {info.id}, not the {only} asked for; name that one")
            self._refuse_other_kind(path, info)
            ref = BundleRef.of(path, info)
            if ref != self._engine.ref:  # the same bundle at a new place counts: the old may go
                await self._engine.take(ref)
                LOG.info("bundle %s answers from now on", info.id)
                self._meter.bundle("taken")
            self._refusals.last = None
        except Exception as error:  # whatever is wrong with it, the one before goes on
            self._refusals.count, self._refusals.last = self._refusals.count + 1, str(error)
            self._meter.bundle("refused")
            LOG.error("bundle refused, the one before goes on: %s", error)

    def _refuse_other_kind(self, path: Path, info: BundleInfo) -> None:
        """Keep routes, page and stages what they are: all three hang on the bundle's kind."""
        kind = self._engine.info.kind
        if info.kind != kind:
            raise BundleError(
                f"{path}: a {info.kind} bundle cannot take the place of a {kind} bundle while the "
                "service runs: name it under args, and deploy again"
            )


def _named(wanted: dict[str, Any]) -> tuple[Path, str | None]:
    path, only = wanted.get("bundle"), wanted.get("id")
    if not isinstance(path, str) or unknown_keys(wanted):
        raise SettingsError(f"user_config {wanted}: write bundle: PATH, and id: SHA256 if you like")
    return Path(path).absolute(), None if only is None else str(only)


def unknown_keys(user_config: dict[str, Any]) -> set[str]:
    """Return the keys of a ``user_config`` that mean nothing here."""
    return set(user_config) - {"bundle", "id"}


class Ingress(Frontage):
    """The ingress before stages of their own."""

    def __init__(
        self, settings: ServeSettings, ref: BundleRef, networks: dict[Stage, Any], last: Any
    ) -> None:
        super().__init__(settings, RayEngine(networks, last, ref, settings.ready_timeout_s))


class Fused(Frontage):
    """All in one replica, for small machines."""

    def __init__(self, settings: ServeSettings, ref: BundleRef) -> None:
        super().__init__(settings, FusedEngine(ref, settings.service.engine_threads))

    async def check_health(self) -> None:
        """Raise where a network cannot answer: Serve then replaces the replica."""
        await self._engine.check_ready()
