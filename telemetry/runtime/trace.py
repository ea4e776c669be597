"""One id that follows records from their source to the store, and spans where OpenTelemetry is switched on.

The id travels as W3C trace context (https://www.w3.org/TR/trace-context/) in the attribute ``traceparent`` of messages.
Without OpenTelemetry that is all there is, for about a microsecond a request.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

log = logging.getLogger(__name__)

TRACEPARENT: Final = "traceparent"
"""The attribute of messages, and the header of HTTP and gRPC, that holds the trace context."""

SWITCHES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Environment variables of OpenTelemetry, any of which switches spans on."""

LINKS_MAX: Final = 128
"""Most traces that one span is linked to."""

_FORM: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")

_tracer: Any = None


def is_tracing() -> bool:
    """Whether spans are exported."""
    return _tracer is not None


def trace_id(traceparent: str) -> str:
    """The trace that a context belongs to, 32 hexadecimal digits; empty if it is none."""
    match = _FORM.fullmatch(traceparent)
    return match[1] if match and match[1].strip("0") and match[2].strip("0") else ""


@contextmanager
def span(name: str, parents: Sequence[str] = (), **attributes: str | int) -> Iterator[str]:
    """Do something as part of a trace; gives the context to pass on.

    Args:
        name: what is done.
        parents: contexts of what led to it. With one, its trace goes on; with several, a new one is linked to them.
        attributes: what there is to say of it.
    """
    if _tracer is None:
        known = trace_id(parents[0]) if len(parents) == 1 else ""
        yield f"00-{known or secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    contexts = [propagator.extract({TRACEPARENT: parent}) for parent in parents[:LINKS_MAX]]
    links = [trace.Link(trace.get_current_span(context).get_span_context()) for context in contexts]
    parent = contexts[0] if len(contexts) == 1 else None
    with _tracer.start_as_current_span(name, parent, attributes=attributes, links=None if parent else links):
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        yield carrier[TRACEPARENT]


def start_tracing(process: str) -> Callable[[], None]:
    """Export spans over OTLP if the environment asks for it; returns what sends the last of them at the end."""
    global _tracer
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in SWITCHES):
        return _nothing
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("spans are asked for, but OpenTelemetry is not installed: pip install gpu-telemetry-pipeline[otel]")
        return _nothing
    provider = TracerProvider(resource=Resource.create({"service.name": f"telemetry-{process}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("telemetry")

    def stop() -> None:
        global _tracer
        _tracer = None
        provider.shutdown()

    return stop


def _nothing() -> None:
    """There is nothing to send."""
