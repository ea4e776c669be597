"""The queue's HTTP side, for people, probes and Prometheus: `/stats`, `/health`, `/topics`, `/metrics`."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry import __version__
from telemetry.queue import shapes
from telemetry.queue.core.errors import QueueError
from telemetry.queue.core.types import Topic
from telemetry.queue.metrics import QueueCollector
from telemetry.queue.services.encode import topic_message
from telemetry.queue.stats import ServerStats, stats_message
from telemetry.runtime.http import EXCEPTION_HANDLERS, JsonResponse, ProblemResponse, coded_problem
from telemetry.v1 import queue_admin_pb2


class Shown(Protocol):
    """What the pages are made from."""

    @property
    def engine_name(self) -> str:
        """Where the messages are kept."""
        ...

    @property
    def not_serving(self) -> str:
        """Why the queue does not serve; empty while it does."""
        ...

    async def stats(self) -> ServerStats:
        """All that the queue counts."""
        ...

    async def topics(self) -> list[Topic]:
        """All topics."""
        ...


def admin_app(queue: Shown) -> Starlette:
    """The application."""

    async def health(request: Request) -> Response:
        identity = {"version": __version__, "engine": queue.engine_name}
        if queue.not_serving:
            return ProblemResponse(503, f"the queue is {queue.not_serving}", headers={"Retry-After": "1"}, **identity)
        return JsonResponse({"status": "ok"} | identity)

    async def stats(request: Request) -> Response:
        return JsonResponse(shapes.queue_stats(stats_message(await queue.stats())))

    async def topics(request: Request) -> Response:
        counted = {each.topic: each for each in stats_message(await queue.stats()).topics}
        return JsonResponse({"topics": [_topic(each, counted.get(each.config.name)) for each in await queue.topics()]})

    async def metrics(request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(QueueCollector(await queue.stats()))
        body = generate_latest(registry) + generate_latest(REGISTRY)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    routes = [Route(f"/{page.__name__}", page) for page in (health, stats, topics, metrics)]
    return Starlette(routes=routes, exception_handlers={**EXCEPTION_HANDLERS, QueueError: coded_problem})


def _topic(topic: Topic, counted: queue_admin_pb2.TopicStats | None) -> shapes.Json:
    stats = None if counted is None else shapes.topic_stats(counted)
    return {**shapes.topic(topic_message(topic)), "stats": stats}
