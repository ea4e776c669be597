"""Nothing is acked that is not durable, and everything that is durable is acked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import polars as pl
import pytest

from telemetry.codec import JSON_CONTENT_TYPE, encode_json
from telemetry.collector import writer as writer_module
from telemetry.collector.counters import Counters
from telemetry.collector.intake import Intake, read
from telemetry.collector.writer import Waiting, Writer
from telemetry.model import Record
from telemetry.storage.plan import Plan
from telemetry.storage.series import Aggregation, Steps
from telemetry.storage.store import (
    Batch,
    Change,
    Committed,
    Gpu,
    Position,
    Span,
    StoreError,
    StoreStats,
    TopicPartition,
)
from telemetry.v1.queue_pb2 import Message


class FakeStore:
    """Keeps batches; fails or waits as told."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.errors: list[Exception] = []
        self.batches: list[Batch] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self._positions: dict[TopicPartition, Position] = {}

    def positions(self) -> Mapping[TopicPartition, Position]:
        return self._positions

    def commit(self, batch: Batch) -> Committed:
        assert self.go_on.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(batch)
        self._positions |= batch.positions
        self.log.append("commit")
        return Committed(sum(frame.height for frame in batch.frames), 0, 0, 0, [])

    def gpus(self) -> Sequence[Gpu]:
        return []

    def find(self, gpu: str) -> Gpu | None:
        return None

    def records(
        self,
        gpu: str,
        span: Span,
        *,
        metrics: Sequence[str] | None = None,
        newest_first: bool = False,
        plan: Plan | None = None,
    ) -> Iterator[pl.DataFrame]:
        return iter(())

    def series(
        self,
        gpus: Sequence[str],
        span: Span,
        steps: Steps,
        metrics: Sequence[str],
        aggregation: Aggregation,
        *,
        plan: Plan | None = None,
    ) -> Iterator[pl.DataFrame]:
        return iter(())

    def stats(self) -> StoreStats:
        return StoreStats(0, 0, [], 0, 0, 0, 0, None, {}, 0)

    def close(self) -> None: ...


class FakeDelivery:
    """One JSON message; notes when it is acked."""

    topic = "telemetry"
    publish_time_us = 0

    def __init__(self, log: list[str], offset: int, partition: int = 0) -> None:
        self.partition = partition
        self.offsets = [offset]
        record = Record(datetime(2026, 1, 1, tzinfo=UTC), "a", {"x": float(offset)})
        self.messages = [Message(data=encode_json(record), attributes={"content-type": JSON_CONTENT_TYPE})]
        self.lost = False
        self.acked = asyncio.Event()
        self._log = log

    async def ack(self) -> None:
        self._log.append(f"ack {self.offsets[0]}")
        self.acked.set()


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def store(log: list[str]) -> FakeStore:
    return FakeStore(log)


@asynccontextmanager
async def running(store: FakeStore, counters: Counters | None = None) -> AsyncIterator[Writer]:
    """A writer at work; drained at the end."""
    changes: list[Change] = []
    writer = Writer(store, counters or Counters(1), changes.extend)
    task = asyncio.create_task(writer.run())
    yield writer
    writer.drain()
    await task
    writer.close()


async def submit(writer: Writer, delivery: FakeDelivery) -> None:
    await writer.submit(Waiting(Intake(delivery, 1, read(delivery)), delivery))


async def test_acks_follow_the_commit(store: FakeStore, log: list[str]) -> None:
    async with running(store) as writer:
        first, second = FakeDelivery(log, 0), FakeDelivery(log, 1)
        await submit(writer, first)
        await submit(writer, second)
        await second.acked.wait()
    assert log == ["commit", "ack 0", "ack 1"]


async def test_what_the_store_refuses_is_tried_again_and_acked_only_then(store: FakeStore, log: list[str]) -> None:
    store.errors = [StoreError("disk full", full=True), StoreError("disk full", full=True)]
    async with running(store) as writer:
        delivery = FakeDelivery(log, 0)
        await submit(writer, delivery)
        while not writer.trouble:
            await asyncio.sleep(0)
        assert writer.trouble == "disk full"
        assert writer.backlog == 1
        assert not delivery.acked.is_set()
        await delivery.acked.wait()
        assert writer.trouble == ""
    assert log == ["commit", "ack 0"]


async def test_while_a_commit_runs_the_next_batch_gathers(store: FakeStore, log: list[str]) -> None:
    store.go_on.clear()
    async with running(store) as writer:
        await submit(writer, FakeDelivery(log, 0))
        while writer.backlog and not writer._in_work:
            await asyncio.sleep(0.01)
        last = FakeDelivery(log, 9)
        for offset in range(1, 9):
            await submit(writer, FakeDelivery(log, offset))
        await submit(writer, last)
        store.go_on.set()
        await last.acked.wait()
    assert [len(batch.frames) for batch in store.batches] == [1, 9]


async def test_too_much_waiting_makes_the_bringer_wait(
    store: FakeStore, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PENDING_BYTES_MAX", 1)
    store.go_on.clear()
    async with running(store) as writer:
        await submit(writer, FakeDelivery(log, 0))
        while not writer._in_work:
            await asyncio.sleep(0.01)
        await submit(writer, FakeDelivery(log, 1))
        blocked = asyncio.create_task(submit(writer, FakeDelivery(log, 2)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not blocked.done()
        store.go_on.set()
        await blocked


async def test_what_was_lost_with_its_connection_is_neither_stored_nor_acked(store: FakeStore, log: list[str]) -> None:
    async with running(store) as writer:
        kept, gone = FakeDelivery(log, 0, partition=1), FakeDelivery(log, 0, partition=2)
        await submit(writer, gone)
        await submit(writer, kept)
        gone.lost = True
        await kept.acked.wait()
    assert not gone.acked.is_set()
    assert store.positions() == {TopicPartition("telemetry", 1): Position(1, 1)}


async def test_what_is_lost_while_nothing_can_be_stored_is_left_to_whoever_gets_it_now(
    store: FakeStore, log: list[str]
) -> None:
    store.errors = [StoreError("disk full", full=True)]
    async with running(store) as writer:
        kept, gone = FakeDelivery(log, 0, partition=1), FakeDelivery(log, 0, partition=2)
        await submit(writer, gone)
        await submit(writer, kept)
        while not writer.trouble:
            await asyncio.sleep(0)
        gone.lost = True
        await kept.acked.wait()
    assert not gone.acked.is_set()
    assert store.positions() == {TopicPartition("telemetry", 1): Position(1, 1)}


async def test_what_was_lost_does_not_wait_any_more(store: FakeStore, log: list[str]) -> None:
    async with running(store) as writer:
        gone = FakeDelivery(log, 0)
        await submit(writer, gone)
        gone.lost = True
        while writer.backlog:
            await asyncio.sleep(0)
        assert writer.waiting_s == 0.0
    assert log == []


async def test_what_would_make_too_large_a_table_is_committed_in_parts(
    store: FakeStore, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three columns each, so two records at a time.
    monkeypatch.setattr(writer_module, "COMMIT_CELLS", 6)
    store.go_on.clear()
    async with running(store) as writer:
        deliveries = [FakeDelivery(log, offset) for offset in range(4)]
        for delivery in deliveries:
            await submit(writer, delivery)
        store.go_on.set()
        await deliveries[-1].acked.wait()
    assert [batch.positions[TopicPartition("telemetry", 0)].next_offset for batch in store.batches] == [2, 4]
    assert log == ["commit", "commit", "ack 0", "ack 1", "ack 2", "ack 3"]


async def test_what_was_delivered_again_is_acked_unread(store: FakeStore, log: list[str]) -> None:
    counters = Counters(1)
    async with running(store, counters) as writer:
        first, again = FakeDelivery(log, 0), FakeDelivery(log, 0)
        await submit(writer, first)
        await first.acked.wait()
        await submit(writer, again)
        await again.acked.wait()
    assert counters.records == 1


async def test_records_that_a_store_cannot_digest_go_to_quarantine_alone(store: FakeStore, log: list[str]) -> None:
    # Together it fails, the first alone works, the second alone fails and is refused.
    store.errors = [ValueError("bug")]
    counters = Counters(1)
    async with running(store, counters) as writer:
        first, second = FakeDelivery(log, 0), FakeDelivery(log, 1)
        await submit(writer, first)
        await submit(writer, second)
        original = store.commit

        def commit(batch: Batch) -> Committed:
            if batch.frames and batch.frames[0].item(0, "x") == 1.0:
                raise ValueError("bug")
            return original(batch)

        store.commit = commit  # type: ignore[method-assign]
        await second.acked.wait()
    assert (counters.records, counters.quarantined) == (1, 1)
    assert b"cannot be stored: bug" in store.batches[-1].quarantine[0]


async def test_of_a_delivery_that_cannot_be_digested_only_what_is_not_stored_goes_to_quarantine(
    store: FakeStore, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(Batch(positions={TopicPartition("telemetry", 0): Position(1, 2)}))
    delivery = FakeDelivery(log, 0)
    for offset in (1, 2, 3):
        delivery.offsets.append(offset)
        delivery.messages += FakeDelivery(log, offset).messages
    original = store.commit

    def commit(batch: Batch) -> Committed:
        if batch.frames:
            raise ValueError("bug")
        return original(batch)

    monkeypatch.setattr(store, "commit", commit)
    async with running(store) as writer:
        await submit(writer, delivery)
        await delivery.acked.wait()
    assert [json.loads(line)["offset"] for line in store.batches[-1].quarantine] == [2, 3]


async def test_draining_stores_and_acks_what_waits(store: FakeStore, log: list[str]) -> None:
    async with running(store) as writer:
        delivery = FakeDelivery(log, 0)
        await submit(writer, delivery)
    assert log == ["commit", "ack 0"]


async def test_a_lone_delivery_waits_for_no_others(
    store: FakeStore, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_INTERVAL_S", 3600.0)
    async with running(store) as writer:
        delivery = FakeDelivery(log, 0)
        await submit(writer, delivery)
        await delivery.acked.wait()
    assert log == ["commit", "ack 0"]


async def test_after_a_commit_deliveries_gather_for_as_long_as_it_deserves_or_until_they_are_many(
    store: FakeStore, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_INTERVAL_S", 3600.0)
    monkeypatch.setattr(writer_module, "REST", 1e9)
    async with running(store) as writer:
        first, last = FakeDelivery(log, 0), FakeDelivery(log, 5)
        await submit(writer, first)
        await first.acked.wait()
        for offset in range(1, 5):
            await submit(writer, FakeDelivery(log, offset))
        monkeypatch.setattr(writer_module, "COMMIT_BYTES", 5 * read(last).size)
        await submit(writer, last)
        await last.acked.wait()
    assert [len(batch.frames) for batch in store.batches] == [1, 5]


async def test_what_is_too_much_for_one_commit_does_not_wait_for_more(
    store: FakeStore, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_INTERVAL_S", 3600.0)
    monkeypatch.setattr(writer_module, "REST", 1e9)
    monkeypatch.setattr(writer_module, "COMMIT_BYTES", 1)
    store.go_on.clear()
    async with running(store) as writer:
        deliveries = [FakeDelivery(log, offset) for offset in range(4)]
        for delivery in deliveries:
            await submit(writer, delivery)
        store.go_on.set()
        await deliveries[-1].acked.wait()
    assert len(store.batches) == 4
