"""Out of a pipeline into a file, into another pipeline, and out again: the same file."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import grpc
import polars as pl
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from telemetry.codec import frame_of
from telemetry.model import Record
from telemetry.query.collector import CollectorClient
from telemetry.runtime.calls import UpstreamError
from telemetry.v1 import query_pb2 as pb
from tests.integration.pipelines import Pipeline, lines, pipeline

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
ENDINGS = ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet", "arrow"]
HELL = [
    "GPU-5fd4f087",
    "gpu-5fd4f087",
    "../../etc/passwd",
    "a,b;c\td",
    'quo"te',
    "line\nbreak\r\nand\\n",
    "  blanks  ",
    "N/A",
    "-",
    "😀/é",
    "nul\0byte",
    "0",
    "=1+1",
    "x" * 10_000,
]
VALUES = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 2147483632.0, 9.223372036854776e18, 150.0, -3.0]


def hell() -> list[pl.DataFrame]:
    """Names, labels and values that any of the formats, or a reader of them, could trip over."""
    frames = []
    for number, gpu in enumerate(HELL):
        metrics = {
            "utilization": VALUES[number % len(VALUES)],
            "power, draw [W]": 1.0 * number,
            "label:x": 2.0,
            "no\nend": 3.0,
        }
        labels = {
            "host": HELL[-1 - number],
            "index": "007",
            "serial": "1234567890123456789012",
            "empty": "",
            "model": "NaN",
            "metric:m": "null",
            'la"bel,\\': "\\e",
        }
        records = [
            Record(
                START + timedelta(microseconds=second * 1_000_001),
                gpu,
                dict(list(metrics.items())[second % 4 :]) | {"odd": VALUES[second % 8]} if second != 5 else {},
                labels if number % 3 else {},
            )
            for second in range(12)
        ]
        frame = frame_of(records)
        # What is no value: it must not come out as one.
        frames.append(frame.with_columns(pl.Series("nothing", [math.nan, math.inf, None] * 4, pl.Float64)))
    frames.append(frame_of([Record(START, "only metrics of its own", {"metric:m2": 1.0, "timestamp2": 1.0}, {})]))
    frames.append(frame_of([Record(START - timedelta(days=3650), "old", {"x": 1.0}, {"pod": "p"})]))
    return frames


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pipeline]:
    """A pipeline full of strange things."""
    async with pipeline(tmp_path_factory.mktemp("first")) as running:
        await running.publish(*hell())
        await running.stored()
        yield running


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_file_that_was_imported_is_exported_the_same(ending: str, first: Pipeline, tmp_path: Path) -> None:
    out, again = tmp_path / f"out.{ending}", tmp_path / f"again.{ending}"
    await first.cli("export", str(out))
    async with pipeline(tmp_path / "second") as second:
        result = await second.cli("import", str(out), "--json")
        report = json.loads(result.stdout)
        assert (report["rows"], report["quarantined"], report["finished"]) == (12 * len(HELL) + 2, 0, True)
        await second.stored()
        await second.cli("export", str(again))
    assert again.read_bytes() == out.read_bytes()


async def test_what_is_exported_is_what_was_published(first: Pipeline, tmp_path: Path) -> None:
    await first.cli("export", str(tmp_path / "out.jsonl"))
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    published = [
        {
            "gpu_id": record["gpu"],
            "timestamp": record["timestamp"].replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
            "metrics": {k: v for k, v in record.items() if isinstance(v, float) and math.isfinite(v)},
            **({"labels": labels} if (labels := {
                k: v for k, v in record.items() if isinstance(v, str) and k not in ("gpu", "timestamp")
            }) else {}),
        }
        for frame in hell()
        for record in frame.iter_rows(named=True)
    ]  # fmt: skip
    by_time = sorted(published, key=lambda each: (str(each["gpu_id"]), str(each["timestamp"])))
    assert exported == by_time


async def test_other_programs_read_the_files(first: Pipeline, tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "arrow", "jsonl"):
        await first.cli("export", str(tmp_path / f"out.{ending}"), "--gpu", "GPU-5fd4f087", "-m", "utilization")
    parquet, csv_file = str(tmp_path / "out.parquet"), str(tmp_path / "out.csv")
    with duckdb.connect() as connection:
        for source in (f"read_parquet('{parquet}')", f"read_csv('{csv_file}')"):
            rows = connection.execute(f"SELECT count(utilization), min(gpu_identity) FROM {source}").fetchone()
            assert rows == (3, "GPU-5fd4f087")
    assert pq.read_table(parquet).equals(ipc.open_file(str(tmp_path / "out.arrow")).read_all())
    assert pl.read_parquet(parquet)["utilization"].to_list() == [VALUES[0]] * 3
    assert pl.read_ndjson(tmp_path / "out.jsonl").height == 3


async def test_filters_and_standard_output(first: Pipeline) -> None:
    result = await first.cli("export", "--gpu", "old", "--format", "jsonl")
    assert [json.loads(line)["labels"] for line in lines(result)] == [{"pod": "p"}]
    assert "1 record of 1 GPU exported" in result.stderr
    result = await first.cli("export", "--label", "pod=p")
    assert lines(result) == ["timestamp,gpu_identity,x,label:pod", "2016-01-04T12:00:00.000000Z,old,1.0,p"]
    result = await first.cli("export", "--start", "2026-01-01T12:00:11Z", "-f", "jsonl", "--gpu", "0")
    assert [json.loads(line)["timestamp"] for line in lines(result)] == ["2026-01-01T12:00:11.000011Z"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "out.txt"), "give --format"),
        (("export", "-f", "parquet"), "parquet needs a file"),
        (("export", "out.parquet.gz"), "without .gz"),
        (("export", "--start", "2026-01-02T00:00:00Z", "--end", "2026-01-01T00:00:00Z"), "--end must be later"),
        (("export", "--last", "1h", "--start", "2026-01-02T00:00:00Z"), "cannot both say"),
        (("export", "--start", "yesterday"), "is no time"),
        (("import",), "Missing argument"),
    ],
)
async def test_a_wrong_command_line_says_what_is_wrong(arguments: tuple[str, ...], said: str, first: Pipeline) -> None:
    result = await first.cli(*arguments, code=2)
    assert said in result.stderr


async def test_what_is_not_complete_is_not_kept_unless_allowed(first: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("what was here before")
    both = ("--collector", f"{first.collector},127.0.0.1:1", "--timeout", "2")
    result = await first.cli("export", str(out), *both, code=1)
    assert "127.0.0.1:1 is left out" in result.stderr
    assert "--allow-partial" in result.stderr
    assert out.read_text() == "what was here before"
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["out.csv"]
    result = await first.cli("export", str(out), *both, "--allow-partial")
    assert "127.0.0.1:1 is left out" in result.stderr
    assert out.read_text().startswith("timestamp,gpu_identity,")


async def test_a_stream_that_breaks_off_leaves_nothing(
    first: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream_records = CollectorClient.stream_records

    async def broken(
        self: CollectorClient, request: pb.StreamRecordsRequest, *, patient: bool = False
    ) -> AsyncIterator[pb.StreamRecordsResponse]:
        async for piece in stream_records(self, request, patient=patient):
            yield piece
            raise UpstreamError("collector", self.address, grpc.StatusCode.UNAVAILABLE)

    monkeypatch.setattr(CollectorClient, "stream_records", broken)
    for ending in ("csv", "parquet", "arrow"):
        result = await first.cli("export", str(tmp_path / f"out.{ending}"), code=1)
        assert "cannot be reached" in result.stderr
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == []


async def test_an_import_given_again_stores_nothing_twice(first: Pipeline, tmp_path: Path) -> None:
    await first.cli("export", str(tmp_path / "out.parquet"))
    async with pipeline(tmp_path / "second") as second:
        await second.cli("import", str(tmp_path / "out.parquet"))
        result = await second.cli("import", str(tmp_path / "out.parquet"), "--json")
        report = json.loads(result.stdout)
    assert report["records"] == 0
    assert report["skipped_messages"] > 0


async def test_files_of_the_hot_tier_are_imported_as_they_lie(first: Pipeline, tmp_path: Path) -> None:
    files = sorted(str(path) for path in (first.folder / "hot").glob("*.jsonl"))
    assert len(files) == len(HELL) + 2
    async with pipeline(tmp_path / "second") as second:
        result = await second.cli("import", *files, "--json")
        assert json.loads(result.stdout)["quarantined"] == 0
        await second.stored()
        imported = [json.loads(line) for line in lines(await second.cli("export", "-f", "jsonl"))]
    exported = [json.loads(line) for line in lines(await first.cli("export", "-f", "jsonl"))]
    assert imported == [{name: value for name, value in each.items() if name != "labels"} for each in exported]


async def test_rows_that_cannot_be_read_go_to_quarantine_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text(
        '{"gpu_id": "GPU-1", "metrics": {"x": 1}, "timestamp": "2026-01-01T00:00:00Z"}\n'
        "not json\n"
        '{"gpu_id": "GPU-1", "metrics": {"x": "hot", "y": 2}, "timestamp": "2026-01-01T00:00:01Z"}\n'
        '{"metrics": {"x": 1}, "timestamp": "2026-01-01T00:00:02Z"}\n',
        encoding="utf-8",
    )
    async with pipeline(tmp_path / "store") as running:
        result = await running.cli("import", str(file))
        assert "2 records with 2 samples of 2 rows in 1 file imported" in result.stdout
        assert "3 rows could not be read" in result.stderr
        await running.stored()
        refused = (tmp_path / "store" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
        assert [(each["source"], each["line"]) for each in map(json.loads, refused)] == [
            ("some.jsonl", 2), ("some.jsonl", 3), ("some.jsonl", 4),
        ]  # fmt: skip
        exported = await running.cli("export", "-f", "jsonl")
        assert [json.loads(line)["metrics"] for line in lines(exported)] == [{"x": 1.0}, {"y": 2.0}]


async def test_files_that_cannot_be_imported_are_named_and_the_others_are(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("timestamp,gpu_id,temperature\n2026-01-01T00:00:00Z,GPU-1,60\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing more")
    async with pipeline(tmp_path / "store") as running:
        files = [str(tmp_path / name) for name in ("good.csv", "bad.parquet", "missing.csv")]
        result = await running.cli("import", *files, code=1)
        assert "1 record" in result.stdout
        assert "bad.parquet" in result.stderr
        assert "missing.csv: No such file" in result.stderr


async def test_an_import_without_a_queue_says_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("timestamp,gpu_id,temperature\n2026-01-01T00:00:00Z,GPU-1,60\n")
    nowhere = Pipeline("127.0.0.1:1", "127.0.0.1:1")
    result = await nowhere.cli("import", str(tmp_path / "good.csv"), "--timeout", "0.2", code=1)
    assert "the queue at 127.0.0.1:1 is not available" in result.stderr
