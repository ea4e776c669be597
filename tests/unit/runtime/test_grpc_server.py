"""GrpcServer over a real port: statuses with details, hidden failures, health, reflection, and streams through it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from prometheus_client import REGISTRY

from telemetry.runtime.errors import PortInUseError, StartupError
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS, SERVER_OPTIONS, GrpcServer
from telemetry.runtime.logs import LOG_FIELDS
from telemetry.runtime.request_ids import REQUEST_ID
from telemetry.runtime.status import InvalidArgumentError, UnavailableError
from telemetry.v1 import query_pb2

SERVICE = query_pb2.DESCRIPTOR.services_by_name["QueryService"]
NAME = SERVICE.full_name
Context = grpc.aio.ServicerContext[Any, Any]


class Echo:
    """A service with each kind of handler. What is asked for says how it shall fail."""

    @staticmethod
    def act(text: str) -> StringValue:
        match text:
            case "wrong":
                raise InvalidArgumentError("color must be blue", field="color")
            case "later":
                raise UnavailableError("come back", retry_after_s=1.5)
            case "bug":
                raise ValueError("the secret of the house")
        return StringValue(value=text)

    async def unary(self, request: StringValue, context: Context) -> StringValue:
        return self.act(request.value)

    async def generated(self, requests: AsyncIterator[StringValue], context: Context) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield self.act(request.value)

    async def written(self, requests: AsyncIterator[StringValue], context: Context) -> None:
        async for request in requests:
            await context.write(self.act(request.value))

    async def held(self, requests: AsyncIterator[StringValue], context: Context) -> None:
        await context.write(StringValue(value="open"))
        await asyncio.Event().wait()

    def register(self, server: grpc.aio.Server) -> None:
        coders: dict[str, Any] = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary, **coders),
            "Generated": grpc.stream_stream_rpc_method_handler(self.generated, **coders),
            "Written": grpc.stream_stream_rpc_method_handler(self.written, **coders),
            "Held": grpc.stream_stream_rpc_method_handler(self.held, **coders),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    server = GrpcServer([(SERVICE, Echo().register)], host="127.0.0.1", port=0)
    await server.start()
    yield server
    await server.stop(grace_s=0)


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=CHANNEL_OPTIONS) as channel:
        yield channel


def unary(channel: grpc.aio.Channel, text: str) -> grpc.aio.UnaryUnaryCall[Any, StringValue]:
    method = channel.unary_unary(f"/{NAME}/Unary", StringValue.SerializeToString, StringValue.FromString)
    return method(StringValue(value=text))


def stream(channel: grpc.aio.Channel, method: str) -> grpc.aio.StreamStreamCall[Any, StringValue]:
    return channel.stream_stream(f"/{NAME}/{method}", StringValue.SerializeToString, StringValue.FromString)()


async def say(channel: grpc.aio.Channel, method: str, text: str) -> object:
    """Send one text by a method of any kind and return what comes back."""
    if method == "Unary":
        return await unary(channel, text)
    call = stream(channel, method)
    await call.write(StringValue(value=text))
    return await call.read()


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    status: int = answer.status
    return status


def calls_counted(method: str, code: str) -> float:
    labels = {"method": f"/{NAME}/{method}", "code": code}
    return REGISTRY.get_sample_value("telemetry_grpc_calls_total", labels) or 0.0


def calls_timed(method: str) -> float:
    labels = {"method": f"/{NAME}/{method}"}
    return REGISTRY.get_sample_value("telemetry_grpc_call_seconds_count", labels) or 0.0


async def test_health_is_not_serving_until_it_is_said(server: GrpcServer, channel: grpc.aio.Channel) -> None:
    for service in ("", NAME):
        assert await health_of(channel, service) == health_pb2.HealthCheckResponse.NOT_SERVING
    await server.set_serving()
    for service in ("", NAME):
        assert await health_of(channel, service) == health_pb2.HealthCheckResponse.SERVING
    await server.begin_drain()
    await server.set_serving()
    for service in ("", NAME):
        assert await health_of(channel, service) == health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("method", ["Unary", "Generated", "Written"])
async def test_calls_are_refused_until_the_server_serves(channel: grpc.aio.Channel, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await say(channel, method, "hello")
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("method", ["Generated", "Written"])
async def test_a_bidirectional_stream_answers_while_it_is_open(
    server: GrpcServer, channel: grpc.aio.Channel, method: str
) -> None:
    await server.set_serving()
    before = calls_counted(method, "OK")
    call = stream(channel, method)
    for text in ("one", "two", "three"):
        await call.write(StringValue(value=text))
        answer = await call.read()
        assert isinstance(answer, StringValue)
        assert answer.value == text
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    assert calls_counted(method, "OK") == before + 1


@pytest.mark.parametrize("method", ["Unary", "Generated", "Written"])
async def test_an_error_arrives_with_its_details(server: GrpcServer, channel: grpc.aio.Channel, method: str) -> None:
    await server.set_serving()
    before = calls_counted(method, "INVALID_ARGUMENT")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await say(channel, method, "wrong")
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == "color must be blue"
    status = rpc_status.from_call(refusal.value)  # type: ignore[arg-type]  # an AioRpcError has what is needed
    assert status is not None
    details = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(details)
    assert [each.field for each in details.field_violations] == ["color"]
    assert calls_counted(method, "INVALID_ARGUMENT") == before + 1


async def test_the_time_to_wait_arrives_as_retry_info(server: GrpcServer, channel: grpc.aio.Channel) -> None:
    await server.set_serving()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await unary(channel, "later")
    status = rpc_status.from_call(refusal.value)  # type: ignore[arg-type]  # an AioRpcError has what is needed
    assert status is not None
    details = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(details)
    assert details.retry_delay.ToTimedelta().total_seconds() == 1.5


@pytest.mark.parametrize("method", ["Unary", "Generated", "Written"])
async def test_an_unexpected_error_is_logged_and_not_shown(
    server: GrpcServer, channel: grpc.aio.Channel, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    await server.set_serving()
    with pytest.raises(grpc.aio.AioRpcError) as refusal, caplog.at_level(logging.ERROR):
        await say(channel, method, "bug")
    assert refusal.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (refusal.value.details() or "")
    assert "the secret of the house" in caplog.text


@pytest.mark.parametrize(
    ("method", "text", "counted"), [("Unary", "hello", 1), ("Unary", "wrong", 1), ("Written", "wrong", 0)]
)
async def test_calls_with_one_answer_are_timed_once_however_they_end(
    server: GrpcServer, channel: grpc.aio.Channel, method: str, text: str, counted: int
) -> None:
    await server.set_serving()
    before = calls_timed(method)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await say(channel, method, text)
    assert calls_timed(method) == before + counted


@pytest.mark.parametrize(
    ("name", "noted"), [("load-test/17", "load-test/17"), ("two words", None), ("x" * 129, None), ("", None)]
)
async def test_only_a_good_name_of_a_request_is_noted(
    server: GrpcServer, channel: grpc.aio.Channel, name: str, noted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.set_serving()
    seen: list[object] = []

    def act(_: Echo, text: str) -> StringValue:
        seen.append(LOG_FIELDS.get().get("request_id"))
        return StringValue()

    monkeypatch.setattr(Echo, "act", act)
    method = channel.unary_unary(f"/{NAME}/Unary", StringValue.SerializeToString, StringValue.FromString)
    await method(StringValue(), metadata=((REQUEST_ID, name),))
    assert seen == [noted]


async def test_bytes_that_are_no_request_are_an_invalid_argument(server: GrpcServer, channel: grpc.aio.Channel) -> None:
    await server.set_serving()
    garbage = channel.stream_stream(f"/{NAME}/Written", lambda raw: raw, StringValue.FromString)()
    await garbage.write(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await garbage.read()
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_cancelled_stream_is_counted_as_cancelled(server: GrpcServer, channel: grpc.aio.Channel) -> None:
    await server.set_serving()
    before = calls_counted("Held", "CANCELLED")
    call = stream(channel, "Held")
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        while calls_counted("Held", "CANCELLED") == before:
            await asyncio.sleep(0)


async def test_reflection_lists_the_services(server: GrpcServer, channel: grpc.aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("grpc.Channel", channel))
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answers = [answer async for answer in call]
    names = {each.name for each in answers[0].list_services_response.service}
    assert names == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_a_port_in_use_is_named_with_the_flag_that_changes_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = GrpcServer([(SERVICE, Echo().register)], host="127.0.0.1", port=port, flag="--my-port")
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port} is already in use.*--my-port"):
            await server.start()
        await server.stop(grace_s=0)


async def test_an_address_of_another_machine_is_a_startup_error() -> None:
    server = GrpcServer([(SERVICE, Echo().register)], host="192.0.2.1", port=0)
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.1:0 \(--grpc-port\)"):
        await server.start()
    await server.stop(grace_s=0)


@pytest.mark.parametrize("options", [dict(SERVER_OPTIONS), dict(CHANNEL_OPTIONS)])
def test_a_peer_that_hangs_is_found_within_a_minute(options: dict[str, int]) -> None:
    """It was tried with a process that was stopped; that takes as long as it says."""
    answer_ms = max(options["grpc.keepalive_timeout_ms"], options["grpc.http2.ping_timeout_ms"])
    assert options["grpc.keepalive_time_ms"] + answer_ms <= 60_000
