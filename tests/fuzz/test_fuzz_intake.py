"""Whatever messages hold, a collector takes them in: each record is stored or in quarantine, nothing is an error."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import orjson
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, JSON_CONTENT_TYPE, CodecError, decode, encode_arrow
from telemetry.collector.admission import Admission
from telemetry.collector.intake import Intake, batch_of, read
from telemetry.storage.store import Batch
from telemetry.storage.tiered import TieredStore
from telemetry.topics import DATA_TOPIC, QUARANTINE_TOPIC
from telemetry.v1.queue_pb2 import Message
from tests.fuzz.examples import examples
from tests.fuzz.messages import damaged
from tests.unit.collector.test_intake import FakeDelivery

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(["temperature", "x", "timestamp", "gpu", "gpu_id", "host", "", "\0", "x" * 300, "🔥"]) | TEXT
LEAVES = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | TEXT
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
TIMES = st.sampled_from(["2026-01-02T03:04:05Z", "9999-12-31T23:59:59.999999Z", 0, -1, 1e300, None, "now"])
GPUS = st.sampled_from(["a", "b", "../c", "d\0", "e" * 70_000, "", None, 7])
RECORDS = st.fixed_dictionaries(
    {"timestamp": TIMES, "gpu": GPUS, "fields": st.dictionaries(NAMES, LEAVES, max_size=6) | LEAVES}
)
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys(("source", "line", "reason", "raw", "header", "more"), VALUES))
FRAME = pl.DataFrame(
    {
        "timestamp": pl.Series([-1, 1_000_000, 2_000_000]).cast(pl.Datetime("us", "UTC")),
        "gpu": ["a", "b", "a"],
        "x": [40.0, None, 42.5],
        "host": ["node-1", "n" * 70_000, None],
    }
)


def as_json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=True).encode()


DATA = RECORDS.map(as_json) | VALUES.map(as_json) | ROWS.map(as_json) | damaged(st.just(encode_arrow(FRAME)))
MESSAGES = st.builds(
    lambda data, kind, depth: Message(data=b"[" * depth + data + b"]" * depth, attributes={CONTENT_TYPE: kind}),
    DATA | st.binary(max_size=50),
    st.sampled_from([JSON_CONTENT_TYPE, ARROW_CONTENT_TYPE, ""]),
    st.sampled_from([0, 0, 0, 0, 500, 2000]),
)


@examples(80)
@given(
    messages=st.lists(MESSAGES, min_size=1, max_size=8),
    topic=st.sampled_from([DATA_TOPIC, QUARANTINE_TOPIC]),
    gpus_max=st.integers(0, 3),
    names_max=st.integers(2, 8),
)
def test_each_record_of_any_messages_is_stored_or_in_quarantine(
    tmp_path_factory: Any, messages: list[Message], topic: str, gpus_max: int, names_max: int
) -> None:
    delivery = FakeDelivery(messages, first=10, topic=topic)
    contents = read(delivery)
    store = TieredStore(tmp_path_factory.mktemp("store"), synced=False)
    try:
        batch = batch_of([Intake(delivery, 1, contents)], {}, Admission(store, gpus_max, names_max).pass_on)
        check(batch, messages)
        store.commit(batch)
        assert len(store.gpus()) <= gpus_max
        assert {name for gpu in store.gpus() for name in (*gpu.latest, *gpu.labels)} <= {
            name for frame in batch.frames for name in frame.columns
        }
    finally:
        store.close()


def check(batch: Batch, messages: list[Message]) -> None:
    """Each record of each message is stored or in the quarantine; of what cannot be read, the message."""
    records = {offset: records_in(message) for offset, message in enumerate(messages, 10)}
    refused: Counter[int] = Counter()
    for line in map(orjson.loads, batch.quarantine):
        if line["topic"] == QUARANTINE_TOPIC or records[line["offset"]] is None:
            refused[line["offset"]] += 1
        else:
            data = base64.b64decode(line["raw_base64"]) if "raw_base64" in line else line["raw"].encode()
            refused[line["offset"]] += decode(data, line["content_type"]).height
    if batch.quarantine and orjson.loads(batch.quarantine[0])["topic"] == QUARANTINE_TOPIC:
        assert (list(batch.frames), refused) == ([], dict.fromkeys(records, 1))
        return
    for offset, count in records.items():
        assert refused[offset] <= (1 if count is None else count)
    stored = sum(frame.height for frame in batch.frames)
    assert stored + refused.total() == sum(1 if count is None else count for count in records.values())


def records_in(message: Message) -> int | None:
    """How many records a message holds; ``None`` if it cannot be read."""
    try:
        return decode(message.data, message.attributes[CONTENT_TYPE]).height
    except (CodecError, pl.exceptions.PolarsError):
        return None
