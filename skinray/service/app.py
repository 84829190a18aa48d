"""The HTTP service, assembled: an ASGI application in front of any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles

from skinray.config.kinds import Kind
from skinray.config.scoring import ServiceSettings
from skinray.service import problems
from skinray.service.engine import Engine
from skinray.service.metrics import Meter
from skinray.service.middleware.auth import FAVICON, Guard, OwnHost, open_paths
from skinray.service.middleware.doors import Doors, Doorway
from skinray.service.middleware.limits import Limits
from skinray.service.middleware.request_log import Envelope, HeadAsGet
from skinray.service.middleware.tokens import Tokens
from skinray.service.routes import openapi
from skinray.service.routes.biopsies import biopsies_router
from skinray.service.routes.form import ImageDecoder
from skinray.service.routes.health import Refusals, bundle_router, health_router, metrics_router
from skinray.service.routes.inference import inference_router
from skinray.service.routes.kinds import KINDS
from skinray.service.routes.labels import labels_router
from skinray.service.routes.one_image import Desk
from skinray.service.routes.photos import photos_router

PAGE = Path(__file__).parent / "page"
_DEFAULT = ServiceSettings()
_NO_METER = Meter()


def create_app(
    engine: Engine,
    settings: ServiceSettings = _DEFAULT,
    meter: Meter = _NO_METER,
    refusals: Refusals | None = None,
    doors: Doors | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    Parameters
    ----------
    engine : processes images; the application neither starts nor stops it.
    settings : which requests are accepted, and how many at once.
    meter : receives requests, errors, times and counts.
    refusals : kept by whatever changes the engine's bundle, if anything does.
    doors : closed by whatever stops the service, if anything does before the process ends.

    Raises
    ------
    SettingsError
        If the tokens file cannot be read or is invalid.
    """
    decoder = ImageDecoder(settings, meter)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        decoder.close()

    app = FastAPI(
        title="skinray",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(openapi.refuse_unknown_query)],
        redirect_slashes=False,
    )
    desk = Desk(engine, KINDS[engine.info.kind], decoder, meter)
    app.include_router(biopsies_router(desk))
    app.include_router(photos_router(desk))
    app.include_router(bundle_router(engine, refusals or Refusals()))
    app.include_router(metrics_router(meter))
    app.include_router(labels_router(desk, settings.labels))
    app.include_router(health_router(engine, desk.kind))
    app.include_router(inference_router(desk, settings.max_pixels))
    app.include_router(openapi.docs_router())
    openapi.install(app, guarded=settings.tokens is not None)
    problems.install(app, settings.retry_after_s)
    _install_page(app, desk.kind.name)
    # The last one added is the outermost.
    app.add_middleware(Limits, settings=settings, meter=meter)
    if settings.tokens is not None:
        tokens = Tokens(Path(settings.tokens))
        openings = open_paths(PAGE, openapi.PAGES)
        app.add_middleware(Guard, tokens=tokens, open_paths=openings)
    elif settings.without_tokens:
        app.add_middleware(OwnHost, hosts=settings.hosts)
    app.add_middleware(Doorway, doors=doors or Doors(), retry_after_s=settings.retry_after_s)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Envelope, meter=meter)
    return app


def _install_page(app: FastAPI, kind: Kind) -> None:
    # The file itself is the page for biopsies; the attribute is all that differs.
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    html = text.replace('data-kind="biopsy"', f'data-kind="{kind}"')

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(html)

    @app.get(FAVICON, include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")

    app.mount("/static", StaticFiles(directory=PAGE), name="static")
