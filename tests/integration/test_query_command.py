"""`telemetry query` against a real pipeline: tables, charts, JSON and CSV, and what it says when there is nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from telemetry.codec import frame_of
from telemetry.model import Record
from tests.integration.pipelines import Pipeline, lines, pipeline

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
START_S = str(START.timestamp())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pipeline]:
    """Three GPUs on two hosts, a record a second for a minute, with a gap in the middle of the third's."""
    async with pipeline(tmp_path_factory.mktemp("store")) as started:
        for number, (gpu, host) in enumerate([("GPU-aa1", "n1"), ("GPU-ab2", "n1"), ("n2/0", "n2")]):
            labels = {"host": host, "index": str(number % 2), "model": "H100", "pod": "p" if number else ""}
            metrics = {"temperature": 50.0 + 10 * number, "power_draw": 1e3}
            records = [
                Record(START + timedelta(seconds=second), gpu, metrics, labels)
                for second in range(60)
                if not (number == 2 and 20 <= second < 40)
            ]  # fmt: skip
            await started.publish(frame_of(records))
        await started.stored()
        yield started


async def test_gpus_and_hosts_are_listed(running: Pipeline) -> None:
    shown = lines(await running.cli("query", "gpus"))
    assert shown[0].split() == ["gpu", "host", "index", "model", "first_seen", "last_seen", "metrics"]
    assert [line.split()[:4] for line in shown[1:]] == [
        ["GPU-aa1", "n1", "0", "H100"],
        ["GPU-ab2", "n1", "1", "H100"],
        ["n2/0", "n2", "0", "H100"],
    ]
    document = json.loads((await running.cli("query", "gpus", "--host", "n2", "--json")).stdout)
    assert document["gpus"][0]["labels"]["pod"] == "p"
    assert document["gpus"][0]["last_seen"] == "2026-01-01T12:00:59.000Z"
    assert document["completeness"] == {"partial": False, "warnings": []}
    shown = lines(await running.cli("query", "hosts"))
    assert [line.split()[:2] for line in shown[1:]] == [["n1", "2"], ["n2", "1"]]


async def test_without_a_command_the_newest_values_are_shown(running: Pipeline) -> None:
    shown = lines(await running.cli("query"))
    assert shown[0].split() == ["gpu", "timestamp", "power_draw", "temperature"]
    assert shown[3].split() == ["n2/0", "2026-01-01T12:00:59.000Z", "1,000", "70"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("--gpu", "GPU-a"), ["GPU-aa1", "GPU-ab2"]),
        (("--gpu", "GPU-ab2", "--gpu", "n2/0"), ["GPU-ab2", "n2/0"]),
        (("--gpu", "n1/1"), ["GPU-ab2"]),
        (("--host", "n1", "--label", "pod=p"), ["GPU-ab2"]),
        (("--label", "pod="), ["GPU-aa1"]),
    ],
)
async def test_gpus_are_chosen_by_name_place_host_and_label(
    filters: tuple[str, ...], expected: list[str], running: Pipeline
) -> None:
    rows = list(csv.DictReader(io.StringIO((await running.cli("query", "latest", *filters, "--csv")).stdout)))
    assert [row["gpu"] for row in rows] == expected


async def test_records_come_newest_first_or_oldest_first(running: Pipeline) -> None:
    result = await running.cli("query", "records", "--gpu", "n2/0", "-n", "2", "-m", "temperature")
    assert [line.split() for line in lines(result)] == [
        ["gpu", "timestamp", "temperature"],
        ["n2/0", "2026-01-01T12:00:59.000Z", "70"],
        ["n2/0", "2026-01-01T12:00:58.000Z", "70"],
    ]
    assert "--limit gives more" in result.stderr
    result = await running.cli("query", "records", "--oldest", "--json", "--end", str(START.timestamp() + 1))
    assert json.loads(lines(result)[0]) == {
        "gpu": "GPU-aa1",
        "timestamp": "2026-01-01T12:00:00.000Z",
        "metrics": {"power_draw": 1000.0, "temperature": 50.0},
    }
    assert len(lines(result)) == 3


async def test_series_are_one_a_gpu_or_one_a_group(running: Pipeline) -> None:
    span = ("--start", START_S, "--end", str(START.timestamp() + 60), "--step", "20s")
    result = await running.cli("query", "series", "temperature", *span, "--agg", "count", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["gpu"], row["timestamp"][17:19], row["temperature"]) for row in rows if row["gpu"] == "n2/0"] == [
        ("n2/0", "00", "20.0"), ("n2/0", "40", "20.0"),
    ]  # fmt: skip
    result = await running.cli(
        "query", "series", "temperature", *span, "--group-by", "host", "--across", "max", "--json"
    )
    document = json.loads(result.stdout)
    assert document["step_s"] == 20.0
    assert document["series"] == [
        {"group": {"host": "n1"}, "columns": {"temperature": [60.0, 60.0, 60.0]}},
        {"group": {"host": "n2"}, "columns": {"temperature": [70.0, None, 70.0]}},
    ]
    result = await running.cli("query", "series", "temperature", *span, "--group-by", "", "--json", "--across", "sum")
    assert json.loads(result.stdout)["series"][0]["columns"] == {"temperature": [180.0, 110.0, 180.0]}


async def test_a_series_ends_with_the_newest_record_and_says_how_it_was_found(running: Pipeline) -> None:
    result = await running.cli(
        "query", "series", "temperature", "--gpu", "GPU-aa1", "--step", "1m", "--csv", "--explain"
    )
    assert result.stdout == "gpu,timestamp,temperature\nGPU-aa1,2026-01-01T12:00:00.000Z,50.0\n"
    assert "took" in result.stderr


async def test_a_plot_has_a_title_a_legend_times_and_gaps(running: Pipeline) -> None:
    result = await running.cli("query", "series", "temperature", "--last", "1m", "--end", str(START.timestamp() + 60),
                               "--step", "1s", "--plot")  # fmt: skip
    assert "temperature (°C)" in result.stdout
    assert all(name in result.stdout for name in ("GPU-aa1", "GPU-ab2", "n2/0", "12:00:00", "12:00:59"))
    assert "\x1b" not in result.stdout


async def test_nothing_is_said_to_be_nothing(running: Pipeline) -> None:
    result = await running.cli("query", "series", "temperature", "--last", "1h")
    assert "there are no samples from" in result.stderr
    assert "the newest record of these GPUs is of 2026-01-01T12:00:59.000Z" in result.stderr
    result = await running.cli("query", "latest", "--host", "nowhere")
    assert (result.stdout, result.stderr) == ("", "no GPU matches\n")
    result = await running.cli("query", "latest", "--gpu", "nobody", code=1)
    assert "there is no GPU 'nobody'" in result.stderr


async def test_a_collector_that_is_away_is_said_to_be(running: Pipeline) -> None:
    result = await running.cli("query", "--collector", running.collector, "--collector", "127.0.0.1:1")
    assert len(lines(result)) == 4
    assert "not complete: collector 127.0.0.1:1 is left out" in result.stderr
    result = await running.cli("query", "--collector", "127.0.0.1:1", code=1)
    assert result.stderr == "telemetry query latest: the collector at 127.0.0.1:1 cannot be reached\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("series",), 2, "which metric?"),
        (("latest", "--json", "--csv"), 2, "--json or --csv"),
        (("latest", "--label", "pod"), 2, "is not name=value"),
        (("latest", "--collector", "nowhere"), 2, "is not host:port"),
        (("series", "x", "--step", "fast"), 2, "is not a length of time"),
        (("series", "x", "--step", "1us"), 2, "is not a length of time"),
        (("series", "x", "--last", "1h", "--step", "1ms"), 1, "steps are too many"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_in_a_sentence(
    arguments: tuple[str, ...], code: int, said: str, running: Pipeline
) -> None:
    result = await running.cli("query", *arguments, code=code)
    assert said in result.stderr
    assert "Traceback" not in result.stderr
