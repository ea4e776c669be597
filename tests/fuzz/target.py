"""A queue server under fire: what it is sent as raw bytes, and what must hold of it all the while."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import queue_admin_pb2, queue_pb2
from tests.integration.queue_server.wire_client import Client, SubscribeCall, read_delivery

METHODS: Final[Sequence[MethodDescriptor]] = [
    method
    for file, service in ((queue_pb2, "QueueService"), (queue_admin_pb2, "QueueAdminService"))
    for method in file.DESCRIPTOR.services_by_name[service].methods
]
"""Every method that the queue serves."""

PROPER: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
    }
)
"""The ends of a call that the contract knows while the server stays."""

LOST_WRITE: Final = "Internal error from Core"
"""What the sender's own gRPC says of a call when a write comes too late, whatever the server has said."""
WAIT_S_MAX: Final = 20.0
PAUSE_S: Final = 0.05
"""How long a call that may go on for ever is listened to."""


def _as_it_is(raw: bytes) -> bytes:
    return raw


def request_class(method: MethodDescriptor) -> type[Message]:
    """What the method is to be sent."""
    return GetMessageClass(method.input_type)


class Target:
    """A server, somebody who sends it anything, and somebody who behaves."""

    def __init__(
        self,
        directory: Path,
        address: str,
        client: Client,
        channel: grpc.aio.Channel,
        witness: SubscribeCall,
        log: pytest.LogCaptureFixture,
    ) -> None:
        self._directory = directory
        self._address = address
        self.client = client
        self._channel = channel
        self._witness = witness
        self._log = log
        self._told = 0

    def open(self, method: MethodDescriptor) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        """A call of the method as a stream of bytes in both directions, whatever it really is."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        return self._channel.stream_stream(path, _as_it_is, _as_it_is)()

    async def send(self, method: MethodDescriptor, *requests: bytes, close: bool = True) -> grpc.StatusCode:
        """Send requests, listen for a moment, break off what goes on, and return how it ended."""
        call = self.open(method)
        try:
            for request in requests:
                await call.write(request)
            if close:
                await call.done_writing()
            async with asyncio.timeout(PAUSE_S if method.client_streaming or method.server_streaming else WAIT_S_MAX):
                while await call.read() is not grpc.aio.EOF:
                    pass
        except TimeoutError:
            call.cancel()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        return await self.end_of(call)

    async def end_of(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> grpc.StatusCode:
        """How a call ended, which must be properly."""
        async with asyncio.timeout(WAIT_S_MAX):
            code = await call.code()
        if await call.details() == LOST_WRITE:
            return grpc.StatusCode.CANCELLED
        assert code in PROPER, (code, await call.details())
        return code

    async def check(self) -> None:
        """Whoever behaves is served; nothing went wrong that nobody had thought of; nothing is left open."""
        self._told += 1
        data = b"%d" % self._told
        await self.client.publish("witness", data)
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                delivery = await read_delivery(self._witness)
                assert await self.client.settle(delivery.delivery_id) == [queue_pb2.ACK_STATUS_OK]
                if delivery.topic == "witness" and delivery.batch.messages[-1].data == data:
                    break
        assert await self.client.health() == 1, "SERVING"
        problems = [each.getMessage() for each in self._log.records if each.levelno >= logging.ERROR]
        assert not problems, problems

    async def check_nothing_is_open(self) -> None:
        """No stream and no session is left but the witness's."""
        async with asyncio.timeout(WAIT_S_MAX):
            while (stats := await self.stats()).connections > 1:
                await asyncio.sleep(0.01)
        members = [member.member for group in stats.groups for member in group.members]
        assert members == ["witness"], members

    async def drained(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> grpc.StatusCode:
        """How a call ends whose answers are read to the last."""
        async with asyncio.timeout(WAIT_S_MAX):
            while await call.read() is not grpc.aio.EOF:
                pass
        return await self.end_of(call)

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Client]:
        """A client over a connection of its own."""
        options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            yield Client(channel)

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[Client]:
        """A client of another server, on a copy of the directory as a crash would leave it now."""
        with tempfile.TemporaryDirectory() as place:
            copy = shutil.copytree(self._directory, Path(place) / "queue")
            async with QueueServer(DiskEngine(copy), grpc_port=0, http_port=0) as server:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
                    yield Client(channel)

    async def stats(self) -> queue_admin_pb2.QueueStats:
        """The server's statistics."""
        return (await self.client.admin.GetStats(queue_admin_pb2.GetStatsRequest())).stats


@asynccontextmanager
async def serving(directory: Path, log: pytest.LogCaptureFixture) -> AsyncIterator[Target]:
    """Serve a disk engine over a real port; in the end nothing may have gone wrong or be left open."""
    engine = DiskEngine(directory)
    async with QueueServer(engine, grpc_port=0, http_port=0) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        async with (
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as good,
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as bad,
        ):
            witness = await Client(good).subscribe("witness", group="witnesses", member="witness", messages=1_000_000)
            target = Target(directory, address, Client(good), bad, witness, log)
            await target.check()
            yield target
            await target.check()
            await target.check_nothing_is_open()
            witness.cancel()
