"""The HTTP service, put together: an application that any engine can stand behind."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from skinray.config.kinds import STAGES
from skinray.config.scoring import ServiceSettings
from skinray.errors import SkinrayError
from skinray.service import problems
from skinray.service.engine import Engine
from skinray.service.metrics import Meter, NoMeter
from skinray.service.middleware.auth import Guard, open_paths
from skinray.service.middleware.limits import Limits
from skinray.service.middleware.request_log import Envelope
from skinray.service.middleware.tokens import Tokens
from skinray.service.routes import openapi
from skinray.service.routes.biopsies import biopsies_router
from skinray.service.routes.form import Decoder
from skinray.service.routes.health import Refusals, bundle_router, health_router
from skinray.service.routes.inference import Inference
from skinray.service.routes.labels import labels_router
from skinray.service.routes.one_image import Desk
from skinray.service.routes.photos import photos_router

LOG = logging.getLogger("skinray.service")
PAGE = Path(__file__).parent / "page"
_DEFAULT = ServiceSettings()
_NO_METER = NoMeter()


def create_app(
    engine: Engine,
    settings: ServiceSettings = _DEFAULT,
    meter: Meter = _NO_METER,
    refusals: Refusals | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    Parameters
    ----------
    engine : judges images; the application neither starts nor ends it.
    settings : what is taken in, and how much at once.
    meter : told of requests, errors, times and counts.
    refusals : kept by whoever changes the engine's bundle, if anybody does.

    Raises
    ------
    SettingsError
        If a tokens file is named that cannot be read or does not fit.
    """
    decoder = Decoder(settings, meter)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        decoder.close()

    app = FastAPI(
        title="skinray",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    desk = Desk(engine, decoder, meter)
    app.include_router(biopsies_router(desk))
    app.include_router(photos_router(desk))
    app.include_router(bundle_router(engine, refusals or Refusals()))
    app.include_router(labels_router(engine, settings, decoder))
    app.include_router(health_router(engine))
    app.include_router(Inference(engine, settings, decoder, meter).router())
    app.include_router(openapi.docs_router())
    openapi.install(app, guarded=settings.tokens is not None)
    problems.install(app)
    _install_errors(app, settings)
    _install_page(app, engine)
    # The last one added is the outermost.
    app.add_middleware(Limits, settings=settings, meter=meter)
    if settings.tokens is not None:
        tokens = Tokens(Path(settings.tokens))
        openings = open_paths(PAGE, openapi.PAGES)
        app.add_middleware(Guard, tokens=tokens, open_paths=openings)
    app.add_middleware(Envelope, meter=meter)
    return app


def _install_errors(app: FastAPI, settings: ServiceSettings) -> None:
    """Answer errors of the layers below; those that are ours are logged."""

    async def on_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, SkinrayError)  # noqa: S101 - registered for it alone
        problem = problems.to_problem(error, settings.retry_after_s)
        if problems.REASONS[problem.reason][0] == 500:
            LOG.error("request %s failed", request.state.request_id, exc_info=error)
        return problems.problem_response(request.scope, problem)

    app.add_exception_handler(SkinrayError, on_error)


def _install_page(app: FastAPI, engine: Engine) -> None:
    # The file as it lies is for biopsies; what it is for is all that it is told.
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    pages = {kind: text.replace('data-kind="biopsy"', f'data-kind="{kind}"') for kind in STAGES}

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(pages[engine.info.kind])

    app.mount("/static", StaticFiles(directory=PAGE), name="static")
