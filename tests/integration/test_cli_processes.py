"""Commands that run for a while, as processes: what they follow, and how Ctrl-C ends them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telemetry.queue.client import AtOffset, Publisher, QueueAdmin, ReceivedDelivery, Subscriber
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer

WAIT_S = 60.0


@pytest.fixture
async def server() -> AsyncIterator[QueueServer]:
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as running:
        yield running


@pytest.fixture
def address(server: QueueServer) -> str:
    return f"127.0.0.1:{server.grpc_port}"


@asynccontextmanager
async def command(address: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "telemetry",
        *arguments,
        env={**os.environ, "TELEMETRY_QUEUE_ADDRESS": address},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await asyncio.wait_for(stream.readline(), WAIT_S)).decode().rstrip("\n")


async def rest_of(process: asyncio.subprocess.Process) -> tuple[str, str]:
    out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    return out.decode(), err.decode()


async def test_tail_shows_what_comes_until_ctrl_c(address: str) -> None:
    async with Publisher(address) as publisher, command(address, "tail", "gpu.*", "--json") as tail:
        await publisher.publish("gpu.a", b"before")
        assert await line(tail.stderr) == "following gpu.*; Ctrl-C ends it"
        for topic in ("gpu.a", "gpu.b"):  # the second topic is made under its eyes
            await publisher.publish(topic, b'{"n": 1}', {"content-type": "application/json"})
        seen = [json.loads(await line(tail.stdout)) for _ in range(2)]
        assert {each["topic"] for each in seen} <= {"gpu.a", "gpu.b"}
        tail.send_signal(signal.SIGINT)
        _, err = await rest_of(tail)
        assert (tail.returncode, err) == (0, "")
    async with QueueAdmin(address) as admin:
        assert await admin.groups() == []


async def test_tail_begins_where_it_is_told_and_ends_after_so_many(address: str) -> None:
    async with Publisher(address) as publisher:
        for number in range(5):
            await publisher.publish("t", str(number).encode())
    async with command(address, "tail", "t", "--from", "1", "-n", "3", "--raw") as tail:
        assert (await rest_of(tail))[0] == "1\n2\n3\n"
        assert tail.returncode == 0


async def test_lines_are_published_as_they_come(address: str) -> None:
    async with Subscriber(address, ["t"], position=AtOffset(0)) as subscriber, command(address, "publish", "t") as to:
        assert to.stdin is not None
        for text in (b"one", b"two"):
            to.stdin.write(text + b"\n")
            async for event in subscriber:
                assert isinstance(event, ReceivedDelivery)
                assert [message.data for message in event.messages] == [text]
                break
        assert [await line(to.stdout), await line(to.stdout)] == ["t/0@0", "t/0@1"]
        to.send_signal(signal.SIGINT)
        _, err = await rest_of(to)
        assert to.returncode == 130
        assert err.endswith("2 messages published to t\n")


async def test_a_replay_that_is_stopped_says_how_far_it_came(address: str) -> None:
    async with Publisher(address) as publisher:
        for number in range(50):
            await publisher.publish("t", str(number).encode())
    async with Subscriber(address, ["t"], "g") as subscriber:
        left = 50
        async for event in subscriber:
            assert isinstance(event, ReceivedDelivery)
            await event.terminate("no good")
            left -= len(event.messages)
            if not left:
                break
    async with command(address, "dead-letters", "replay", "t", "--rate", "5", "--json") as replay:
        while json.loads(await line(replay.stdout))["done"] == 0:
            pass
        replay.send_signal(signal.SIGINT)
        _, err = await rest_of(replay)
        assert replay.returncode == 130
        assert err.startswith("stopped: at least ")
    async with QueueAdmin(address) as admin, asyncio.timeout(WAIT_S):
        while True:  # the server takes out what it has replayed once it notices
            letters = len([each async for each in admin.browse("t.dead-letter")])
            replayed = len([each async for each in admin.browse("t", position=AtOffset(50))])
            if letters + replayed == 50:
                break
            await asyncio.sleep(0.01)
    assert 0 < replayed < 50


async def test_a_reader_that_leaves_ends_tail_without_a_traceback(address: str) -> None:
    async with Publisher(address) as publisher:
        for number in range(5):
            await publisher.publish("t", str(number).encode())
        shell = await asyncio.create_subprocess_shell(
            f"{sys.executable} -m telemetry tail t --from earliest | head -n 1",
            env={**os.environ, "TELEMETRY_QUEUE_ADDRESS": address},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert (await line(shell.stdout)).endswith("  0")
        ended = asyncio.create_task(rest_of(shell))
        while not ended.done():  # tail notices when it next writes
            await publisher.publish("t", b"more")
            await asyncio.sleep(0.01)
        assert "Traceback" not in ended.result()[1]
