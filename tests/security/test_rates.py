"""Who asks too often is told to wait, by token or by address; the others and the probes do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from gateway.server import GatewayServer
from telemetry.queue.client import Credentials, Publisher
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime import rates
from telemetry.runtime.channel import open_channel
from telemetry.runtime.rates import BURST_S, RATE_LIMIT, Rates, network_of
from telemetry.runtime.security import SecurityFlags
from telemetry.runtime.token_file import add_token
from telemetry.runtime.tokens import Right, Role
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc
from tests.security.conftest import serving

LIMIT = 1
BURST = int(LIMIT * BURST_S)
MANY = 40 * BURST
"""So many that they are too many also for a machine that needs seconds for them."""


class Clock:
    """A clock that stands still, so that it does not matter how fast the machine is."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def limited(flags: SecurityFlags, clock: Clock) -> AsyncIterator[QueueServer]:
    """A queue that goes by a clock."""
    security = replace(flags.load("127.0.0.1"), rates=Rates(LIMIT, clock))
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0, security=security) as server:
        yield server


@pytest.fixture
async def queue(clock: Clock) -> AsyncIterator[QueueServer]:
    """A queue without tokens."""
    async with limited(SecurityFlags(), clock) as server:
        yield server


class Secured:
    """A queue with two tokens."""

    def __init__(self, server: QueueServer, folder: Path, secrets: dict[str, str]) -> None:
        self.server = server
        self.secrets = secrets
        self._folder = folder

    def credentials(self, name: str) -> Credentials:
        return Credentials(token_file=self._folder / f"{name}.token")


@pytest.fixture
async def secured(tmp_path: Path, clock: Clock) -> AsyncIterator[Secured]:
    rights = {Right.PUBLISH: ("t",)}
    secrets = {name: add_token(tmp_path / "tokens", name, Role.VIEW, rights) for name in ("loud", "quiet")}
    for name, secret in secrets.items():
        (tmp_path / f"{name}.token").write_text(secret)
    async with limited(SecurityFlags(tokens=tmp_path / "tokens"), clock) as server:
        yield Secured(server, tmp_path, secrets)


def refused(protocol: str) -> float:
    labels = {"protocol": protocol, "reason": "rate"}
    return REGISTRY.get_sample_value("telemetry_access_refused_total", labels) or 0.0


def http(server: QueueServer, address: str = "127.0.0.1", secret: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.http_port}",
        headers={"Authorization": f"Bearer {secret}"} if secret else {},
        transport=httpx.AsyncHTTPTransport(local_address=address),
    )


async def ask_until_refused(client: httpx.AsyncClient, path: str = "/topics") -> tuple[list[int], httpx.Response]:
    """The statuses of what was answered, and the first answer that is a refusal for the rate."""
    statuses: list[int] = []
    for _ in range(MANY):
        answer = await client.get(path)
        if answer.status_code == 429:
            return statuses, answer
        statuses.append(answer.status_code)
    raise AssertionError("nothing was refused")


async def list_topics(channel: grpc.aio.Channel) -> None:
    stub = queue_admin_pb2_grpc.QueueAdminServiceStub(channel)
    await stub.ListTopics(queue_admin_pb2.ListTopicsRequest(), timeout=10)


async def call_until_refused(channel: grpc.aio.Channel) -> tuple[int, grpc.aio.AioRpcError]:
    """How many calls were answered, and the first that was not."""
    for answered in range(MANY):
        try:
            await list_topics(channel)
        except grpc.aio.AioRpcError as error:
            return answered, error
    raise AssertionError("nothing was refused")


async def test_too_many_requests_are_refused_with_the_time_to_wait_and_counted(queue: QueueServer) -> None:
    before = refused("http")
    async with http(queue) as client:
        statuses, answer = await ask_until_refused(client)
        assert statuses == [200] * BURST
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "too many requests a second from this caller"
        assert refused("http") == before + 1
        assert {(await client.get("/health")).status_code for _ in range(2 * BURST)} == {200}


async def test_who_waits_as_long_as_he_is_told_is_answered(queue: QueueServer, clock: Clock) -> None:
    async with http(queue) as client:
        _, answer = await ask_until_refused(client)
        clock.now += int(answer.headers["retry-after"])
        assert (await client.get("/topics")).status_code == 200


async def test_another_address_does_not_notice(queue: QueueServer) -> None:
    async with http(queue) as loud, http(queue, "127.0.0.2") as quiet:
        await ask_until_refused(loud)
        assert (await quiet.get("/topics")).status_code == 200


async def test_too_many_calls_are_refused_with_the_time_to_wait_and_health_is_not(queue: QueueServer) -> None:
    before = refused("grpc")
    async with open_channel(f"127.0.0.1:{queue.grpc_port}", None) as channel:
        answered, error = await call_until_refused(channel)
        assert answered == BURST
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "too many calls a second from this caller"
        assert retry_after_s(error) == 1.0 / LIMIT
        assert refused("grpc") == before + 1
        health: Any = health_pb2_grpc.HealthStub(channel)
        for _ in range(2 * BURST):
            assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=10)).status == 1
    async with http(queue) as client:
        assert (await client.get("/topics")).status_code == 429


async def test_a_token_counts_wherever_it_is_used_and_leaves_others_alone(secured: Secured) -> None:
    async with http(secured.server, secret=secured.secrets["loud"]) as client:
        await ask_until_refused(client)
    async with http(secured.server, "127.0.0.2", secured.secrets["loud"]) as client:
        assert (await client.get("/topics")).status_code == 429
    async with http(secured.server, secret=secured.secrets["quiet"]) as client:
        assert (await client.get("/topics")).status_code == 200
    address = f"127.0.0.1:{secured.server.grpc_port}"
    async with open_channel(address, secured.credentials("loud")) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="too many calls"):
            await list_topics(channel)
    async with open_channel(address, secured.credentials("quiet")) as channel:
        await list_topics(channel)


async def test_who_guesses_tokens_is_held_back_by_his_address(secured: Secured) -> None:
    async with http(secured.server, secret="tlm_guess") as guessing, http(secured.server) as without:
        statuses, _ = await ask_until_refused(guessing)
        assert statuses == [401] * BURST
        assert (await without.get("/topics")).status_code == 429
    async with http(secured.server, secret=secured.secrets["quiet"]) as client:
        assert (await client.get("/topics")).status_code == 200


async def test_a_stream_is_one_call_however_much_it_carries(queue: QueueServer) -> None:
    before = refused("grpc")
    async with Publisher(f"127.0.0.1:{queue.grpc_port}") as publisher:
        for number in range(5 * BURST):
            await publisher.publish("t", str(number).encode())
    assert refused("grpc") == before


async def test_a_publisher_that_is_refused_waits_and_goes_on() -> None:
    before = refused("grpc")
    async with serving(SecurityFlags(rate_limit=10 * LIMIT)) as server, asyncio.timeout(30):
        address = f"127.0.0.1:{server.grpc_port}"
        async with open_channel(address, None) as channel:
            await call_until_refused(channel)
        async with Publisher(address) as publisher:
            assert (await publisher.publish("t", b"late")).base_offset == 0
    assert refused("grpc") > before + 1


async def test_the_gateway_counts_by_address_and_always_says_how_it_is(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>fleet</title>")
    server = GatewayServer(
        host="127.0.0.1",
        dashboard_port=0,
        api_port=0,
        queue="127.0.0.1:1",
        collectors=["127.0.0.1:1"],
        streamer_http="127.0.0.1:1",
        static_folder=tmp_path,
        security=SecurityFlags(rate_limit=LIMIT).load("127.0.0.1"),
    )
    async with server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.api_port}") as client:
        _, answer = await ask_until_refused(client, "/")
        assert answer.headers["content-security-policy"]
        await ask_until_refused(client, "/api/v1/session")
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/health/ready")).status_code != 429


def test_the_limit_can_be_lifted() -> None:
    assert SecurityFlags(rate_limit=0).load("127.0.0.1").rates is None
    assert SecurityFlags().rate_limit == RATE_LIMIT


def test_as_many_as_in_ten_seconds_at_once_and_then_as_many_as_time_allows() -> None:
    clock = Clock()
    bucket = Rates(4.0, clock)
    assert [bucket.wait_s("a") for _ in range(40)] == [0.0] * 40
    assert bucket.wait_s("a") == bucket.wait_s("a") == 0.25
    clock.now = 0.25
    assert [bucket.wait_s("a") for _ in range(2)] == [0.0, 0.25]
    clock.now = 2.0
    assert [bucket.wait_s("a") for _ in range(8)] == [0.0] * 7 + [0.25]
    clock.now = 1000.0
    assert [bucket.wait_s("a") for _ in range(41)] == [0.0] * 40 + [0.25]


def test_only_so_many_callers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "CALLERS_MAX", 3)
    bucket = Rates(0.1, lambda: 0.0)
    assert [bucket.wait_s(name) > 0 for name in ("a", "b", "c", "a", "d", "a", "b")] == [
        *(False, False, False),
        True,  # a has had its one
        False,  # and is used, so that b is forgotten for d
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_all_addresses_that_somebody_has_are_one_caller(address: str, network: str) -> None:
    assert network_of(address) == network


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                retry = error_details_pb2.RetryInfo()
                if detail.Unpack(retry):
                    return float(retry.retry_delay.ToNanoseconds() / 1e9)
    raise AssertionError
