"""The collector's HTTP side, for people, probes and Prometheus."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry import __version__
from telemetry.collector.counters import StatsMetrics
from telemetry.model import TIMESTAMP
from telemetry.runtime.http import EXCEPTION_HANDLERS, JsonResponse, ProblemResponse
from telemetry.storage.store import Span, Store, StoreError
from telemetry.v1 import query_pb2

LIMIT_DEFAULT: Final = 10
"""Records that `/telemetry/{gpu_id}` returns unless asked for more or fewer."""

LIMIT_MAX: Final = 10_000
"""The most that it returns."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be well or not, and what to say about it."""

    ok: bool
    detail: str


def collector_app(
    store: Store, stats: Callable[[], query_pb2.CollectorStats], checks: Callable[[], Mapping[str, Check]]
) -> Starlette:
    """The application: `/health`, `/stats`, `/memory-stats`, `/telemetry/{gpu_id}` and `/metrics`."""

    async def health(request: Request) -> Response:
        # A collector that waits for its queue or disk is alive: to restart it would help nothing, so this is no error.
        found = checks()
        return JsonResponse(
            {
                "status": "ok" if all(check.ok for check in found.values()) else "degraded",
                "version": __version__,
                "checks": {name: {"ok": check.ok, "detail": check.detail} for name, check in found.items()},
            }
        )

    async def show_stats(request: Request) -> Response:
        return JsonResponse(_stats_json(stats()))

    async def memory_stats(request: Request) -> Response:
        usage = store.stats()
        counts = usage.cached_counts
        return JsonResponse(
            {
                "cached_gpus": len(counts),
                "cached_records": usage.cached_records,
                "cached_bytes": usage.cached_bytes,
                "records_per_gpu": {
                    "min": min(counts, default=0),
                    "median": median(counts) if counts else 0,
                    "max": max(counts, default=0),
                },
                "limits": {"records_per_gpu": usage.cache_entries_max, "bytes": usage.cache_bytes_max},
                "process_rss_bytes": _resident_bytes(),
            }
        )

    async def metrics(request: Request) -> Response:
        # A registry of its own: a process may hold several collectors.
        registry = CollectorRegistry()
        registry.register(StatsMetrics(stats))
        body = generate_latest(registry) + generate_latest(REGISTRY)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def telemetry(request: Request) -> Response:
        gpu, text = request.path_params["gpu_id"], request.query_params.get("limit", str(LIMIT_DEFAULT))
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= LIMIT_MAX:
            return ProblemResponse(400, f"limit is {text[:100]!r}; it must be 1 to {LIMIT_MAX}", parameter="limit")
        if store.find(gpu) is None:
            return ProblemResponse(404, f"no GPU is called {gpu!r}", parameter="gpu_id")
        try:
            records = await asyncio.to_thread(_newest, store, gpu, int(text))
        except StoreError as error:
            return ProblemResponse(503, str(error))
        return JsonResponse({"gpu_id": gpu, "count": len(records), "telemetry": records})

    routes = [
        Route("/health", health),
        Route("/stats", show_stats),
        Route("/memory-stats", memory_stats),
        Route("/telemetry/{gpu_id:path}", telemetry),
        Route("/metrics", metrics),
    ]
    return Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)


def _newest(store: Store, gpu: str, limit: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for row in chain.from_iterable(
        frame.head(limit).iter_rows(named=True) for frame in store.records(gpu, Span(), newest_first=True)
    ):
        instant = row.pop(TIMESTAMP)
        metrics = {name: value for name, value in row.items() if value is not None}
        records.append({"timestamp": instant, "gpu_id": gpu, "metrics": metrics})
        if len(records) == limit:
            break
    return records


def _stats_json(stats: query_pb2.CollectorStats) -> dict[str, Any]:
    values: dict[str, Any] = {field.name: getattr(stats, field.name) for field in stats.DESCRIPTOR.fields}
    values["tiers"] = {tier.tier: {"files": tier.files, "bytes": tier.bytes, "rows": tier.rows} for tier in stats.tiers}
    for name in ("start_time", "checkpoint_time", "compaction_time"):
        values[name] = values[name].ToJsonString() if stats.HasField(name) else None
    return values


def _resident_bytes() -> int | None:
    """Memory that the process takes; ``None`` where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
