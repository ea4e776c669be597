"""What the gateway counts about itself, for `/metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

REQUESTS: Final = Counter(
    "telemetry_gateway_requests_total", "HTTP requests answered, by route and status.", ["method", "route", "status"]
)
REQUEST_SECONDS: Final = Histogram(
    "telemetry_gateway_request_seconds", "How long the first byte of an answer took, by route.", ["route"]
)
UPSTREAM_CALLS: Final = Counter(
    "telemetry_gateway_upstream_calls_total",
    "Calls to other services, by gRPC status.",
    ["service", "code"],
)
STREAM_CLIENTS: Final = Gauge("telemetry_gateway_stream_clients", "Clients that follow the live stream now.")
STREAM_GAPS: Final = Counter("telemetry_gateway_stream_gaps_total", "Gaps that clients of the stream were told of.")
LIVE_UPDATES: Final = Counter("telemetry_gateway_live_updates_total", "Live updates received from the queue.")
LIVE_UPDATES_UNREADABLE: Final = Counter(
    "telemetry_gateway_live_updates_unreadable_total", "Messages of the live topic that could not be read."
)
