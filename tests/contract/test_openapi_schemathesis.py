"""Schemathesis asks the gateway of a real pipeline all that its OpenAPI document allows, and much that it does not.

The event stream has no end and is left to its own tests.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks

from gateway.app import create_app
from gateway.backends import Backends
from telemetry.codec import frame_of
from telemetry.model import Record
from tests.integration.pipelines import pipeline
from tests.unit.alerts_service.fakes import ScriptedRules, group, rule
from tests.unit.alerts_service.serving import alerts_server
from tests.unit.gateway.services import gateway_to

ROUNDS: Final = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
EXAMPLES: Final = 15 * ROUNDS
START_S: Final = 60.0
CHECKS: Final = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
"""Without `positive_data_acceptance`: what is well formed may still be about something that cannot be, such as a range
that ends before it begins; and without those that want to know what other answers have made or removed."""


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A queue, a collector with records, alerts, and a gateway that lets everybody change things."""
    folder = tmp_path_factory.mktemp("schemathesis")
    ready, found, stop = threading.Event(), list[str](), list[Any]()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(folder, ready, found, stop)), daemon=True)
    thread.start()
    assert ready.wait(START_S)
    yield found[0]
    loop, stopping = stop
    loop.call_soon_threadsafe(stopping.set)
    thread.join(START_S)
    assert not thread.is_alive()


async def _serve(folder: Path, ready: threading.Event, found: list[str], stop: list[Any]) -> None:
    stopping = asyncio.Event()
    stop += [asyncio.get_running_loop(), stopping]
    async with AsyncExitStack() as stack:
        pipe = await stack.enter_async_context(pipeline(folder / "store"))
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
        await stack.enter_async_context(gateway)
        newest = datetime.now(UTC)
        for gpu, place in {"GPU-a": 0, "GPU-b": 1, "node-2/0": 2}.items():
            labels = {"host": "node-1" if place < 2 else "node-2", "index": str(place)}
            values = {"temperature": 63.0, "power_draw": 400.5}
            await pipe.publish(
                frame_of([Record(newest - timedelta(seconds=s), gpu, values, labels) for s in range(20)])
            )
        await pipe.stored()
        found.append(f"http://127.0.0.1:{gateway.api_port}")
        ready.set()
        await stopping.wait()


# What it can be asked does not depend on what is behind it.
schema = schemathesis.openapi.from_dict(create_app(Mock(spec=Backends)).openapi()).exclude(path="/api/v1/stream")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=ROUNDS == 1,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_is_documented(case: schemathesis.Case[Any], base_url: str) -> None:
    case.call_and_validate(base_url, checks=CHECKS, timeout=30)
