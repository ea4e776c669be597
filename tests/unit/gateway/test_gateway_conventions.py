"""What holds for every route: names of requests, unknown parameters, bodies, methods, CSV, and readiness."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest

from gateway.csv_answers import PIECE_ROWS
from gateway.places import zstd
from gateway.server import GatewayServer
from telemetry.runtime.grpc_server import GrpcServer
from telemetry.runtime.logs import JsonFormatter
from tests.unit.gateway.services import FakeCollector, gateway_to, gpu_message

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBLEM = "application/problem+json"


def table(answer: httpx.Response) -> list[list[str]]:
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "Accept" in answer.headers["vary"]
    return list(csv.reader(io.StringIO(answer.text)))


async def test_a_request_keeps_the_name_that_its_sender_gave(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/gpus", headers={"X-Request-Id": "load-test/17"})
    assert answer.headers["x-request-id"] == "load-test/17"


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, 'quo"te'])
async def test_a_request_without_a_good_name_is_given_one(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/api/v1/gpus", headers={"X-Request-Id": given})
    name = answer.headers["x-request-id"]
    assert name != given
    assert len(name) == 32


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/gpus?page_size=x", "/api/v1/gpus/GPU-nobody"])
async def test_problems_say_which_request_they_are_about(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"X-Request-Id": "r-1"})
    assert answer.headers["content-type"] == PROBLEM
    assert (answer.json()["request_id"], answer.headers["x-request-id"]) == ("r-1", "r-1")
    assert answer.json()["status"] == answer.status_code


async def test_a_failure_is_logged_by_the_name_of_its_request(
    client: httpx.AsyncClient, collector: FakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.fail = RuntimeError("broken")
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonFormatter("gateway").format(record))

    logger, handler = logging.getLogger("gateway.request_ids"), Lines()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, logger="gateway.request_ids"):
            answer = await client.get("/api/v1/hosts", headers={"X-Request-Id": "r-2"})
    finally:
        logger.removeHandler(handler)
    assert answer.status_code >= 500
    (line,) = lines
    assert '"request_id":"r-2"' in line
    assert '"path":"/api/v1/hosts"' in line


@pytest.mark.parametrize(
    ("path", "name", "takes"),
    [
        ("/api/v1/gpus?pagesize=5", "pagesize", "host, page_size, page_token, prefix"),
        ("/api/v1/gpus/GPU-5f?fields=x", "fields", "it takes none"),
        ("/api/v1/fleet?metric=temperature&metrics=x", "metrics", "it takes metric"),
        ("/api/v1/queue/stats?a=1", "a", "it takes none"),
        ("/metrics/gpus?age=1", "age", "it takes max_age"),
    ],
)
async def test_an_unknown_parameter_is_refused_by_name(
    client: httpx.AsyncClient, path: str, name: str, takes: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["parameter"]) == (400, name), answer.text
    assert takes in answer.json()["detail"]


async def test_a_body_that_is_not_json_is_refused_as_that(client: httpx.AsyncClient) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}):
        answer = await client.post("/api/v1/alerts/silences", content=b"a=b", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (415, PROBLEM), answer.text
    large = await client.post(
        "/api/v1/alerts/silences", content=b'"' + b"x" * (2 << 20), headers={"Content-Type": "application/json"}
    )
    assert (large.status_code, large.headers["content-type"]) == (413, PROBLEM)


@pytest.mark.parametrize("request_line", [b"GET /api/v1/gpus?prefix=%b HTTP/1.1" % (b"x" * 66_000), b"hello there"])
async def test_what_is_not_http_is_answered_with_a_problem_too(gateway: GatewayServer, request_line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.api_port)
    writer.write(request_line + b"\r\nHost: localhost\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"content-type: application/problem+json" in answer


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/gpus", "GET, HEAD"),
        ("PUT", "/api/v1/alerts/silences", "GET, HEAD, POST"),
        ("GET", "/api/v1/alerts/silences/x", "DELETE"),
        ("PUT", "/api/v1/queue/topics/telemetry", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/api/v1/queue/topics/telemetry:purge", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_allowed_comes_with_those_that_are(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"] == PROBLEM


async def test_records_come_as_csv_for_those_who_want_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/gpus/GPU-5fd4f087/telemetry", headers={"Accept": "text/csv"})
    assert table(answer) == [
        ["timestamp", "power_draw", "temperature"],
        ["2025-07-18T20:42:33.500000Z", "", "60.0"],
        ["2025-07-18T20:42:32.500000Z", "", "61.0"],
    ]
    assert answer.headers["content-disposition"] == 'attachment; filename="records.csv"'


async def test_series_come_as_csv_for_those_who_want_it(client: httpx.AsyncClient) -> None:
    answer = await client.get(
        "/api/v1/gpus/GPU-5fd4f087/series", params={"metric": "temperature"}, headers={"Accept": "text/csv"}
    )
    assert table(answer) == [
        ["timestamp", "temperature"],
        ["2025-07-18T20:42:24Z", "62.5"],
        ["2025-07-18T20:42:34Z", ""],
    ]


async def test_the_fleet_is_the_same_to_clients_that_take_gzip_and_to_those_that_do_not(
    client: httpx.AsyncClient,
) -> None:
    answers = [
        await client.get("/api/v1/fleet", headers={"Accept-Encoding": coding}) for coding in ("gzip", "identity") * 2
    ]
    assert [answer.headers.get("content-encoding") for answer in answers] == ["gzip", None] * 2
    assert all("accept" in answer.headers["vary"].lower() for answer in answers)
    bodies = [answer.json() | {"time": 0} for answer in answers]
    assert bodies[1:] == bodies[:-1]


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("zstd;q=0, gzip", "gzip"),
        ("gzip;q=0", None),
        ("br, *", None),
        ("ZSTD", "zstd"),
    ],
)
async def test_the_smallest_coding_that_a_client_likes_best_is_sent(
    client: httpx.AsyncClient, accept: str, coding: str | None
) -> None:
    async with client.stream("GET", "/api/v1/fleet", headers={"Accept-Encoding": accept}) as answer:
        assert answer.headers.get("content-encoding") == coding
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        body = b"".join([piece async for piece in answer.aiter_raw()])
    unpack: dict[str | None, Callable[[bytes], bytes]] = {"zstd": zstd.decompress, "gzip": gzip.decompress, None: bytes}
    assert len(orjson.loads(unpack[coding](body))["gpus"]) == 6


async def test_the_fleet_comes_as_csv_for_those_who_want_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/fleet", params={"metric": "temperature"}, headers={"Accept": "text/csv"})
    header, first, *_ = table(answer)
    assert header == ["gpu", "host", "index", "model", "timestamp", "temperature"]
    assert first == ["GPU-5b8ae3c1", "node-1", "1", "NVIDIA H100 80GB HBM3", "2025-07-18T20:42:34Z", "60.0"]


async def test_a_large_table_is_sent_in_pieces_while_it_is_made(
    client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    collector.gpus = [gpu_message(f"GPU-{number:04}", "node-1", "0") for number in range(2 * PIECE_ROWS + 10)]
    headers = {"Accept": "text/csv", "Accept-Encoding": "identity"}
    async with client.stream("GET", "/api/v1/fleet", headers=headers) as answer:
        assert "content-length" not in answer.headers
        await answer.aread()
    _, *rows = table(answer)
    assert [row[0] for row in rows] == [gpu.gpu for gpu in collector.gpus]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("application/json;q=0.5, text/csv", "text/csv; charset=utf-8"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/csv;q=x", "application/json"),
        ("text/html", "application/json"),
    ],
)
async def test_the_better_liked_of_json_and_csv_is_sent(client: httpx.AsyncClient, accept: str, kind: str) -> None:
    answer = await client.get("/api/v1/fleet", headers={"Accept": accept})
    assert answer.headers["content-type"] == kind


async def test_readiness_is_apart_from_liveness(
    client: httpx.AsyncClient, collector_server: GrpcServer, tmp_path: Path
) -> None:
    assert (await client.get("/health/ready")).json()["status"] == "ok"
    async with gateway_to(1, 1, static_folder=tmp_path) as alone:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{alone.api_port}", timeout=30) as http:
            assert (await http.get("/health")).status_code == 200
            ready = await http.get("/health/ready")
    assert (ready.status_code, ready.headers["content-type"]) == (503, PROBLEM)
    assert ready.headers["retry-after"] == "2"
    async with gateway_to(1, collector_server.port, static_folder=tmp_path) as half:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{half.api_port}", timeout=30) as http:
            assert (await http.get("/health/ready")).status_code == 200
