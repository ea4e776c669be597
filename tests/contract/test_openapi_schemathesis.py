"""Schemathesis asks the gateway of a real pipeline all that its OpenAPI document allows, and much that it does not."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, Phase, settings
from requests.adapters import HTTPAdapter
from schemathesis import checks

from gateway.app import create_app
from gateway.backends import Backends
from tests.contract.whole_pipeline import whole_pipeline

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
    async with whole_pipeline(folder) as running:
        found.append(running.url)
        ready.set()
        await stopping.wait()
        async with asyncio.timeout(START_S):  # until all clients of the event stream are known to have gone
            while running.gateway.hub.viewers:
                await asyncio.sleep(0.01)


class _FirstBlock(HTTPAdapter):
    """Reads of an event stream, which has no end, only how it begins, and leaves."""

    def send(self, *args: Any, **options: Any) -> requests.Response:
        response = super().send(*args, **options | {"stream": True})
        if response.headers.get("Content-Type", "").startswith("text/event-stream"):
            beginning = response.raw.read1()
            response.close()
            response.raw = urllib3.HTTPResponse(BytesIO(beginning), response.headers, preload_content=False)
        return response


# What it can be asked does not depend on what is behind it.
schema = schemathesis.openapi.from_dict(create_app(Mock(spec=Backends)).openapi())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=ROUNDS == 1,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_is_documented(case: schemathesis.Case[Any], base_url: str) -> None:
    with requests.Session() as session:
        session.mount("http://", _FirstBlock())
        case.call_and_validate(base_url, session=session, checks=CHECKS, timeout=30)
