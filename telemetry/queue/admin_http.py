"""The queue's HTTP side, for people, probes and Prometheus: `/stats`, `/health`, `/topics`, `/metrics`."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry import __version__
from telemetry.queue.core.errors import QueueError
from telemetry.queue.core.types import Topic, TopicStats
from telemetry.queue.metrics import QueueCollector
from telemetry.queue.stats import Json, ServerStats, rfc3339, stats_json, topic_stats_json
from telemetry.runtime.http import EXCEPTION_HANDLERS, JsonResponse, ProblemResponse, coded_problem


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
        return JsonResponse(stats_json(await queue.stats()))

    async def topics(request: Request) -> Response:
        counted = {each.topic: each for each in (await queue.stats()).queue.topics}
        return JsonResponse({"topics": [_topic(each, counted.get(each.config.name)) for each in await queue.topics()]})

    async def metrics(request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(QueueCollector(await queue.stats()))
        body = generate_latest(registry) + generate_latest(REGISTRY)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    routes = [Route(f"/{page.__name__}", page) for page in (health, stats, topics, metrics)]
    return Starlette(routes=routes, exception_handlers={**EXCEPTION_HANDLERS, QueueError: coded_problem})


def _topic(topic: Topic, counted: TopicStats | None) -> Json:
    config = topic.config
    return {
        "name": config.name,
        "partitions": config.partitions,
        "storage": config.storage.value if config.storage else None,
        "create_time": rfc3339(topic.created_us),
        "retention": {
            "age_s": config.retention.age_s,
            "bytes": config.retention.bytes,
            "drop_unacked": config.retention.drop_unacked,
            "drop_acked": config.retention.drop_acked,
        },
        "limits": {
            "message_bytes": config.limits.message_bytes,
            "batch_bytes": config.limits.batch_bytes,
            "batch_messages": config.limits.batch_messages,
            "partition_bytes": config.limits.partition_bytes,
        },
        "stats": None if counted is None else topic_stats_json(counted),
    }
