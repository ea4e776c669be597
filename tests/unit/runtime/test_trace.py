"""Trace contexts that go on, and spans that reach a collector of OpenTelemetry when they are switched on."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from telemetry.runtime.trace import span, trace_id

KNOWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = """
from telemetry.runtime.trace import span, start_tracing
stop = start_tracing("streamer")
with span("publish", topic="telemetry", messages=3) as context:
    print(context)
with span("store", [context]):
    pass
with span("commit", [context, "{known}"]):
    pass
stop()
""".replace("{known}", KNOWN)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        KNOWN.upper(),
        KNOWN[:-3],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        KNOWN.replace("b7ad6b7169203331", "0" * 16),
    ],
)
def test_what_is_no_trace_context_has_no_trace(wrong: str) -> None:
    assert trace_id(wrong) == ""


def test_a_trace_goes_on_with_one_parent_and_begins_without() -> None:
    with span("publish") as first, span("store", [first]) as second, span("publish") as other:
        assert trace_id(first) == trace_id(second) != ""
        assert first != second
        assert trace_id(other) not in ("", trace_id(first))
    with span("store", ["rubbish"]) as context:
        assert trace_id(context)


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A collector of OpenTelemetry: its endpoint, and what it has received."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")])
def test_traces_go_on_when_the_environment_wants_no_spans(
    receiver: tuple[str, list[ExportTraceServiceRequest]], variable: str, value: str
) -> None:
    endpoint, received = receiver
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, variable: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert trace_id(done.stdout.strip())
    assert received == []


def test_spans_are_sent_when_the_environment_asks_for_it(
    receiver: tuple[str, list[ExportTraceServiceRequest]],
) -> None:
    endpoint, received = receiver
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"},
        capture_output=True,
        text=True,
        check=True,
    )
    spans = {
        each.name: each
        for request in received
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for each in scope.spans
    }
    assert spans.keys() == {"publish", "store", "commit"}
    assert spans["publish"].trace_id.hex() == trace_id(done.stdout.strip())
    assert spans["store"].trace_id == spans["publish"].trace_id
    assert spans["store"].parent_span_id == spans["publish"].span_id
    assert {link.trace_id.hex() for link in spans["commit"].links} == {trace_id(done.stdout.strip()), trace_id(KNOWN)}
