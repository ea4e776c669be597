"""A gateway that lets everybody change things, in front of a queue, a collector with records, and alerts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.server import GatewayServer
from telemetry.codec import frame_of
from telemetry.model import Record
from telemetry.queue.engines.disk import DiskEngine
from tests.integration.pipelines import Pipeline, pipeline
from tests.unit.alerts_service.fakes import ScriptedRules, group, rule
from tests.unit.alerts_service.serving import Serving, alerts_server
from tests.unit.gateway.services import gateway_to


@dataclass(frozen=True, slots=True)
class Running:
    """What runs."""

    pipe: Pipeline
    alerts: Serving
    gateway: GatewayServer

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"http://127.0.0.1:{self.gateway.api_port}"

    async def publish(self) -> None:
        """Publish and store 20 records of each of three GPUs, the newest of now."""
        newest = datetime.now(UTC)
        for gpu, place in {"GPU-a": 0, "GPU-b": 1, "node-2/0": 2}.items():
            labels = {"host": "node-1" if place < 2 else "node-2", "index": str(place)}
            values = {"temperature": 63.0, "power_draw": 400.5}
            await self.pipe.publish(
                frame_of([Record(newest - timedelta(seconds=s), gpu, values, labels) for s in range(20)])
            )
        await self.pipe.stored()


@asynccontextmanager
async def whole_pipeline(folder: Path) -> AsyncIterator[Running]:
    """All of it, with records and alerts."""
    async with AsyncExitStack() as stack:
        pipe = await stack.enter_async_context(pipeline(folder / "store", engine=DiskEngine(folder / "queue")))
        rules = ScriptedRules([group("gpus", [rule("Hot"), rule("Slow", for_s=60)])])
        alerts = await stack.enter_async_context(alerts_server(folder / "alerts", rules))
        await alerts.tick("GPU-a", true={"Hot": {"GPU-a": 95.0}, "Slow": {"GPU-b": 1.0}})
        queue, collector = (int(address.rpartition(":")[2]) for address in (pipe.queue, pipe.collector))
        gateway = gateway_to(
            queue,
            collector,
            static_folder=folder / "static",
            alerts=f"127.0.0.1:{alerts.server.grpc_port}",
            admin=True,
            audit_log=folder / "audit.jsonl",
        )
        running = Running(pipe, alerts, await stack.enter_async_context(gateway))
        await running.publish()
        yield running
