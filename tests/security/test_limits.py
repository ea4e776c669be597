"""Who sends too much, too slowly, or from another site is sent away; the others do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from telemetry.runtime import grpc_server, http, http_protocol
from telemetry.runtime.http import EXCEPTION_HANDLERS, HttpServer
from telemetry.runtime.http_guard import BODY_BYTES_MAX
from telemetry.runtime.http_protocol import HEAD_BYTES_MAX
from telemetry.runtime.security import SecurityFlags
from tests.security.certificates import Pair
from tests.security.conftest import serving

CHANGES: list[bytes] = []
SLOW_S = 0.3


async def change(request: Request) -> Response:
    CHANGES.append(await request.body())
    return PlainTextResponse("changed")


async def look(request: Request) -> Response:
    return PlainTextResponse("seen")


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """An application as every process has one, that has no patience."""
    monkeypatch.setattr(http_protocol, "HEAD_S_MAX", SLOW_S)
    monkeypatch.setattr(http_protocol, "BODY_S_MAX", SLOW_S)
    CHANGES.clear()
    routes = [Route("/", look), Route("/change", change, methods=["POST"])]
    app = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)
    async with HttpServer(app, "127.0.0.1", {"--port": 0}) as server:
        yield server.ports[0]


async def talk(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send pieces, and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.read())
    async with asyncio.timeout(10):
        for piece in pieces:
            if not answer.done():
                writer.write(piece)
                await asyncio.sleep(pause_s)
        await answer
    writer.close()
    return answer.result()


async def test_a_client_that_says_nothing_is_let_go(port: int) -> None:
    assert b" 408 " in await talk(port)


async def test_a_head_that_drips_in_is_not_waited_for(port: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1000
    answer = await talk(port, *(head[n : n + 1] for n in range(len(head))), pause_s=SLOW_S / 20)
    assert b" 408 " in answer
    assert b"the head of the request did not arrive" in answer


async def test_the_head_of_the_second_request_is_not_waited_for_either(port: int) -> None:
    answer = await talk(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HT", pause_s=0.05)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b" 408 " in answer


async def test_a_body_that_does_not_come_is_not_waited_for(port: int) -> None:
    await talk(port, b"POST /change HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
    assert CHANGES == []


async def test_others_are_served_while_slow_ones_hold_connections(port: int) -> None:
    slow = [asyncio.create_task(talk(port, b"GET / HTTP/1.1\r\n")) for _ in range(200)]
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "seen"
    assert all(b" 408 " in answer for answer in await asyncio.gather(*slow))


async def test_a_head_without_end_is_refused(port: int) -> None:
    answer = await talk(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * (HEAD_BYTES_MAX + 1))
    assert b" 431 " in answer


async def test_a_body_that_is_too_large_is_refused_unread(port: int) -> None:
    head = b"POST /change HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    async with asyncio.timeout(10):
        assert b" 413 " in await reader.readline()
    writer.close()
    assert CHANGES == []


async def test_a_body_that_grows_too_large_is_refused(port: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 65_536 + 2):
            yield b"x" * 65_536

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.post("/change", content=pieces())
        assert answer.status_code == 413
        assert answer.json()["title"]
        assert CHANGES == []
        assert (await client.post("/change", content=b"x" * BODY_BYTES_MAX)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
async def test_a_page_of_another_site_changes_nothing(port: int, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
        assert (await client.post("/change")).status_code == 403
        assert CHANGES == []
        answer = await client.get("/")
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


async def test_the_page_itself_may_change_things(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
        assert (await client.post("/change", headers=own)).status_code == 200
        assert (await client.post("/change")).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("dash.localhost:1", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("[", 421),
    ],
)
async def test_on_loopback_a_name_of_somebody_else_is_not_answered(port: int, host: str, status: int) -> None:
    answer = await talk(port, b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_who_does_not_begin_with_tls_is_let_go(server_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HANDSHAKE_S_MAX", SLOW_S)
    async with serving(SecurityFlags(server_pair.cert, server_pair.key)) as server:
        assert await talk(server.http_port) == b""
        assert await talk(server.http_port, b"\x16\x03\x01", b"\x02", pause_s=0.05) == b""


async def test_grpc_refuses_what_is_too_large_and_goes_on() -> None:
    async with serving(SecurityFlags()) as server:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{server.grpc_port}", options=[("grpc.max_send_message_length", -1)]
        ) as channel:
            call: Any = channel.unary_unary("/telemetry.v1.QueueAdminService/ListTopics")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"x" * (grpc_server.MESSAGE_BYTES_MAX + 1), timeout=10)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"", timeout=10, metadata=[("x", "y" * (64 << 10))])
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await call(b"", timeout=10)


async def test_grpc_lets_go_who_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [each for each in grpc_server.SERVER_OPTIONS if each[0] != "grpc.server_handshake_timeout_ms"]
    assert len(options) == len(grpc_server.SERVER_OPTIONS) - 1
    monkeypatch.setattr(grpc_server, "SERVER_OPTIONS", [*options, ("grpc.server_handshake_timeout_ms", 300)])
    async with serving(SecurityFlags()) as server:
        await talk(server.grpc_port)
