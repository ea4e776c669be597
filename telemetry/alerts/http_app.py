"""The HTTP side of the alerts, for people, probes and Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry import __version__
from telemetry.alerts.notify.times import rfc3339
from telemetry.alerts.rules import RuleError
from telemetry.alerts.runner import Runner
from telemetry.alerts.stats import Facts, StatsMetrics
from telemetry.runtime.http import EXCEPTION_HANDLERS, JsonResponse, ProblemResponse


def alerts_app(runner: Runner, facts: Facts) -> Starlette:
    """The application: `/health`, `/stats`, `/metrics` and `POST /-/reload`."""

    async def health(request: Request) -> Response:
        # A process that waits for its queue is alive: to restart it would help nothing, so this is no error.
        found = facts.checks()
        return JsonResponse(
            {
                "status": "ok" if all(check.ok for check in found.values()) else "degraded",
                "version": __version__,
                "start_time": rfc3339(facts.started_us),
                "checks": {name: {"ok": check.ok, "detail": check.detail} for name, check in found.items()},
            }
        )

    async def stats(request: Request) -> Response:
        return JsonResponse(facts.stats())

    async def metrics(request: Request) -> Response:
        # A registry of its own: a process may hold several.
        registry = CollectorRegistry()
        registry.register(StatsMetrics(facts))
        body = generate_latest(registry) + generate_latest(REGISTRY)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def reload(request: Request) -> Response:
        try:
            await runner.reload()
        except RuleError as error:
            return ProblemResponse(422, f"{error}; the rules before it stay in force")
        return JsonResponse(facts.stats())

    routes = [
        Route("/health", health),
        Route("/stats", stats),
        Route("/metrics", metrics),
        Route("/-/reload", reload, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)
