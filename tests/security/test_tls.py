"""Who is believed over TLS, on gRPC and HTTP, and what happens when certificates change while messages flow."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import httpx
import pytest

from telemetry.queue.client import Credentials, Publisher, Subscriber
from telemetry.queue.server import QueueServer
from telemetry.runtime.calls import Upstream
from telemetry.runtime.channel import open_channel
from telemetry.runtime.security import SecurityFlags
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc
from tests.security.certificates import Authority, Pair
from tests.security.conftest import serving

Ask = Callable[[QueueServer, Credentials], Awaitable[None]]


class RefusedError(Exception):
    """The connection did not come about."""


async def ask_grpc(server: QueueServer, credentials: Credentials) -> None:
    async with open_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
        stub = queue_admin_pb2_grpc.QueueAdminServiceStub(channel)
        try:
            await stub.ListTopics(queue_admin_pb2.ListTopicsRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            raise RefusedError(error.details()) from None


async def ask_http(server: QueueServer, credentials: Credentials) -> None:
    context = credentials.tls_context()
    scheme = "http" if context is None else "https"
    async with httpx.AsyncClient(verify=context or False) as client:
        try:
            answer = await client.get(f"{scheme}://127.0.0.1:{server.http_port}/stats")
        except (httpx.HTTPError, ssl.SSLError) as error:
            raise RefusedError(str(error)) from None
    assert answer.status_code == 200


both = pytest.mark.parametrize("ask", [ask_grpc, ask_http])


def flags_of(pair: Pair, client_ca: Path | None = None) -> SecurityFlags:
    return SecurityFlags(pair.cert, pair.key, client_ca)


@both
async def test_a_client_that_believes_the_ca_is_served(ask: Ask, made: Authority, server_pair: Pair) -> None:
    async with serving(flags_of(server_pair)) as server:
        await ask(server, Credentials(ca=made.path))


@both
async def test_nobody_is_served_in_the_clear_on_a_port_with_tls(ask: Ask, server_pair: Pair) -> None:
    async with serving(flags_of(server_pair)) as server:
        with pytest.raises(RefusedError):
            await ask(server, Credentials())


@both
async def test_a_client_refuses_a_server_of_another_ca(ask: Ask, server_pair: Pair, authority: Authority) -> None:
    async with serving(flags_of(server_pair)) as server:
        with pytest.raises(RefusedError):
            await ask(server, Credentials(ca=authority.path))


@both
async def test_a_client_refuses_a_certificate_that_has_expired(ask: Ask, made: Authority) -> None:
    async with serving(flags_of(made.sign("old", expired=True))) as server:
        with pytest.raises(RefusedError):
            await ask(server, Credentials(ca=made.path))


@both
async def test_a_client_refuses_a_certificate_of_another_host(ask: Ask, made: Authority) -> None:
    async with serving(flags_of(made.sign("other", "elsewhere.example", "10.0.0.1"))) as server:
        with pytest.raises(RefusedError):
            await ask(server, Credentials(ca=made.path))


@both
async def test_with_mtls_a_client_shows_its_certificate(
    ask: Ask, made: Authority, server_pair: Pair, client_pair: Pair
) -> None:
    async with serving(flags_of(server_pair, made.path)) as server:
        await ask(server, Credentials(made.path, client_pair.cert, client_pair.key))


@both
@pytest.mark.parametrize("wrong", ["none", "of another CA", "expired"])
async def test_with_mtls_a_client_without_a_good_certificate_is_refused(
    ask: Ask, wrong: str, made: Authority, server_pair: Pair, authority: Authority
) -> None:
    credentials = Credentials(ca=made.path)
    if wrong != "none":
        pair = authority.sign("stranger") if wrong == "of another CA" else made.sign("late", expired=True)
        credentials = Credentials(made.path, pair.cert, pair.key)
    async with serving(flags_of(server_pair, made.path)) as server:
        with pytest.raises(RefusedError):
            await ask(server, credentials)


async def test_a_host_that_was_resolved_is_believed_under_its_name(made: Authority) -> None:
    async with serving(flags_of(made.sign("named", "localhost"))) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        service = Upstream(address, credentials=Credentials(ca=made.path), server_name="localhost")
        service.name = "queue"
        assert await service.serving()
        await service.close()
        with pytest.raises(RefusedError):
            await ask_grpc(server, Credentials(ca=made.path))


async def serial_on(port: int, context: ssl.SSLContext) -> int:
    """The number of the certificate that a port shows to a new connection."""
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return int(certificate["serialNumber"], 16)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.02)


@both
async def test_a_new_certificate_is_shown_without_a_restart(ask: Ask, authority: Authority) -> None:
    pair = authority.sign("server")
    context = Credentials(ca=authority.path).tls_context()
    assert context is not None
    async with serving(flags_of(pair)) as server:
        port = server.grpc_port if ask is ask_grpc else server.http_port
        before = await serial_on(port, context)
        authority.sign("server", into=pair)

        async def is_new() -> bool:
            return await serial_on(port, context) != before

        await until(is_new)
        await ask(server, Credentials(ca=authority.path))


@both
async def test_a_certificate_that_is_of_no_use_leaves_the_one_before_in_force(
    ask: Ask, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.sign("server")
    async with serving(flags_of(pair)) as server:
        pair.cert.write_text("-----BEGIN half of it")

        async def is_noticed() -> bool:
            await ask(server, Credentials(ca=authority.path))
            return "stays in force" in caplog.text

        await until(is_noticed)
        assert str(pair.cert) in caplog.text
        await ask(server, Credentials(ca=authority.path))


@both
async def test_a_ca_that_is_no_longer_accepted_lets_nobody_in_who_comes_anew(
    ask: Ask, made: Authority, server_pair: Pair, tmp_path: Path, authority: Authority
) -> None:
    accepted = tmp_path / "accepted.pem"
    shutil.copy(made.path, accepted)
    old, new = made.sign("old-client"), authority.sign("new-client")
    credentials = Credentials(made.path, old.cert, old.key)
    async with serving(flags_of(server_pair, accepted)) as server:
        await ask(server, credentials)
        shutil.copy(authority.path, accepted)

        async def is_refused() -> bool:
            try:
                await ask(server, credentials)
            except RefusedError:
                return True
            return False

        await until(is_refused)
        await ask(server, Credentials(made.path, new.cert, new.key))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_lets_nobody_in_whose_ca_is_no_longer_accepted(
    version: ssl.TLSVersion, made: Authority, server_pair: Pair, tmp_path: Path, authority: Authority
) -> None:
    accepted = tmp_path / "accepted.pem"
    shutil.copy(made.path, accepted)
    old = made.sign("returning-client")
    context = Credentials(made.path, old.cert, old.key).tls_context()
    assert context is not None
    context.maximum_version = version
    async with serving(flags_of(server_pair, accepted)) as server:

        def answer(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
            with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
                try:
                    with context.wrap_socket(connection, server_hostname="localhost", session=session) as wrapped:
                        wrapped.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                        return wrapped.recv(1 << 16), wrapped.session
                except (ssl.SSLError, ConnectionError):
                    return b"", None

        _, session = await asyncio.to_thread(answer, None)
        shutil.copy(authority.path, accepted)

        async def is_refused() -> bool:
            return not (await asyncio.to_thread(answer, None))[0]

        await until(is_refused)
        assert (await asyncio.to_thread(answer, session))[0] == b""


async def test_messages_flow_on_while_certificates_change(authority: Authority) -> None:
    server_pair, client_pair = authority.sign("server"), authority.sign("client")
    credentials = Credentials(authority.path, client_pair.cert, client_pair.key)
    async with serving(flags_of(server_pair, authority.path)) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        async with (
            Publisher(address, credentials=credentials) as publisher,
            Subscriber(address, ["t"], "g", credentials=credentials) as subscriber,
        ):
            received = []
            for number in range(6):
                if number in (2, 4):
                    authority.sign("server", into=server_pair)
                    authority.sign("client", into=client_pair)
                    await asyncio.sleep(0.05)  # until the files are looked at again
                await publisher.publish("t", str(number).encode())
                delivery = await anext(subscriber)
                received += [message.data for message in delivery.messages]  # type: ignore[union-attr]
                await subscriber.ack_many([delivery])  # type: ignore[list-item]
        assert received == [str(number).encode() for number in range(6)]


async def test_a_new_certificate_of_the_client_is_shown_by_its_next_call(
    made: Authority, server_pair: Pair, tmp_path: Path, authority: Authority
) -> None:
    pair = authority.sign("mine")  # of a CA that the server does not accept
    async with serving(flags_of(server_pair, made.path)) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        async with open_channel(address, Credentials(made.path, pair.cert, pair.key)) as channel:
            admin = queue_admin_pb2_grpc.QueueAdminServiceStub(channel)
            request = queue_admin_pb2.ListTopicsRequest()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await admin.ListTopics(request, timeout=2)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            made.sign("mine", into=pair)

            async def is_accepted() -> bool:
                try:
                    await admin.ListTopics(request, timeout=2)
                except grpc.aio.AioRpcError:
                    return False
                return True

            await until(is_accepted)
