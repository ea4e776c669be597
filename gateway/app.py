"""The application: routes, errors as problems, documentation, and the dashboard for all other paths."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from gateway.backends import Backends
from gateway.middleware import CancelWhenGone, CountRequests, SecurityHeaders
from gateway.openapi import DESCRIPTION, TITLE, document, operation_id
from gateway.page import STATIC_FOLDER, Page
from gateway.problems import HANDLERS
from gateway.routes import fleet, gpus, health, hosts, metrics, process, queue, stream
from telemetry import __version__

COMPRESSED_BYTES_MIN = 2048


def create_app(backends: Backends, static_folder: Path = STATIC_FOLDER) -> FastAPI:
    """Make the application.

    Args:
        backends: what it answers from.
        static_folder: the built dashboard.
    """
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        exception_handlers={**HANDLERS},
        middleware=[
            Middleware(CountRequests),
            Middleware(SecurityHeaders),
            # Leaves event streams as they are.
            Middleware(GZipMiddleware, minimum_size=COMPRESSED_BYTES_MIN, compresslevel=4),
            Middleware(CancelWhenGone),
        ],
    )
    app.state.backends = backends
    app.openapi = partial(document, app)  # type: ignore[method-assign]
    for resource in (fleet, gpus, hosts, stream, queue, metrics, health, process):
        app.include_router(resource.router)
    app.mount("/", Page(static_folder), name="page")
    return app
