"""The application: routes, errors as problems, documentation, and the dashboard for all other paths."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from gateway.access import Access, Role, is_public
from gateway.backends import Backends
from gateway.hot import AnswerLatest
from gateway.middleware import CancelWhenGone, CountRequests, SecurityHeaders
from gateway.openapi import DESCRIPTION, TITLE, document, operation_id
from gateway.page import STATIC_FOLDER, Page
from gateway.problems import HANDLERS
from gateway.request_ids import RequestIds
from gateway.routes import (
    alerts,
    fleet,
    gpu_metrics,
    gpus,
    health,
    hosts,
    metrics,
    process,
    queue,
    queue_changes,
    queue_messages,
    queue_tasks,
    session,
    stream,
)
from gateway.strictness import STRICT
from telemetry import __version__
from telemetry.runtime.http_guard import HttpGuard
from telemetry.runtime.rates import Rates

COMPRESSED_BYTES_MIN = 2048


def create_app(
    backends: Backends,
    static_folder: Path = STATIC_FOLDER,
    access: Access | None = None,
    *,
    only_loopback: bool = False,
    rates: Rates | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        backends: what it answers from.
        static_folder: the built dashboard.
        access: who may change things; by default nobody.
        only_loopback: whether only this machine can connect.
        rates: how often each caller may ask.
    """
    access = access or Access(admin=False)
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        exception_handlers={**HANDLERS},
        middleware=[
            Middleware(RequestIds),
            Middleware(CountRequests),
            Middleware(SecurityHeaders),
            Middleware(
                HttpGuard,
                tokens=access.tokens,
                only_loopback=only_loopback,
                is_public=is_public,
                writes_need=Role.VIEW,
                rates=rates,
            ),
            Middleware(CancelWhenGone),
            # What it answers is too small to be compressed.
            Middleware(AnswerLatest, latest=backends.latest),
            # Leaves event streams as they are.
            Middleware(GZipMiddleware, minimum_size=COMPRESSED_BYTES_MIN, compresslevel=4),
        ],
    )
    app.state.backends = backends
    app.state.access = access
    app.openapi = partial(document, app)  # type: ignore[method-assign]
    about_queue = (queue, queue_messages, queue_changes, queue_tasks)
    for resource in (fleet, gpus, hosts, stream, alerts, *about_queue, metrics, health, session, gpu_metrics):
        app.include_router(resource.router, dependencies=[STRICT])
    app.include_router(process.router)
    app.mount("/", Page(static_folder), name="page")
    return app
