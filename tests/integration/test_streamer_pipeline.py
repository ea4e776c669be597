"""The streamer against a real queue: what is in the files arrives, once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import polars as pl
import pytest

from telemetry.codec import CONTENT_TYPE, decode
from telemetry.queue.client import ReceivedDelivery, Subscriber, partition_of_key
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.http import HttpServer
from telemetry.streamer.http import exported, streamer_app
from telemetry.streamer.messages import Encoding
from telemetry.streamer.samples import sample_path
from telemetry.streamer.stream import Streamer, StreamSettings
from telemetry.topics import QUARANTINE_TOPIC

HEADER = "timestamp,gpu_id,temperature,power_draw\n"


@pytest.fixture
async def server() -> AsyncIterator[QueueServer]:
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as running:
        yield running


@pytest.fixture
def queue(server: QueueServer) -> str:
    return f"127.0.0.1:{server.grpc_port}"


async def stream(settings: StreamSettings) -> Streamer:
    streamer = Streamer(settings)
    await streamer.run(asyncio.Event())
    return streamer


async def messages(queue: str, topic: str, count: int) -> list[tuple[int, bytes, dict[str, str]]]:
    """Partition, data and attributes of the first ``count`` messages of a topic; there must be no more."""
    found: list[tuple[int, bytes, dict[str, str]]] = []
    async with Subscriber(queue, topics=[topic], group=f"test-{topic}") as subscriber:
        while len(found) < count:
            event = await anext(aiter(subscriber))
            if isinstance(event, ReceivedDelivery):
                found += [(event.partition, m.data, dict(m.attributes)) for m in event.messages]
                await event.ack()
    assert len(found) == count
    return found


async def stored(queue: str, server: QueueServer) -> pl.DataFrame:
    """Everything that the topic ``telemetry`` holds."""
    async with httpx.AsyncClient() as client:
        stats = (await client.get(f"http://127.0.0.1:{server.http_port}/stats")).json()
    count = next(topic["messages"] for topic in stats["topics"] if topic["topic"] == "telemetry")
    found = await messages(queue, "telemetry", count)
    frames = [decode(data, attributes[CONTENT_TYPE]) for _, data, attributes in found]
    for (partition, _, _), frame in zip(found, frames, strict=True):
        assert {partition_of_key(gpu, 8) for gpu in frame["gpu"]} == {partition}
    return pl.concat(frames, how="diagonal")


def wide_file(path: Path, rows: int, gpus: int = 16) -> Path:
    lines = (f"{1_767_225_600 + n // gpus},gpu-{n % gpus},{n % 90},{n}\n" for n in range(rows))
    path.write_text(HEADER + "".join(lines))
    return path


@pytest.mark.parametrize("encoding", ["arrow", "json"])
async def test_everything_in_a_file_arrives(
    tmp_path: Path, queue: str, server: QueueServer, encoding: Encoding
) -> None:
    path = wide_file(tmp_path / "a.csv", 3_000)
    streamer = await stream(StreamSettings([path], queue, encoding=encoding))
    assert (streamer.stats.counts.rows, streamer.stats.counts.samples) == (3_000, 6_000)
    assert (await stored(queue, server)).sort("power_draw")["power_draw"].to_list() == [float(n) for n in range(3_000)]


async def test_several_files_stream_side_by_side(tmp_path: Path, queue: str, server: QueueServer) -> None:
    files = [wide_file(tmp_path / f"{n}.csv", 500 + n, gpus=4) for n in range(5)]
    streamer = await stream(StreamSettings([*files, sample_path()], queue, workers=2))
    records = await stored(queue, server)
    # The end of a block cuts one of the sample's 4,775 records in two, which the store joins again.
    assert records.height == sum(500 + n for n in range(5)) + 4_776 == streamer.stats.counts.records
    assert {progress.passes for progress in streamer.stats.files} == {1}


async def test_a_file_streamed_again_stores_nothing_new(
    tmp_path: Path, queue: str, server: QueueServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = wide_file(tmp_path / "a.csv", 50_000)
    path.write_text(path.read_text() + "bad row\n")
    first = await stream(StreamSettings([path], queue))
    second = await stream(StreamSettings([path], queue))
    assert second.stats.counts.messages == 0
    assert second.stats.counts.skipped == first.stats.counts.messages
    assert "every row was in the queue already" in caplog.text
    assert (await stored(queue, server)).height == 50_000
    assert len(await messages(queue, QUARANTINE_TOPIC, 1)) == 1


async def test_a_changed_file_is_a_new_one(tmp_path: Path, queue: str, server: QueueServer) -> None:
    path = wide_file(tmp_path / "a.csv", 100)
    await stream(StreamSettings([path], queue))
    wide_file(path, 101)
    await stream(StreamSettings([path], queue))
    assert (await stored(queue, server)).height == 201


async def test_a_streamer_that_is_killed_goes_on_where_it_was(tmp_path: Path, queue: str, server: QueueServer) -> None:
    rows = 20_000
    path = wide_file(tmp_path / "a.csv", rows)
    arguments = (
        "streamer",
        str(path),
        "--once",
        "--rate",
        "16000",
        "--workers",
        "1",
        "--queue",
        queue,
        "--http-port",
        "0",
    )

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "telemetry", *arguments, stderr=asyncio.subprocess.DEVNULL
        )

    async with httpx.AsyncClient() as client:

        async def published() -> int:
            stats = (await client.get(f"http://127.0.0.1:{server.http_port}/stats")).json()
            return sum(topic["messages"] for topic in stats["topics"] if topic["topic"] == "telemetry")

        for _ in range(2):
            before = await published()
            process = await start()
            while await published() <= before:
                await asyncio.sleep(0.02)
            process.kill()
            await process.wait()
        assert await published() > 0
        process = await start()
        assert await process.wait() == 0
    values = (await stored(queue, server)).sort("power_draw")["power_draw"].to_list()
    assert values == [float(n) for n in range(rows)]


async def test_bad_rows_go_to_quarantine_and_stop_nothing(tmp_path: Path, queue: str, server: QueueServer) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "0,a,1,1\n0,b,warm,2\nnow,c,3,3\n0,d,4\n0,e,5,5\n")
    streamer = await stream(StreamSettings([path], queue))
    records = (await stored(queue, server)).sort("gpu")
    assert records["gpu"].to_list() == ["a", "b", "e"]
    assert records["temperature"].to_list() == [1.0, None, 5.0]
    found = [orjson.loads(data) for _, data, _ in await messages(queue, QUARANTINE_TOPIC, 3)]
    assert [(row["source"], row["line"], row.get("field")) for row in found] == [
        ("a.csv", 3, "temperature"),
        ("a.csv", 4, "timestamp"),
        ("a.csv", 5, None),
    ]
    assert found[2]["raw"] == "0,d,4"
    assert streamer.stats.counts.quarantined == 3


async def test_a_file_that_cannot_be_streamed_leaves_the_others_alone(
    tmp_path: Path, queue: str, server: QueueServer
) -> None:
    good = wide_file(tmp_path / "a.csv", 10)
    streamer = await stream(StreamSettings([tmp_path / "missing.csv", good], queue))
    assert (await stored(queue, server)).height == 10
    assert "No such file" in streamer.stats.files[0].error


async def test_a_loop_stamps_every_pass_anew(tmp_path: Path, queue: str, server: QueueServer) -> None:
    path = wide_file(tmp_path / "a.csv", 32)
    streamer = Streamer(StreamSettings([path], queue, once=False, timestamps="now", rate=0))
    stop = asyncio.Event()
    running = asyncio.create_task(streamer.run(stop))
    started = datetime.now(UTC)
    while streamer.stats.files[0].passes < 3:
        await asyncio.sleep(0.01)
    stop.set()
    await running
    records = await stored(queue, server)
    assert records.height == streamer.stats.counts.records >= 96
    assert not records.select("gpu", "timestamp").is_duplicated().any()
    assert (records["timestamp"] >= started).all()


async def test_a_streamer_waits_for_its_queue_and_can_be_stopped_meanwhile(tmp_path: Path) -> None:
    path = wide_file(tmp_path / "a.csv", 10)
    streamer = Streamer(StreamSettings([path], "127.0.0.1:1"))
    stop = asyncio.Event()
    running = asyncio.create_task(streamer.run(stop))
    while streamer.stats.state != "waiting for the queue":
        await asyncio.sleep(0.01)
    stop.set()
    await running


async def test_http_tells_health_statistics_and_metrics(tmp_path: Path, queue: str) -> None:
    streamer = Streamer(StreamSettings([wide_file(tmp_path / "a.csv", 100)], queue))
    with exported(streamer.stats):
        async with HttpServer(streamer_app(streamer.stats), "127.0.0.1", {"--http-port": 0}) as http:
            await streamer.run(asyncio.Event())
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http.ports[0]}") as client:
                health = (await client.get("/health")).json()
                assert (health["status"], health["state"]) == ("ok", "finished")
                stats = (await client.get("/stats")).json()
                assert (stats["rows"], stats["records"], stats["samples"], stats["quarantined"]) == (100, 100, 200, 0)
                assert stats["files"][0]["position"] == stats["files"][0]["size"] > 0
                text = (await client.get("/metrics")).text
                assert "telemetry_streamer_rows_total 100.0" in text
                missing = await client.get("/nothing")
                assert missing.headers["content-type"] == "application/problem+json"
