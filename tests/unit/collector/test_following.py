"""Whoever follows records hears when they are stored; nobody else pays for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from telemetry.collector.following import storing
from telemetry.runtime import trace
from telemetry.v1.queue_pb2 import Message

FIRST, SECOND = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"


class Delivery:
    """Messages that are from the traces given, or from none."""

    topic = "telemetry"
    publish_time_us = 0

    def __init__(self, partition: int, first_offset: int, *traces: str) -> None:
        self.partition = partition
        self.offsets = list(range(first_offset, first_offset + len(traces)))
        self.messages = [Message(attributes={"traceparent": f"00-{name}-b7ad6b7169203331-01"}) for name in traces]


class Closed:
    """One that nobody may look into."""

    topic = "telemetry"
    partition = 0
    publish_time_us = 0
    offsets = (0,)

    @property
    def messages(self) -> Sequence[Message]:
        raise AssertionError("somebody looked")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is exported; tracing is on."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_tracer", provider.get_tracer("telemetry"))
    yield exporter
    provider.shutdown()


def stored(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [
        (record.__dict__["trace_id"], record.__dict__["topic"], record.__dict__["partition"], record.__dict__["offset"])
        for record in caplog.records
        if record.message == "stored"
    ]


def test_without_debug_lines_and_spans_no_message_is_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with storing([Closed()]):
        pass
    assert caplog.records == []


def test_a_debug_line_says_where_the_first_message_of_each_trace_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    deliveries = [Delivery(3, 40, FIRST, FIRST, "rubbish", SECOND), Delivery(5, 7, "rubbish"), Delivery(6, 8, FIRST)]
    with storing(deliveries):
        assert stored(caplog) == []
    assert stored(caplog) == [
        (FIRST, "telemetry", 3, 40),
        (SECOND, "telemetry", 3, 43),
        (FIRST, "telemetry", 6, 8),
    ]


def test_what_could_not_be_stored_is_not_said_to_be(
    caplog: pytest.LogCaptureFixture, spans: InMemorySpanExporter
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(OSError, match="full"), storing([Delivery(0, 0, FIRST)]):
        raise OSError("full")
    assert stored(caplog) == []
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok


def test_a_commit_of_one_trace_goes_on_with_it_and_one_of_several_is_linked_to_all(spans: InMemorySpanExporter) -> None:
    with storing([Delivery(0, 0, FIRST, FIRST)]):
        pass
    with storing([Delivery(0, 2, FIRST), Delivery(1, 0, SECOND), Delivery(2, 0, "rubbish")]):
        pass
    alone, together = spans.get_finished_spans()
    assert (alone.name, f"{alone.context.trace_id:032x}") == ("store", FIRST)
    assert {f"{link.context.trace_id:032x}" for link in together.links} == {FIRST, SECOND}
    assert together.parent is None
    assert together.attributes == {"deliveries": 3, "messages": 3}
