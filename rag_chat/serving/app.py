"""The application: every route, behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from rag_chat import __version__
from rag_chat.assistant import Assistant
from rag_chat.serving import api, compatible, problems
from rag_chat.serving.guard import VISITOR, Guard
from rag_chat.serving.metrics import Metered
from rag_chat.serving.service import Service
from rag_chat.serving.settings import ServingSettings

STATIC = Path(__file__).parent / "static"
_QUIET: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def create_app(assistant: Assistant, settings: ServingSettings | None = None) -> FastAPI:
    """Return the server of an assistant, an ASGI application.

    The model and the embedder are loaded when the application starts; /readyz tells when they are.
    """
    chosen = settings or ServingSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(assistant, chosen)
        try:
            yield
        finally:
            await asyncio.to_thread(service.worker.close)

    app = FastAPI(
        title="rag_chat",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its assets are remote
        redoc_url=None,
        telemetry=_QUIET,
    )
    problems.install(app)
    app.include_router(api.router)
    app.include_router(compatible.router)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Say that the server runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Say whether the models are loaded."""
        ready = app.state.service.worker.ready
        return JSONResponse({"status": "ready" if ready else "loading"}, 200 if ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Show what the server counts, for Prometheus."""
        return Response(app.state.service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    if chosen.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", VISITOR],
            expose_headers=["retry-after"],
        )
    app.add_middleware(Guard, settings=chosen)
    app.add_middleware(Metered)
    return app
