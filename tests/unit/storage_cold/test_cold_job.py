"""What a compaction job writes, reports and refuses."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from telemetry.storage.cold import job as job_module
from telemetry.storage.cold import segments, windows
from telemetry.storage.cold.digits import BINARY, Digits
from telemetry.storage.cold.files import ColdFile, HotSegment, Level, Window
from telemetry.storage.cold.job import Job, JobError, JobResult, run_job
from telemetry.storage.cold.parquet import ParquetFile
from telemetry.storage.cold.reader import ColdReader
from telemetry.storage.cold.rows import merge_streams
from telemetry.storage.cold.verify import verify
from telemetry.storage.series import Steps
from telemetry.storage.store import Span
from tests.unit.storage_cold.lake import DAY_US, HOUR_US, MIDNIGHT_US, NOON_US, Lake, bits, line, plain

SECOND_US = 1_000_000


@pytest.fixture
def world(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def every_second(gpu: str, start_us: int, count: int) -> list[tuple[str, int, dict[str, float]]]:
    return [(gpu, start_us + second * SECOND_US, {"x": float(second)}) for second in range(count)]


def asked_of_duckdb(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_of_a_day_that_is_over_go_to_its_file_and_younger_ones_to_their_hours(world: Lake) -> None:
    rows = [("g", MIDNIGHT_US - HOUR_US, {"x": 1.0}), ("g", MIDNIGHT_US, {"x": 2.0}), ("g", NOON_US - 1, {"x": 3.0})]
    world.run(world.segment(rows))
    assert [(file.level, file.window.name) for file in world.records] == [
        (Level.DAY, "2025-11-24"),
        (Level.HOUR, "2025-11-25T00"),
        (Level.HOUR, "2025-11-25T11"),
    ]


def test_a_day_is_over_only_after_the_grace(world: Lake) -> None:
    job = world.job(world.segment([("g", MIDNIGHT_US - 1, {"x": 1.0})]), now_us=MIDNIGHT_US + HOUR_US)
    assert run_job(replace(job, grace_us=HOUR_US + 1)).files[0].level is Level.HOUR
    assert run_job(replace(job, grace_us=HOUR_US)).files[0].level is Level.DAY


def test_hours_of_a_day_that_is_over_become_its_file(world: Lake) -> None:
    for hour in range(3):
        world.run(world.segment(every_second("g", MIDNIGHT_US + hour * HOUR_US, 30)))
    result = world.run([], world.records, NOON_US + DAY_US)
    assert [(file.level, file.rows) for file in result.files] == [
        (Level.DAY, 90),
        (Level.MINUTE_ROLLUP, 3),
        (Level.HOUR_ROLLUP, 3),
    ]
    assert [file.derived_from for file in result.files] == [None, result.files[0].id, result.files[0].id]


def test_a_minute_roll_up_is_left_out_where_it_takes_more_room_than_it_saves_time(world: Lake) -> None:
    rows = [("g", MIDNIGHT_US + 3 * SECOND_US * place, {"x": 1.0}) for place in range(200)]
    assert [file.level for file in world.run(world.segment(rows)).files] == [Level.HOUR, Level.HOUR_ROLLUP]


def test_the_same_job_writes_the_same_bytes(world: Lake, tmp_path: Path) -> None:
    segments = world.segment([*every_second("a", NOON_US, 100), *every_second("b", MIDNIGHT_US, 100)])
    for name in ("one", "two"):
        run_job(replace(world.job(segments), directory=tmp_path / name))
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two") != {}


def test_many_gpus_become_several_files_that_share_none(world: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "FILE_ROWS_MAX", 25)
    monkeypatch.setattr(segments, "BATCH_BYTES", 500)
    rows = [row for gpu in range(10) for row in every_second(f"gpu-{gpu}", MIDNIGHT_US, 10)]
    world.run(world.segment(rows))
    files = world.records
    assert [(file.gpu_min, file.gpu_max, file.rows) for file in files] == [
        ("gpu-0", "gpu-2", 30),
        ("gpu-3", "gpu-5", 30),
        ("gpu-6", "gpu-8", 30),
        ("gpu-9", "gpu-9", 10),
    ]
    assert len({file.generation for file in files}) == 1
    assert sum(frame.height for frame in ColdReader(world.cold).rows(files, None, Span(), ["x"])) == 100


def test_memory_is_for_a_few_rows_of_each_stream_however_many_streams(
    world: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[int] = []

    def count(streams: Sequence[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
        merged.append(len(streams))
        return merge_streams(streams)

    monkeypatch.setattr("telemetry.storage.cold.job.merge_streams", count)
    for generation in range(2 * job_module.STREAMS_MAX):
        world.run(world.segment([("g", MIDNIGHT_US + generation // 2, {"x": float(generation)})]))
    merged.clear()
    world.run([], world.records)
    assert max(merged) == job_module.STREAMS_MAX
    frames = ColdReader(world.cold).records(world.records, "g", Span())
    assert [value for frame in frames for value in frame.get_column("x")] == [
        float(2 * place + 1) for place in range(job_module.STREAMS_MAX)
    ]


def test_a_later_segment_wins_whichever_earlier_ones_it_overlaps(world: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "BATCH_BYTES", 1)
    written = [((1, 5), 1.0), ((3, 9), 2.0), ((6, 9), 3.0), ((0, 2), 4.0), ((2, 3), 5.0)]
    world.run(
        [each for times, value in written for each in world.segment([("g", NOON_US + t, {"x": value}) for t in times])]
    )
    frames = ColdReader(world.cold).rows(world.records, None, Span(), ["x"])
    assert [row for frame in frames for row in plain(frame, ["x"])] == bits(world.expected)


GOOD = line("g", NOON_US, {"x": 1.0})
DAMAGED = {
    b"\x00\x00\x00": "",
    b"": "",
    b'{"gpu_id":"g","metrics":{"x":1.0},"timest': "",
    b'{"gpu_id":"g","metrics":{"x":1.0}}': "it has no 'timestamp'",
    b'{"gpu_id":"g","metrics":{"x":"12"},"timestamp":"2025-11-25T12:00:01.000000Z"}': "metric 'x' is no number",
    b'{"gpu_id":"g","metrics":{"x":true},"timestamp":"2025-11-25T12:00:01.000000Z"}': "metric 'x' is no number",
    b'{"gpu_id":"g","metrics":{"x":1.0},"timestamp":"yesterday"}': "",
    b'{"gpu_id":"g","metrics":{"x":1.0},"timestamp":"2025-11-25T12:00:01"}': "its time has no zone",
    b"[1, 2]": "it is no record",
}


@pytest.mark.parametrize("bad", DAMAGED, ids=range(len(DAMAGED)))
def test_a_line_that_is_no_record_is_reported_and_kept_and_the_rest_is_stored(world: Lake, bad: bytes) -> None:
    segment = world.raw_segment("g", GOOD + bad + b"\n" + line("g", NOON_US + 1, {"y": 2.0}))
    result = world.run([segment])
    (damage,) = result.damaged
    assert (damage.gpu, damage.path, damage.offset) == ("g", str(segment.path), len(GOOD))
    assert DAMAGED[bad] in damage.reason
    assert (world.cold / damage.kept).read_bytes() == bad + b"\n"
    frames = list(ColdReader(world.cold).rows(world.records, None, Span(), ["x", "y"]))
    assert [row for frame in frames for row in plain(frame, ["x", "y"])] == [
        ("g", NOON_US, {"x": b"\x00\x00\x00\x00\x00\x00\xf0?"}),
        ("g", NOON_US + 1, {"y": b"\x00\x00\x00\x00\x00\x00\x00@"}),
    ]


def test_all_damaged_lines_are_counted_and_kept_though_few_are_named(world: Lake) -> None:
    world.run([world.raw_segment("g", b"?\n" * 150), world.raw_segment("h", b"!\n" * 150)])
    result = run_job(world.job([world.raw_segment("g", b"?\n" * 150), world.raw_segment("h", b"!\n" * 150)]))
    assert (len(result.damaged), result.damaged_lines, result.files) == (100, 300, [])
    assert sorted(path.read_bytes()[:2] for path in (world.cold / "damaged").iterdir()) == [b"!\n"] * 2 + [b"?\n"] * 2


def test_times_and_numbers_written_by_hand_are_understood(world: Lake) -> None:
    by_hand = b'{"gpu_id":"g","metrics":{"x":7},"timestamp":"2025-11-25T14:00:00+02:00"}\n'
    world.run([world.raw_segment("g", by_hand)])
    (frame,) = ColdReader(world.cold).rows(world.records, None, Span(), ["x"])
    assert plain(frame, ["x"]) == [("g", NOON_US, {"x": b"\x00\x00\x00\x00\x00\x00\x1c@"})]


def test_only_the_committed_length_of_a_segment_counts(world: Lake) -> None:
    segment = world.raw_segment("g", GOOD + line("g", NOON_US + 1, {"x": 2.0}))
    world.run([HotSegment("g", segment.path, len(GOOD))])
    assert world.records[0].rows == 1


def shorten(world: Lake, job: Job) -> str:
    path = job.segments[0].path
    os.truncate(path, 10)
    return str(path)


def take_away(world: Lake, job: Job) -> str:
    job.segments[0].path.unlink()
    return str(job.segments[0].path)


def damage(world: Lake, job: Job) -> str:
    path = world.cold / job.files[0].path
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    return job.files[0].path


def unlink(world: Lake, job: Job) -> str:
    (world.cold / job.files[0].path).unlink()
    return job.files[0].path


@pytest.mark.parametrize("harm", [shorten, take_away, damage, unlink])
def test_input_that_cannot_be_read_is_named_and_nothing_is_left(world: Lake, harm: Callable[[Lake, Job], str]) -> None:
    world.run(world.segment(every_second("g", NOON_US, 50)))
    job = world.job(world.segment(every_second("g", NOON_US, 60)), world.records)
    blamed = harm(world, job)
    before = snapshot(world.cold)
    with pytest.raises(JobError) as caught:
        run_job(job)
    assert caught.value.path == blamed
    assert blamed in str(caught.value)
    assert snapshot(world.cold) == before


def test_a_full_disk_or_any_failure_leaves_no_file_in_view(world: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = world.segment([*every_second("a", MIDNIGHT_US, 400), *every_second("a", NOON_US, 400)])
    whole = run_job(replace(world.job(segments), directory=world.folder / "whole"))
    calls = 0
    failing_at = 0
    originals: dict[str, Callable[..., object]] = {"fsync": os.fsync, "rename": Path.rename}

    def maybe(name: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls == failing_at:
                raise OSError(28, "No space left on device")
            return originals[name](*arguments)

        return call

    monkeypatch.setattr(os, "fsync", maybe("fsync"))
    monkeypatch.setattr(Path, "rename", maybe("rename"))
    outcomes = []
    while True:
        calls, failing_at = 0, failing_at + 1
        job = replace(world.job(segments), directory=world.folder / f"try-{failing_at}")
        try:
            result: JobResult = run_job(job)
        except JobError:
            outcomes.append(failing_at)
            by_path = {file.path: file for file in whole.files}
            for path in job.directory.glob("*/*.parquet"):
                assert verify(by_path[str(path.relative_to(job.directory))], job.directory) == []
            assert not list(job.directory.glob("*/*.tmp"))
            continue
        assert result.files == whole.files
        break
    assert len(outcomes) > len(whole.files)


def test_leftovers_of_a_job_that_died_are_cleared_by_the_next(world: Lake) -> None:
    (world.cold / "hour").mkdir(parents=True)
    (world.cold / "hour" / "2025-11-25T12.00000001.parquet.tmp").write_bytes(b"half")
    world.run(world.segment(every_second("g", NOON_US, 5)))
    assert not list(world.cold.glob("*/*.tmp"))


def test_descriptions_travel_as_json(world: Lake) -> None:
    job = world.job(world.segment([("🔥", NOON_US, {"x": 1.0})]))
    result = world.run(job.segments)
    assert Job.from_json(job.to_json()) == job
    assert JobResult.from_json(result.to_json()) == result
    assert [ColdFile.from_json(file.to_json()) for file in result.files] == result.files


def test_others_can_open_the_files(world: Lake) -> None:
    world.run(world.segment([("g", NOON_US, {"power": 1.5, "Power": 2.5}), ("h", NOON_US, {"power": 3.5})]))
    path = world.cold / world.records[0].path
    frame = pl.read_parquet(path)
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert frame.rows(named=True)[0] == {
        "gpu": "g",
        "timestamp": frame.item(0, "timestamp"),
        "Power": 2.5,
        "power~1": 1.5,
    }
    counted = asked_of_duckdb(f"SELECT gpu, sum(\"power~1\") FROM '{path}' GROUP BY gpu ORDER BY gpu")
    assert counted == [("g", 1.5), ("h", 3.5)]


def test_each_metric_has_the_type_that_says_all_its_values_and_the_smallest_encoding(world: Lake) -> None:
    noise = random.Random(1)
    rows = [
        (
            "g",
            NOON_US + place * SECOND_US,
            {
                "energy": 1e6 + place * 300,
                "power": round(500 + noise.gauss(0, 20), 2),
                "ratio": noise.random(),
                "state": float(place // 50 % 2),
            },
        )
        for place in range(3000)
    ]
    world.run(world.segment(rows))
    path = world.cold / world.records[0].path
    group = pq.ParquetFile(path).metadata.row_group(0)
    encodings = {group.column(place).path_in_schema: group.column(place).encodings for place in range(6)}
    assert "DELTA_BINARY_PACKED" in encodings["timestamp"]
    assert "DELTA_BINARY_PACKED" in encodings["energy"]
    assert "RLE_DICTIONARY" not in encodings["power"]
    assert "BYTE_STREAM_SPLIT" in encodings["ratio"]
    assert "RLE_DICTIONARY" in encodings["state"]
    types = {"energy": pl.Int64(), "power": pl.Decimal(18, 2), "ratio": pl.Float64(), "state": pl.Int64()}
    frame = pl.read_parquet(path)
    assert {name: frame.schema[name] for name in types} == types
    assert frame.drop("gpu", "timestamp").cast(pl.Float64).rows(named=True) == [values for _, _, values in rows]
    means = asked_of_duckdb(f"SELECT avg(energy), avg(power), avg(ratio), avg(state) FROM '{path}'")
    assert means[0] == pytest.approx([sum(row[2][name] for row in rows) / len(rows) for name in types])


def test_others_read_files_in_which_a_metric_has_different_types_together(world: Lake) -> None:
    for hour, value in enumerate((1.0, 1.25, 1 / 3)):
        world.run(world.segment([("g", MIDNIGHT_US + hour * HOUR_US + second, {"x": value}) for second in range(9)]))
    paths = [world.cold / file.path for file in world.records]
    kinds = [pl.read_parquet_schema(path)["x"] for path in paths]
    assert kinds == [pl.Int64(), pl.Decimal(18, 2), pl.Float64()]
    (total,) = asked_of_duckdb(f"SELECT sum(x) FROM read_parquet('{world.cold}/hour/*', union_by_name = true)")[0]
    lazily = pl.concat([pl.scan_parquet(path) for path in paths], how="diagonal_relaxed")
    assert [total, lazily.select(pl.col("x").sum()).collect().item()] == pytest.approx([9 * (1 + 1.25 + 1 / 3)] * 2)


@pytest.mark.parametrize("is_old", [False, True])
def test_files_whose_values_need_different_types_are_merged_into_one_that_says_all(
    world: Lake, is_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_old:
        # Files from before there were other types than DOUBLE do not say what their values need.
        written = ParquetFile.__init__

        def as_before(self: ParquetFile, path: Path, level: Level, window: Window, metrics: dict[str, Digits]) -> None:
            written(self, path, level, window, dict.fromkeys(metrics, BINARY))
            del self._metadata["digits"]

        with monkeypatch.context() as patch:
            patch.setattr(ParquetFile, "__init__", as_before)
            world.run(world.segment([("g", MIDNIGHT_US, {"whole": 1.0, "decimal": 1.25, "any": 1 / 3, "zero": -0.0})]))
    else:
        world.run(world.segment([("g", MIDNIGHT_US, {"whole": 1.0, "decimal": 1.25, "any": 1 / 3, "zero": -0.0})]))
    world.run(world.segment([("g", MIDNIGHT_US + HOUR_US, {"whole": 7.0, "decimal": 3.0, "any": 0.5, "zero": 0.0})]))
    world.run(world.segment([("h", MIDNIGHT_US + 2 * HOUR_US, {"whole": 2.0**40, "decimal": 0.125, "any": 2.0})]))
    world.run([], world.records, NOON_US + DAY_US)
    names = ["any", "decimal", "whole", "zero"]
    (file,) = world.records
    frames = list(ColdReader(world.cold).rows([file], None, Span(), names))
    by_name = {
        (gpu, time): {names[int(place)]: value for place, value in values.items()}
        for frame in frames
        for gpu, time, values in plain(frame, [str(place) for place in range(4)])
    }
    assert [(gpu, time, values) for (gpu, time), values in by_name.items()] == bits(world.expected)
    schema = pl.read_parquet_schema(world.cold / file.path)
    kinds = [schema[name] for name in names]
    assert kinds == ([pl.Float64()] * 4 if is_old else [pl.Float64(), pl.Decimal(18, 3), pl.Int64(), pl.Float64()])
    assert verify(file, world.cold) == []


def test_a_minute_roll_up_is_made_of_a_file_that_has_none_and_stays_as_it_is(world: Lake) -> None:
    rows = [
        (gpu, MIDNIGHT_US + 10 * SECOND_US * place, {"x": place + 0.5}) for gpu in ("g", "h") for place in range(400)
    ]
    world.run(world.segment(rows))
    source = world.records[0]
    assert {file.level for file in world.files} == {Level.HOUR, Level.HOUR_ROLLUP}
    job = Job(world.cold, (), (), world.next_id, NOON_US, 0, minutes_of=[source])
    (minutes,) = run_job(job).files
    assert (minutes.level, minutes.derived_from, minutes.window) == (Level.MINUTE_ROLLUP, source.id, source.window)
    assert (minutes.rows, minutes.samples) == (120, source.samples)
    assert verify(minutes, world.cold) == []
    steps = Steps.over(MIDNIGHT_US, MIDNIGHT_US + HOUR_US, 60 * SECOND_US)
    reader = ColdReader(world.cold)
    expected = reader.partials([source], None, Span(), steps, ["x"]).drop("0:last_us").sort("gpu", "step")
    found = reader.rollup_partials([minutes], None, Span(), steps, ["x"]).drop("0:last_us").sort("gpu", "step")
    assert found.equals(expected)
    assert Job.from_json(job.to_json()).minutes_of == (source,)
