"""What routes answer from, and how they get at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from gateway.alerts.upstream import AlertsClient
from gateway.audit import AuditLog
from gateway.health import HealthReport
from gateway.inventory import Inventories
from gateway.latest import LatestValues
from gateway.live import LiveHub
from gateway.queue.tasks import Tasks
from gateway.upstreams import QueueClient
from telemetry.query.fanout import Collectors


@dataclass(frozen=True, slots=True)
class Backends:
    """Everything behind the routes."""

    collectors: Collectors
    queue: QueueClient
    alerts: AlertsClient
    inventories: Inventories
    hub: LiveHub
    health: HealthReport
    audit: AuditLog
    tasks: Tasks
    latest: LatestValues


async def _backends(request: Request) -> Backends:
    backends = request.app.state.backends
    assert isinstance(backends, Backends)
    return backends


BackendsDependency = Annotated[Backends, Depends(_backends)]
