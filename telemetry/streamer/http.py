"""The streamer's HTTP port: ``/health``, ``/stats`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry import __version__
from telemetry.runtime.http import EXCEPTION_HANDLERS, JsonResponse, metrics_endpoint
from telemetry.streamer.stats import Stats, StatsCollector


def streamer_app(stats: Stats) -> Starlette:
    """The application for :class:`telemetry.runtime.http.HttpServer`."""

    async def health(request: Request) -> Response:
        return JsonResponse(
            {"status": "ok", "version": __version__, "start_time": stats.start_time, "state": stats.state}
        )

    async def statistics(request: Request) -> Response:
        return JsonResponse(stats.report())

    return Starlette(
        routes=[Route("/health", health), Route("/stats", statistics), Route("/metrics", metrics_endpoint)],
        exception_handlers=EXCEPTION_HANDLERS,
    )


@contextmanager
def exported(stats: Stats) -> Iterator[None]:
    """Have ``/metrics`` tell these numbers meanwhile."""
    collector = StatsCollector(stats)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
