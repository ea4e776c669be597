"""The command `telemetry queue` as a process: how it starts, what it says when it cannot, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueFailedError, QueueServer
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import queue_admin_pb2, queue_pb2
from tests.integration.queue_server.wire_client import Client, ending, fields_of, read, read_delivery


@dataclass
class Queue:
    """A running queue process that is ready, and a client of it."""

    process: asyncio.subprocess.Process
    grpc_port: int
    http_port: int
    client: Client

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


Start = Callable[..., Awaitable[Queue]]


async def launch(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetry", "queue", "--grpc-port", "0", "--http-port", "0"),
        *map(str, arguments),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts queue processes; whatever still runs is killed with the test."""
    async with AsyncExitStack() as stack:

        async def run(*arguments: object) -> Queue:
            process = await launch(*arguments)
            stack.push_async_callback(kill, process)
            assert process.stderr is not None
            async with asyncio.timeout(30):
                line = (await process.stderr.readline()).decode()
            assert '"ready"' in line, line
            ready = json.loads(line)
            address = f"127.0.0.1:{ready['grpc']}"
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS))
            return Queue(process, ready["grpc"], ready["http"], Client(channel))

        yield run


async def kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def failure(*arguments: object) -> str:
    """What a queue that cannot start says before it ends with exit code 1."""
    process = await launch(*arguments)
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode == 1, errors.decode()
    assert "Traceback" not in errors.decode()
    return errors.decode().strip()


async def test_a_terminated_queue_drains_its_members_and_exits_with_0(start: Start) -> None:
    queue = await start("--engine", "memory")
    await queue.client.publish("t", b"one")
    call = await queue.client.subscribe("t", group="g", messages=1)
    delivery = await read_delivery(call)
    publishing = queue.client.queue.Publish()
    await publishing.write(queue.client.request("t", b"two"))
    await read(publishing)
    ended = asyncio.create_task(queue.end(signal.SIGTERM))
    assert (await read(call)).HasField("drain")
    assert await queue.client.health() == 2, "NOT_SERVING"
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://127.0.0.1:{queue.http_port}/health")).status_code == 503
    assert (await ending(publishing))[0] is grpc.StatusCode.UNAVAILABLE
    assert await queue.client.settle(delivery.delivery_id) == [queue_pb2.ACK_STATUS_OK]
    assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE
    assert await ended == 0


async def test_what_was_confirmed_is_there_after_the_queue_was_killed(start: Start, tmp_path: Path) -> None:
    queue = await start("--data-dir", tmp_path / "queue")
    await queue.client.publish("t", b"one", b"two")
    call = await queue.client.subscribe("t", group="g", messages=1)
    await queue.client.settle((await read_delivery(call)).delivery_id)
    await queue.end(signal.SIGKILL)
    again = await start("--data-dir", tmp_path / "queue")
    call = await again.client.subscribe("t", group="g")
    delivery = await read_delivery(call)
    assert [(run.first, run.count) for run in delivery.due] == [(1, 1)]
    assert delivery.batch.messages[1].data == b"two"
    call.cancel()
    assert await again.end(signal.SIGINT) == 0


async def test_topics_are_not_made_when_that_is_turned_off(start: Start) -> None:
    queue = await start("--engine", "memory", "--no-auto-create-topics")
    call = queue.client.queue.Publish()
    await call.write(queue.client.request("t", b"one"))
    assert (await read(call)).error.code == grpc.StatusCode.NOT_FOUND.value[0]
    call.cancel()
    subscription = queue.client.queue.Subscribe()
    await subscription.write(queue_pb2.SubscribeRequest(start=queue_pb2.SubscribeStart(topics=["t"], group="g")))
    assert (await ending(subscription))[0] is grpc.StatusCode.NOT_FOUND
    request = queue_admin_pb2.CreateTopicRequest(topic=queue_admin_pb2.Topic(name="t"))
    await queue.client.admin.CreateTopic(request)
    assert (await queue.client.publish("t", b"one")).base_offset == 0


async def test_limits_are_set_by_flags_and_variables_and_named_in_refusals(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRY_QUEUE_MAX_BATCH_MESSAGES", "1")
    queue = await start("--engine", "memory", "--max-topics", 1)
    await queue.client.publish("t", b"one")
    call = queue.client.queue.Publish()
    await call.write(queue.client.request("t", b"one", b"two"))
    error = (await read(call)).error
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "--max-batch-messages" in error.message
    assert fields_of(error) == ["batch.messages"]
    await call.write(queue.client.request("another", b"one"))
    error = (await read(call)).error
    assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert "--max-topics" in error.message
    call.cancel()


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for flag in ("--grpc-port", "--http-port"):
            said = await failure("--engine", "memory", flag, port)
            assert said == (
                f"telemetry-queue: 127.0.0.1:{port} is already in use; "
                f"stop the process that listens there or choose another with {flag}"
            )


async def test_a_data_directory_in_use_or_not_writable_is_named(start: Start, tmp_path: Path) -> None:
    queue = await start("--data-dir", tmp_path / "queue")
    said = await failure("--data-dir", tmp_path / "queue")
    assert f"data directory {tmp_path / 'queue'} is in use by process {queue.process.pid}" in said
    (tmp_path / "file").touch()
    said = await failure("--data-dir", tmp_path / "file" / "queue")
    assert f"data directory {tmp_path / 'file' / 'queue'} is not writable" in said


async def test_listening_for_other_machines_has_to_be_said_aloud(start: Start) -> None:
    assert "--insecure" in await failure("--engine", "memory", "--host", "0.0.0.0")
    await start("--engine", "memory", "--host", "0.0.0.0", "--insecure")


async def test_a_wrong_fsync_policy_is_a_usage_error() -> None:
    process = await launch("--fsync", "sometimes")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert "always, interval:MS" in errors.decode()


async def test_reflection_can_be_turned_off(start: Start) -> None:
    queue = await start("--engine", "memory", "--no-reflection")
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    call = queue.client.channel.stream_stream(method, lambda raw: raw, lambda raw: raw)()
    assert (await ending(call))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_an_engine_that_fails_ends_the_queue_loudly(caplog: pytest.LogCaptureFixture) -> None:
    engine = MemoryEngine()
    server = QueueServer(engine, grpc_port=0, http_port=0)
    running = asyncio.create_task(server.run(asyncio.Event()))
    async with httpx.AsyncClient() as http:
        while server.not_serving:
            await asyncio.sleep(0.01)
        engine.failed(OSError(5, "Input/output error"))
        with pytest.raises(QueueFailedError, match="Input/output error"):
            await running
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://127.0.0.1:{server.http_port}/health")
    assert "the queue has failed" in caplog.text
