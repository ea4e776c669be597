"""How many GPUs and names a collector takes in, and what becomes of the others."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from telemetry.codec import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE, encode_arrow, encode_json, frame_of
from telemetry.collector.admission import Admission
from telemetry.collector.intake import Intake, batch_of, read
from telemetry.model import Record
from telemetry.storage.store import Batch
from telemetry.storage.tiered import TieredStore
from telemetry.v1.queue_pb2 import Message
from tests.unit.collector.test_intake import FakeDelivery

TIME = datetime(2026, 1, 1, tzinfo=UTC)


def message(*gpus: str, metric: str = "x") -> Message:
    frame = frame_of([Record(TIME.replace(second=place), gpu, {metric: 1.0}) for place, gpu in enumerate(gpus)])
    return Message(data=encode_arrow(frame), attributes={"content-type": ARROW_CONTENT_TYPE, "source": "f.csv:2-9"})


def admitted(admission: Admission, *messages: Message, first: int = 0) -> Batch:
    delivery = FakeDelivery(messages, first)
    admission.begin()
    return batch_of([Intake(delivery, 1, read(delivery))], {}, admission.pass_on)


def gpus_of(frames: Sequence[pl.DataFrame]) -> list[str]:
    return [gpu for frame in frames for gpu in frame.get_column("gpu")]


def test_records_of_gpus_beyond_the_limit_go_to_quarantine_and_those_of_known_ones_pass(tmp_path: Path) -> None:
    store = TieredStore(tmp_path)
    admission = Admission(store, gpus_max=3)
    store.commit(admitted(admission, message("a", "b", "a")))
    batch = admitted(admission, message("a", "c", "d", "a"), message("e", "c"), first=4)
    assert gpus_of(batch.frames) == ["a", "c", "a", "c"]
    first, second = map(json.loads, batch.quarantine)
    assert first["reason"] == "new GPUs, such as 'd'; at most 3 are kept (--max-gpus)"
    assert (first["offset"], first["source"]) == (4, "f.csv:2-9")
    assert pl.read_ipc_stream(base64.b64decode(first["raw_base64"])).get_column("gpu").to_list() == ["d"]
    assert second["offset"] == 5
    store.commit(batch)
    assert [gpu.gpu for gpu in store.gpus()] == ["a", "b", "c"]
    assert gpus_of(admitted(Admission(store, gpus_max=3), message("b", "x", "c")).frames) == ["b", "c"]
    store.close()


def test_a_limit_that_is_not_reached_costs_nothing_and_refuses_nothing(tmp_path: Path) -> None:
    store = TieredStore(tmp_path)
    admission = Admission(store, gpus_max=3)
    for _ in range(5):
        batch = admitted(admission, message(*"abcabc"))
        assert len(gpus_of(batch.frames)) == 6
        assert not batch.quarantine
        store.commit(batch)
    store.close()


def test_a_message_that_brings_too_many_new_names_goes_to_quarantine(tmp_path: Path) -> None:
    store = TieredStore(tmp_path)
    admission = Admission(store, names_max=4)
    assert len(admitted(admission, message("a"), message("a", metric="y")).frames) == 2
    batch = admitted(admission, message("a", metric="z"), message("a", metric="y"))
    assert [frame.columns[-1] for frame in batch.frames] == ["y"]
    reason = json.loads(batch.quarantine[0])["reason"]
    assert reason == "1 new names, such as 'z'; at most 4 different ones are kept"
    store.close()


def test_of_records_that_came_a_message_each_only_those_with_new_names_or_gpus_are_refused(tmp_path: Path) -> None:
    def single(gpu: str, metric: str) -> Message:
        record = Record(TIME, gpu, {metric: 1.0})
        return Message(data=encode_json(record), attributes={"content-type": JSON_CONTENT_TYPE})

    store = TieredStore(tmp_path)
    admission = Admission(store, gpus_max=2, names_max=4)
    store.commit(admitted(admission, single("a", "x"), single("b", "y")))
    messages = [single("a", "x"), single("b", "z"), single("c", "x"), single("b", "y")]
    batch = admitted(admission, *messages, first=10)
    assert [set(frame.columns) for frame in batch.frames] == [{"timestamp", "gpu", "x", "y"}]
    assert gpus_of(batch.frames) == ["a", "b"]
    lines = [json.loads(line) for line in batch.quarantine]
    assert [(line["offset"], line["raw"].encode()) for line in lines] == [
        (11, messages[1].data),
        (12, messages[2].data),
    ]
    store.close()
