"""A collector in this process, fed by a real queue over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import httpx
import pytest

from telemetry.codec import (
    ARROW_CONTENT_TYPE,
    CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    encode_arrow,
    encode_json,
    frame_of,
)
from telemetry.collector.collector import Collector, CollectorSettings
from telemetry.collector.topics import Topics
from telemetry.live import LiveUpdate, decode_live_update
from telemetry.model import Record
from telemetry.queue.client import Publisher, QueueAdmin, ReceivedDelivery, Subscriber
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.storage.compactor import CompactionSettings
from telemetry.storage.store import Batch, Committed, Span, StoreError
from telemetry.storage.tiered import TieredStore
from telemetry.topics import DATA_TOPIC, LIVE_TOPIC, QUARANTINE_TOPIC
from telemetry.v1 import query_pb2, query_pb2_grpc, queue_admin_pb2, queue_admin_pb2_grpc

START = datetime(2026, 1, 1, tzinfo=UTC)
WAIT_S = 20.0


@asynccontextmanager
async def queue(port: int = 0) -> AsyncIterator[QueueServer]:
    """A queue in memory that has the topics."""
    async with QueueServer(MemoryEngine(), grpc_port=port, http_port=0) as server:
        topics = Topics(f"127.0.0.1:{server.grpc_port}")
        await topics.ensure()
        await topics.close()
        yield server


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with queue() as server:
        yield f"127.0.0.1:{server.grpc_port}"


@asynccontextmanager
async def collecting(
    directory: Path, address: str, workers: int = 2, compaction: CompactionSettings | None = None
) -> AsyncIterator[tuple[Collector, TieredStore]]:
    """A collector at work; drained at the end."""
    store = TieredStore(directory)
    settings = CollectorSettings(
        queue=address, workers=workers, grpc_port=0, http_port=0, compaction=compaction or CompactionSettings()
    )
    collector = Collector(settings, store)
    stop = asyncio.Event()
    running = asyncio.create_task(collector.run(stop))
    try:
        yield collector, store
    finally:
        stop.set()
        await running
        store.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that no event announces."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


def records_of(gpu: str, seconds: Sequence[int]) -> list[Record]:
    return [Record(START + timedelta(seconds=second), gpu, {"x": float(second)}, {"host": "n"}) for second in seconds]


async def publish(publisher: Publisher, records: Sequence[Record]) -> None:
    """Publish records of one GPU as one Arrow message."""
    attributes = {CONTENT_TYPE: ARROW_CONTENT_TYPE}
    await publisher.publish(DATA_TOPIC, encode_arrow(frame_of(records)), attributes, ordering_key=records[0].gpu)


def seconds_stored(store: TieredStore, gpu: str) -> list[int]:
    lines = sorted(store.records(gpu, Span()), key=lambda frame: frame.item(0, "timestamp"))
    return [int(value) for frame in lines for value in frame.get_column("x")]


async def backlog(address: str, group: str = "collectors") -> int:
    """Messages that the group has not acked."""
    async with grpc.aio.insecure_channel(address) as channel:
        admin = queue_admin_pb2_grpc.QueueAdminServiceStub(channel)
        found = await admin.GetGroup(queue_admin_pb2.GetGroupRequest(group=group))
    return sum(position.end_offset - position.acked_through for position in found.group.positions)


async def shares(address: str) -> dict[str, int]:
    """How many partitions each member of the group has."""
    async with QueueAdmin(address) as admin:
        groups = (await admin.stats()).groups
    return {member.member: len(member.partitions) for group in groups for member in group.members}


async def test_what_is_published_is_stored_acked_and_can_be_asked_for(tmp_path: Path, address: str) -> None:
    async with collecting(tmp_path, address) as (collector, store), Publisher(address) as publisher:
        for number in range(10):
            await publish(publisher, records_of(f"node/{number}", range(100)))
        single = Record(START + timedelta(seconds=100), "node/3", {"x": 100.0})
        attributes = {CONTENT_TYPE: JSON_CONTENT_TYPE}
        await publisher.publish(DATA_TOPIC, encode_json(single), attributes, ordering_key="node/3")
        await until(lambda: sum(gpu.records for gpu in store.gpus()) == 1001)
        assert seconds_stored(store, "node/3") == list(range(101))

        async with grpc.aio.insecure_channel(f"127.0.0.1:{collector.grpc_port}") as channel:
            stub: query_pb2_grpc.QueryServiceAsyncStub = query_pb2_grpc.QueryServiceStub(channel)
            latest = await stub.GetLatest(query_pb2.GetLatestRequest(selector=query_pb2.GpuSelector(gpus=["node/3"])))
            stats = (await stub.GetStats(query_pb2.QueryServiceGetStatsRequest())).stats
        assert list(latest.columns[0].values) == [100.0]
        assert (stats.messages, stats.records, stats.samples, stats.gpus) == (11, 1001, 1001, 10)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{collector.http_port}") as client:
            shown = (await client.get("/telemetry/node/3?limit=1")).json()
            metrics = (await client.get("/metrics")).text
            await until(lambda: all(check.ok for check in collector.checks().values()))
            health = (await client.get("/health")).json()
        assert shown["telemetry"][0]["metrics"] == {"x": 100.0}
        assert "telemetry_collector_records_total 1001.0" in metrics
        assert health["status"] == "ok"
    assert await backlog(address) == 0


async def test_records_move_to_the_cold_tier_while_others_arrive_and_every_answer_stays_whole(
    tmp_path: Path, address: str
) -> None:
    compaction = CompactionSettings(interval_s=0.05, after_s=0.0)
    async with (
        collecting(tmp_path, address, compaction=compaction) as (collector, store),
        Publisher(address) as publisher,
    ):
        for first in range(0, 1000, 100):
            await publish(publisher, records_of("a", range(first, first + 100)))
            await until(lambda first=first: len(seconds_stored(store, "a")) == first + 100)  # type: ignore[misc]
        await until(lambda: store.stats().tiers["raw"].rows >= 1000)
        assert seconds_stored(store, "a") == list(range(1000))
        await until(lambda: all(check.ok for check in collector.checks().values()))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{collector.http_port}") as client:
            stats = (await client.get("/stats")).json()
            metrics = (await client.get("/metrics")).text
    assert stats["tiers"]["hot"]["files"] == 0
    assert stats["tiers"]["raw"]["rows"] == 1000
    assert stats["compactions"] >= 1
    assert stats["compaction_failures"] == stats["damaged_files"] == 0
    assert 'telemetry_collector_tier_rows{tier="raw"} 1000.0' in metrics
    assert "telemetry_collector_compactions_total" in metrics
    reopened = TieredStore(tmp_path)
    assert seconds_stored(reopened, "a") == list(range(1000))
    reopened.close()


async def test_a_collector_that_starts_again_goes_on_where_it_was(tmp_path: Path, address: str) -> None:
    async with Publisher(address) as publisher:
        async with collecting(tmp_path, address) as (_, store):
            await publish(publisher, records_of("a", range(10)))
            await until(lambda: bool(store.gpus()))
        await publish(publisher, records_of("a", range(10, 20)))
        async with collecting(tmp_path, address) as (collector, store):
            await until(lambda: len(seconds_stored(store, "a")) == 20)
            assert collector._counters.records == 10


async def test_what_was_stored_but_not_acked_is_acked_unread(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(deliveries: Sequence[object]) -> None: ...

    async with Publisher(address) as publisher:
        with monkeypatch.context() as patch:
            patch.setattr("telemetry.collector.writer._ack_all", lost)
            async with collecting(tmp_path, address) as (_, store):
                await publish(publisher, records_of("a", range(10)))
                await until(lambda: bool(store.gpus()))
        assert await backlog(address) == 1
        async with collecting(tmp_path, address) as (collector, store):
            await publish(publisher, records_of("a", range(10, 20)))
            await until(lambda: len(seconds_stored(store, "a")) == 20)
            # What a commit brought is counted a moment after it can be read.
            await until(lambda: collector._counters.records > 0)
            assert (collector._counters.records, collector._counters.duplicates) == (10, 0)
    assert await backlog(address) == 0


async def test_a_queue_that_forgot_everything_does_not_cost_new_records(tmp_path: Path) -> None:
    async with queue() as server:
        port = server.grpc_port
        address = f"127.0.0.1:{port}"
        async with Publisher(address) as publisher, collecting(tmp_path, address, workers=1) as (_, store):
            for second in range(5):
                await publish(publisher, records_of("a", [second]))
            await until(lambda: len(seconds_stored(store, "a") if store.gpus() else []) == 5)
    async with queue(port), Publisher(address) as publisher, collecting(tmp_path, address, workers=1) as (_, store):
        await publish(publisher, records_of("a", [5]))
        await until(lambda: seconds_stored(store, "a") == list(range(6)))


async def test_a_collector_outlives_its_queue(tmp_path: Path) -> None:
    async with queue() as server:
        port = server.grpc_port
        address = f"127.0.0.1:{port}"
    async with collecting(tmp_path, address, workers=2) as (collector, store):
        assert not collector.checks()["queue"].ok
        for first in (0, 5):
            async with queue(port), Publisher(address) as publisher:
                await publish(publisher, records_of("a", range(first, first + 5)))
                await until(lambda: bool(store.gpus()) and len(seconds_stored(store, "a")) == first + 5)  # noqa: B023
                await until(lambda: collector.checks()["queue"].ok)


async def test_workers_share_the_partitions_and_hand_them_over(tmp_path: Path, address: str) -> None:
    async with Publisher(address) as publisher, collecting(tmp_path / "a", address, workers=3) as (first, one):
        gpus = [f"gpu-{number}" for number in range(40)]
        for gpu in gpus:
            await publish(publisher, records_of(gpu, range(5)))
        await until(lambda: first._counters.records == 200)
        async with collecting(tmp_path / "b", address, workers=3) as (second, other):
            # Both run on the same host, here even in the same process; still nobody is taken for another.
            async with asyncio.timeout(WAIT_S):
                while sorted((await shares(address)).values()) != [1, 1, 1, 2, 2, 2]:
                    await asyncio.sleep(0.02)
            for gpu in gpus:
                await publish(publisher, records_of(gpu, range(5, 10)))
            await until(lambda: len(one.gpus()) + len(other.gpus()) > 40)
            await until(lambda: first._counters.records + second._counters.records >= 400)
            both = {gpu: {*seconds_stored(one, gpu), *seconds_stored(other, gpu)} for gpu in gpus}
            assert both == {gpu: set(range(10)) for gpu in gpus}
            assert first._counters.duplicates == second._counters.duplicates == 0


async def test_bad_messages_and_rejected_rows_are_kept_in_quarantine(tmp_path: Path, address: str) -> None:
    async with Publisher(address) as publisher, collecting(tmp_path, address) as (collector, store):
        await publisher.publish(DATA_TOPIC, b"\0rubbish", {CONTENT_TYPE: ARROW_CONTENT_TYPE, "source": "f.csv:2-9"})
        row = {"source": "f.csv", "line": 17, "reason": "no GPU", "raw": "x,y"}
        await publisher.publish(QUARANTINE_TOPIC, json.dumps(row).encode())
        await publish(publisher, records_of("a", [0]))
        await until(lambda: collector._counters.quarantined == 2 and bool(store.gpus()))
    lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert {line["source"] for line in lines} == {"f.csv:2-9", "f.csv"}
    assert await backlog(address) == 0


async def test_a_full_disk_holds_everything_back_and_loses_nothing(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Publisher(address) as publisher, collecting(tmp_path, address) as (collector, store):
        original, is_full = store.commit, True

        def commit(batch: Batch) -> Committed:
            if is_full:
                raise StoreError("no space left on device", full=True)
            return original(batch)

        monkeypatch.setattr(store, "commit", commit)
        await publish(publisher, records_of("a", range(10)))
        await until(lambda: not collector.checks()["disk"].ok)
        assert await backlog(address) == 1
        is_full = False
        await until(lambda: bool(store.gpus()))
        assert seconds_stored(store, "a") == list(range(10))
        await until(lambda: collector.checks()["disk"].ok)


async def test_watchers_hear_of_new_records_and_of_labels(tmp_path: Path, address: str) -> None:
    async with collecting(tmp_path, address), Publisher(address) as publisher:
        async with Subscriber(address, topics=[LIVE_TOPIC]) as watcher:
            await watcher.wait_started()
            await publish(publisher, records_of("a", range(10)))
            update = await _next_update(watcher)
    assert update.gpus == ["a"]
    assert update.timestamps_us == [int((START + timedelta(seconds=9)).timestamp() * 1e6)]
    assert (update.columns["x"].last, update.columns["x"].min, update.columns["x"].max) == ([9.0], [0.0], [9.0])
    assert update.labels == {"a": {"host": "n"}}


async def _next_update(watcher: Subscriber) -> LiveUpdate:
    async with asyncio.timeout(WAIT_S):
        async for event in watcher:
            assert isinstance(event, ReceivedDelivery)
            return decode_live_update(event.messages[0].data)
    raise AssertionError("closed")
