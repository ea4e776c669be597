"""A token that has expired is as one that was revoked, except that its bearer is told so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import grpc
import httpx
import pytest
from click.testing import CliRunner, Result
from google.protobuf.duration_pb2 import Duration

from telemetry.cli.main import telemetry
from telemetry.queue.client import Credentials, Publisher, QueueAdmin, QueueClientError, ReceivedDelivery, Subscriber
from telemetry.queue.server import QueueServer
from telemetry.runtime.channel import open_channel
from telemetry.runtime.errors import StartupError
from telemetry.runtime.security import SecurityFlags
from telemetry.runtime.token_file import add_token, remove_token
from telemetry.runtime.tokens import Right, Role, Tokens, read_tokens
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc
from tests.security.conftest import serving


class InTwoHours(datetime):
    """A clock that is two hours ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> InTwoHours:
        later = datetime.now(tz) + timedelta(hours=2)
        return cls.fromtimestamp(later.timestamp(), tz)


class Expiring:
    """A queue, and a token that is good for an hour."""

    def __init__(self, server: QueueServer, folder: Path, secret: str, patch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.tokens = folder / "tokens"
        self.secret = secret
        self.address = f"127.0.0.1:{server.grpc_port}"
        self.credentials = Credentials(token_file=folder / "token")
        self._patch = patch

    def two_hours_later(self) -> None:
        self._patch.setattr("telemetry.runtime.tokens.datetime", InTwoHours)

    def http(self) -> httpx.AsyncClient:
        bearer = {"Authorization": f"Bearer {self.secret}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.server.http_port}", headers=bearer)


@pytest.fixture
async def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Expiring]:
    rights = dict.fromkeys(Right, ("t",))
    secret = add_token(tmp_path / "tokens", "guest", Role.VIEW, rights, datetime.now(UTC) + timedelta(hours=1))
    (tmp_path / "token").write_text(secret)
    async with serving(SecurityFlags(tokens=tmp_path / "tokens")) as server:
        yield Expiring(server, tmp_path, secret, monkeypatch)


async def test_it_is_good_until_then_and_refused_by_name_after(queue: Expiring) -> None:
    async with queue.http() as client, QueueAdmin(queue.address, 2.0, queue.credentials) as admin:
        assert (await client.get("/topics")).status_code == 200
        assert await admin.topics() == []
        queue.two_hours_later()
        answer = await client.get("/topics")
        assert answer.status_code == 401
        assert answer.json()["detail"].startswith("the token guest has expired, at 20")
        with pytest.raises(QueueClientError, match="the token guest has expired, at 20") as refused:
            await admin.topics()
        assert refused.value.code == "UNAUTHENTICATED"
        assert queue.secret not in refused.value.message + answer.text


async def test_what_its_bearer_receives_ends_then(queue: Expiring) -> None:
    async with (
        asyncio.timeout(20),
        Publisher(queue.address, credentials=queue.credentials) as publisher,
        Subscriber(queue.address, ["t"], "g", credentials=queue.credentials) as subscriber,
    ):
        await publisher.publish("t", b"1")
        assert isinstance(await anext(subscriber), ReceivedDelivery)
        queue.two_hours_later()
        with pytest.raises(QueueClientError, match="the token guest has expired") as ended:
            await anext(subscriber)
        assert ended.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("way", ["expired", "revoked"])
async def test_a_stream_that_only_sends_does_not_wait_for_its_next_message(queue: Expiring, way: str) -> None:
    async with open_channel(queue.address, queue.credentials) as channel, asyncio.timeout(20):
        seldom = queue_admin_pb2.WatchStatsRequest(interval=Duration(seconds=3600))
        call = queue_admin_pb2_grpc.QueueAdminServiceStub(channel).WatchStats(seldom)
        assert await call.read()
        if way == "expired":
            queue.two_hours_later()
        else:
            remove_token(queue.tokens, "guest")
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert way in str(ended.value.details())


async def test_a_stream_that_only_sends_goes_on_while_its_token_stands(queue: Expiring) -> None:
    async with open_channel(queue.address, queue.credentials) as channel, asyncio.timeout(20):
        often = queue_admin_pb2.WatchStatsRequest(interval=Duration(nanos=100_000_000))
        call = queue_admin_pb2_grpc.QueueAdminServiceStub(channel).WatchStats(often)
        for _ in range(5):
            assert await call.read()
        call.cancel()


def token(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(telemetry, ["token", *arguments, "--tokens", str(path)])


def test_the_command_makes_and_lists_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    made = token(path, "create", "guest", "--role", "view", "--expires", "90d")
    assert made.exit_code == 0, made.output
    assert "it expires at 20" in made.stderr
    token(path, "create", "forever", "--role", "view")
    add_token(path, "former", Role.VIEW, {}, datetime(2020, 1, 1, tzinfo=UTC))
    guest = read_tokens(path)[0].expires
    assert guest is not None
    assert timedelta(days=89, hours=23) < guest - datetime.now(UTC) <= timedelta(days=90)
    shown = {line.split()[0]: line.split()[2] for line in token(path, "list").output.splitlines()}
    assert shown == {"NAME": "EXPIRES", "guest": f"{guest:%Y-%m-%dT%H:%M:%SZ}", "forever": "never", "former": "expired"}
    rows = json.loads(token(path, "list", "--json").output)["tokens"]
    assert [(row["expires"], row["expired"]) for row in rows] == [
        (f"{guest:%Y-%m-%dT%H:%M:%SZ}", False),
        (None, False),
        ("2020-01-01T00:00:00Z", True),
    ]


@pytest.mark.parametrize("length", ["soon", "90", "0s", "-1d", "9999999w"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, length: str) -> None:
    refused = token(tmp_path / "tokens", "create", "guest", "--expires", length)
    assert refused.exit_code == 2
    assert "--expires" in refused.output
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("said", ["soon", "2027-01-31T00:00:00", "9999-12-31T23:59:59-12:00", 1800000000, True, []])
def test_a_line_with_another_time_is_named(tmp_path: Path, said: object) -> None:
    path = tmp_path / "tokens"
    path.write_text(json.dumps({"name": "a", "sha256": "0" * 64, "expires": said}))
    with pytest.raises(StartupError, match=f"{path}, line 1: expires has to be a time such as"):
        Tokens(path)
