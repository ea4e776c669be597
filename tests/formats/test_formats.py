"""Data written by an earlier version is read by this one: nothing that was stored has to be converted by hand.

``written-by-VERSION.tar.gz`` is the data directory of a pipeline of that version: a queue with messages that nobody has
read yet, a group with positions, a store with records in both tiers and a row in quarantine, and the alerting service's
state. What is in it is what the tests below say. A version that changes what it writes adds an archive of its
own, and reads the older ones.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from telemetry.alerts.database import AlertDatabase
from telemetry.queue.core.types import Place
from telemetry.queue.engines.disk import DiskEngine
from telemetry.storage.series import Aggregation
from telemetry.storage.tiered import TieredStore
from telemetry.storage.upkeep.check import check
from telemetry.v1 import queue_pb2
from tests.unit.storage.rounds import records, series

ARCHIVES = sorted(Path(__file__).parent.glob("written-by-*.tar.gz"))

GPUS = [f"GPU-{number:04d}" for number in range(4)]
DAY_ONE_US = 1_767_225_600_000_000  # 2026-01-01: 200 records a GPU, one every 30 s, in the cold tier
DAY_TWO_US = DAY_ONE_US + 86_400_000_000  # two records a GPU, in the hot tier


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The data directory that an earlier version has left."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "data"


async def test_the_queue_still_has_its_messages_and_its_groups_their_positions(data: Path) -> None:
    engine = DiskEngine(data / "queue")
    await engine.start()
    try:
        stored = [one async for one in engine.browse("greetings", None, Place.EARLIEST, 10)]
        messages = [one.data for batch in stored for one in queue_pb2.MessageBatch.FromString(batch.batch).messages]
        assert messages == [b"hello", b"world"]
        group = await engine.get_group("collectors")
        assert {each.topic for each in group.positions} == {"telemetry", "telemetry.quarantine"}
        assert all(each.acked_through == each.end_offset for each in group.positions)
        log = (await engine.stats()).log
        assert log is not None
        assert (log.quarantined_records, log.torn_bytes) == (0, 0)
    finally:
        await engine.stop()


def test_the_store_still_has_every_record_once_in_both_tiers(data: Path) -> None:
    assert check(data / "store", repair=False).is_sound
    store = TieredStore(data / "store")
    try:
        assert [gpu.gpu for gpu in store.gpus()] == GPUS
        for number, gpu in enumerate(GPUS):
            found = records(store, gpu)
            first = [(DAY_ONE_US + 30_000_000 * i, float(40 + (i * 7 + number * 3) % 50)) for i in range(200)]
            second = [(DAY_TWO_US + second * 1_000_000, float(50 + number)) for second in (0, 30)]
            assert [(at, metrics["temperature"]) for at, metrics in found] == first + second
        hours = series(
            store, GPUS[:1], (DAY_ONE_US, DAY_ONE_US + 7_200_000_000), 3_600_000_000, Aggregation.COUNT, "power_draw"
        )
        assert sum(hours[GPUS[0]].values()) == 200
        assert (data / "store" / "quarantine.jsonl").read_text().count("bad row") == 1
    finally:
        store.close()


def test_the_alerting_service_opens_its_state(data: Path) -> None:
    database = AlertDatabase(data / "alerts" / "alerts.sqlite")
    assert database.silences() == []
    database.close()
