"""Publisher and Subscriber while the queue is stopped, killed and started again."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from telemetry.queue.client import (
    OutgoingMessage,
    PartitionsAssigned,
    PartitionsRevoked,
    Publisher,
    Receipt,
    ReceivedDelivery,
    Subscriber,
)
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer

SERVE = """
import asyncio, signal, sys
from pathlib import Path
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.server import QueueServer

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with QueueServer(DiskEngine(Path(sys.argv[1])), grpc_port=int(sys.argv[2]), http_port=0) as server:
        print(server.grpc_port, flush=True)
        await stop.wait()
        await server.drain(within_s=0.2)

asyncio.run(main())
"""


class QueueProcess:
    """A queue on disk in a process of its own, always on the same port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVE, str(self._directory), str(self.port), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the queue does not start"
        self.port = int(line)

    async def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        code = await self._process.wait()
        assert code == (0 if how is signal.SIGTERM else -how)
        self._process = None

    async def close(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[QueueProcess]:
    running = QueueProcess(tmp_path / "queue")
    try:
        await running.start()
        yield running
    finally:
        await running.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_restart_of_the_queue_loses_repeats_and_reorders_nothing(
    queue: QueueProcess, how: signal.Signals
) -> None:
    total, partitions = 300, 3
    everything = [b"%d" % number for number in range(total)]
    received: list[list[bytes]] = [[] for _ in range(partitions)]
    enough = asyncio.Event()

    async def subscribe() -> None:
        async with Subscriber(queue.address, ["t"], "g", mode="ordered", permits_messages=50) as subscriber:
            seen = 0
            async for event in subscriber:
                if not isinstance(event, ReceivedDelivery):
                    continue
                received[event.partition] += [message.data for message in event.messages]
                await event.ack()
                seen += len(event.messages)
                if seen >= 100:
                    enough.set()
                if all(everything[-1] in partition for partition in received):
                    return

    async with Publisher(queue.address, window_bytes=2000) as publisher:
        assert await publisher.ensure_topic("t", partitions=partitions) == partitions
        subscribing = asyncio.create_task(subscribe())
        publishing = [
            asyncio.create_task(publisher.publish_batch("t", [OutgoingMessage(data)], partition=partition))
            for data in everything
            for partition in range(partitions)
        ]
        await enough.wait()
        await queue.end(how)
        await queue.start()
        receipts: list[Receipt] = await asyncio.gather(*publishing)
        await subscribing

        for partition in range(partitions):
            offsets = [receipt.base_offset for receipt in receipts[partition::partitions]]
            assert offsets == list(range(total)), "each is stored once, in order"
            firsts = list(dict.fromkeys(received[partition]))
            assert firsts == everything, "each arrives, in order"

        await publisher.publish_batch("t", [OutgoingMessage(b"last")], partition=0)
        async with Subscriber(queue.address, ["t"], "g") as subscriber:
            async for event in subscriber:
                if isinstance(event, ReceivedDelivery):
                    assert [message.data for message in event.messages] == [b"last"], (
                        "what is acked does not come again"
                    )
                    break


async def test_partitions_are_revoked_when_the_queue_goes_and_assigned_when_it_is_back(queue: QueueProcess) -> None:
    async with Publisher(queue.address) as publisher:
        await publisher.ensure_topic("t", partitions=2)
        async with Subscriber(queue.address, ["t"], "g", mode="ordered") as subscriber:
            assigned = await anext(subscriber)
            assert isinstance(assigned, PartitionsAssigned)
            await queue.end(signal.SIGKILL)
            revoked = await anext(subscriber)
            assert isinstance(revoked, PartitionsRevoked)
            assert set(revoked.partitions) == set(assigned.partitions)
            await queue.start()
            again = await anext(subscriber)
            assert isinstance(again, PartitionsAssigned)
            assert set(again.partitions) == set(assigned.partitions)


async def test_a_restarted_producer_that_counts_goes_on_where_the_queue_says(queue: QueueProcess) -> None:
    messages = [OutgoingMessage(b"%d" % number) for number in range(10)]
    async with Publisher(queue.address, producer_id="file.csv") as publisher:
        await publisher.publish_batch("t", messages[:6], partition=0, first_sequence=0)
    await queue.end(signal.SIGKILL)
    await queue.start()
    async with Publisher(queue.address, producer_id="file.csv") as publisher:
        last = (await publisher.positions("t"))[0].last_sequence
        assert last == 5
        receipt = await publisher.publish_batch("t", messages[last + 1 :], partition=0, first_sequence=last + 1)
        assert receipt == Receipt(0, 6)


async def test_a_queue_in_memory_that_forgot_everything_is_filled_again() -> None:
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as server:
        port = server.grpc_port
        publisher = Publisher(f"127.0.0.1:{port}")
        await publisher.start()
        await publisher.ensure_topic("t", partitions=8)
        await publisher.publish_batch("t", [OutgoingMessage(b"a")], partition=7)
    task = asyncio.create_task(publisher.publish_batch("t", [OutgoingMessage(b"b")], partition=7))
    async with QueueServer(MemoryEngine(), grpc_port=port, http_port=0):
        assert await task == Receipt(7, 0)
        await publisher.aclose()
