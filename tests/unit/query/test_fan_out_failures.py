"""Collectors that are down, late, or many behind one name: what is left of an answer, and what it says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from telemetry.query.fanout import Collectors
from telemetry.query.members import LATE_DEADLINE_S, RESOLVE_EVERY_S, Members
from telemetry.query.names import gpus_named
from telemetry.runtime.calls import UpstreamError
from telemetry.v1 import query_pb2 as pb
from tests.unit.gateway.services import FakeCollector
from tests.unit.query.collectors import asking, between, collector, fan_out, record, serve

LEFT = [record("GPU-a", second, {"temperature": second}, host="x") for second in range(10)]
RIGHT = [record("GPU-b", second, {"temperature": 100.0 + second}, host="y") for second in range(10)]
SERIES = pb.QuerySeriesRequest(metrics=["temperature"], range=between(0, 10))


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def everything(collectors: Collectors) -> list[tuple[list[str], pb.Completeness]]:
    """The GPUs that each call tells of, and how complete it says it is."""
    gpus = await collectors.list_gpus(pb.ListGpusRequest())
    hosts = await collectors.list_hosts(pb.ListHostsRequest())
    latest = await collectors.get_latest(pb.GetLatestRequest())
    series = await collectors.query_series(SERIES)
    records, completeness = await collectors.records(pb.StreamRecordsRequest())
    return [
        ([gpu.gpu for gpu in gpus.gpus], gpus.completeness),
        (["GPU-a" for host in hosts.hosts if host.host == "x"], hosts.completeness),
        (list(latest.gpus), latest.completeness),
        ([each.gpu for each in series.series], series.completeness),
        (sorted({each.gpu for each in records}), completeness),
    ]


async def test_one_that_is_down_makes_every_answer_partial_and_is_named(tmp_path: Path) -> None:
    gone = f"127.0.0.1:{free_port()}"
    async with collector(tmp_path, LEFT) as server:
        async with asking([f"127.0.0.1:{server.port}", gone]) as collectors:
            for gpus, completeness in await everything(collectors):
                assert gpus == ["GPU-a"]
                assert completeness.partial
                assert completeness.warnings == [
                    f"collector {gone} is left out: the collector at {gone} cannot be reached"
                ]


async def test_when_none_answers_the_call_is_unavailable_and_names_them(tmp_path: Path) -> None:
    gone = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    async with asking(gone) as collectors:
        for call in (
            collectors.list_gpus(pb.ListGpusRequest()),
            collectors.get_latest(pb.GetLatestRequest()),
            collectors.query_series(SERIES),
            collectors.records(pb.StreamRecordsRequest()),
        ):
            with pytest.raises(UpstreamError) as raised:
                await call
            assert raised.value.code is grpc.StatusCode.UNAVAILABLE
            assert all(address in raised.value.message for address in gone)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.QuerySeriesRequest(range=between(0, 10)), "metrics"),
        (pb.QuerySeriesRequest(metrics=["x"]), "range.start_time"),
        (pb.QuerySeriesRequest(metrics=["x"], range=between(0, 10), aggregation=77), "aggregation"),  # type: ignore[arg-type]
        (
            pb.QuerySeriesRequest(metrics=["x"], range=between(0, 10), grouping=pb.Grouping(aggregation=77)),  # type: ignore[arg-type]
            "grouping.aggregation",
        ),
        (pb.ListGpusRequest(page_size=-1), "page_size"),
        (pb.ListGpusRequest(page_token="!"), "page_token"),
        (pb.GetLatestRequest(selector=pb.GpuSelector(gpus=["x"] * 10_001)), "selector.gpus"),
        (pb.StreamRecordsRequest(range=between(10, 0)), "range.start_time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_request_is_refused_as_by_one_collector(request_: Any, field: str, tmp_path: Path) -> None:
    async with fan_out(tmp_path, [LEFT], [RIGHT]) as collectors:
        calls: dict[type, Callable[[Any], Awaitable[Any]]] = {
            pb.QuerySeriesRequest: collectors.query_series,
            pb.ListGpusRequest: collectors.list_gpus,
            pb.GetLatestRequest: collectors.get_latest,
            pb.StreamRecordsRequest: collectors.records,
        }
        with pytest.raises(UpstreamError) as raised:
            await calls[type(request_)](request_)
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in raised.value.violations] == [field]


class Hanging(FakeCollector):
    """Answers nothing, and notes how long it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given_s: list[float] = []

    async def ListGpus(self, request: pb.ListGpusRequest, context: Any) -> pb.ListGpusResponse:  # noqa: N802
        self.given_s.append(context.time_remaining())
        await asyncio.Event().wait()
        raise AssertionError

    async def StreamRecords(  # noqa: N802
        self, request: pb.StreamRecordsRequest, context: Any
    ) -> AsyncIterator[pb.StreamRecordsResponse]:
        yield pb.StreamRecordsResponse(records=[pb.Record(gpu="GPU-b")])
        await asyncio.Event().wait()


async def test_one_that_hangs_is_waited_for_once_and_then_for_a_second_at_most(tmp_path: Path) -> None:
    service = Hanging()
    hanging = await serve(service)
    try:
        async with collector(tmp_path, LEFT) as server:
            async with asking([f"127.0.0.1:{server.port}", f"127.0.0.1:{hanging.port}"], 1.5) as collectors:
                for _ in range(2):
                    answer = await collectors.list_gpus(pb.ListGpusRequest())
                    assert [gpu.gpu for gpu in answer.gpus] == ["GPU-a"]
                    assert "did not answer in time" in answer.completeness.warnings[0]
    finally:
        await hanging.stop(0)
    assert service.given_s[0] > LATE_DEADLINE_S + 0.25 > service.given_s[1]


async def test_records_of_one_that_stops_in_the_middle_are_kept_and_the_gap_is_named(tmp_path: Path) -> None:
    hanging = await serve(Hanging())
    try:
        async with collector(tmp_path, LEFT) as server:
            async with asking([f"127.0.0.1:{server.port}", f"127.0.0.1:{hanging.port}"], 1.0) as collectors:
                records, completeness = await collectors.records(pb.StreamRecordsRequest())
    finally:
        await hanging.stop(0)
    assert [each.gpu for each in records] == ["GPU-a"] * 10 + ["GPU-b"]
    assert completeness.partial
    assert f"127.0.0.1:{hanging.port} is left out" in completeness.warnings[0]


async def test_a_series_that_needs_too_many_records_put_together_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.query.series.RECORDS_MAX", 5)
    async with fan_out(tmp_path, [LEFT], [LEFT]) as collectors:
        with pytest.raises(UpstreamError, match="ask for a shorter range") as raised:
            await collectors.query_series(SERIES)
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_groups_of_too_many_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry.query.series.GROUPED_VALUES_MAX", 5)
    request = pb.QuerySeriesRequest(metrics=["temperature"], range=between(0, 10), grouping=pb.Grouping())
    async with fan_out(tmp_path, [LEFT], [RIGHT]) as collectors:
        with pytest.raises(UpstreamError, match="more than 5; ask for fewer") as raised:
            await collectors.query_series(request)
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_plan_says_which_collectors_and_how_many_records(tmp_path: Path) -> None:
    async with fan_out(tmp_path, [LEFT], [LEFT[5:], RIGHT]) as collectors:
        request = pb.QuerySeriesRequest(metrics=["temperature"], range=between(0, 10), explain=True)
        request.step.FromSeconds(1)
        answer = await collectors.query_series(request)
        first, second = [member.address for member in await collectors.members()]
    assert any(line.startswith(f"{first}: ") for line in answer.plan)
    assert any(line.startswith(f"{second}: ") for line in answer.plan)
    assert [line for line in answer.plan if "GPU-a is on" in line and "5 records aggregated here" in line]


async def test_a_name_with_several_addresses_stands_for_as_many_collectors_and_is_looked_up_again() -> None:
    now = 0.0
    failed = asyncio.Event()
    found: dict[str, Sequence[str] | OSError] = {"collectors": ["10.0.0.1", "10.0.0.2"], "one": ["10.0.0.9"]}

    async def resolve(host: str, port: int) -> Sequence[str]:
        answer = found[host]
        if isinstance(answer, OSError):
            failed.set()
            raise answer
        return answer

    members = Members(["collectors:9092", "one:1", "127.0.0.1:2"], resolve=resolve, clock=lambda: now)

    async def addresses() -> list[str]:
        return [member.address for member in await members.current()]

    try:
        assert await addresses() == ["10.0.0.1:9092", "10.0.0.2:9092", "one:1", "127.0.0.1:2"]
        kept = (await members.current())[1]
        found["collectors"] = ["10.0.0.2", "fd00::3"]
        assert await addresses() == ["10.0.0.1:9092", "10.0.0.2:9092", "one:1", "127.0.0.1:2"]
        now += RESOLVE_EVERY_S
        while await addresses() != ["10.0.0.2:9092", "[fd00::3]:9092", "one:1", "127.0.0.1:2"]:
            await asyncio.sleep(0)
        assert (await members.current())[0] is kept
        now += RESOLVE_EVERY_S
        failed.clear()
        found["collectors"] = OSError("no such name")
        await addresses()
        await failed.wait()
        assert await addresses() == ["10.0.0.2:9092", "[fd00::3]:9092", "one:1", "127.0.0.1:2"]
    finally:
        await members.close()


async def test_gpus_are_found_by_identity_by_place_and_by_how_they_begin(tmp_path: Path) -> None:
    left = [record("GPU-1", 0, {"x": 1.0}, host="n", index="0"), record("GPU-12", 0, {"x": 1.0}, host="n", index="1")]
    right = [record("GPU-13", 0, {"x": 1.0}, host="n", index="2")]
    async with fan_out(tmp_path, [left], [right]) as collectors:
        for name, expected in {
            "GPU-1": ["GPU-1"],
            "GPU-": ["GPU-1", "GPU-12", "GPU-13"],
            "n/2": ["GPU-13"],
            "n/3": [],
        }.items():
            answer = await gpus_named(collectors, name, 10)
            assert [gpu.gpu for gpu in answer.gpus] == expected
