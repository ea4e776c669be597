"""Whatever is written in whatever order, compacted and merged at any time: what is read is what a dict would hold."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.storage.cold import job as job_module
from telemetry.storage.cold import segments, windows
from telemetry.storage.cold.files import ColdFile, Level
from telemetry.storage.cold.reader import ColdReader
from telemetry.storage.cold.rollups import combine_partials
from telemetry.storage.cold.verify import verify
from telemetry.storage.series import Steps
from telemetry.storage.store import Span
from tests.unit.storage_cold.lake import DAY_US, HOUR_US, MIDNIGHT_US, NOON_US, Lake, Row, bits, plain

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS") or 1)

GPUS = ("GPU-a", "gpu-A", "../x", "nul\x00", "🔥" * 3, "n" * 10_000)
METRICS = ("power", "Power", "timestamp", "gpu", 'quote"d', "a.b", "power:min", "x")
MINUTE_US = 60_000_000

values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 100).map(float), st.sampled_from([0.0, -0.0, 0.1])
)
# Few instants, so that records meet: some in the same minute, some hours and days apart, some before 1970.
times = st.one_of(
    st.builds(
        lambda hour, second: MIDNIGHT_US + hour * HOUR_US + second * 10_000_000, st.integers(-30, 14), st.integers(0, 9)
    ),
    st.sampled_from([MIDNIGHT_US - 1, MIDNIGHT_US, -1, 0, MIDNIGHT_US + DAY_US - 1, -DAY_US, -HOUR_US]),
)
records = st.tuples(st.sampled_from(GPUS), times, st.dictionaries(st.sampled_from(METRICS), values, max_size=4))
batches = st.lists(records, max_size=12)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("compact"), st.lists(batches, min_size=1, max_size=4), st.booleans()),
        st.tuples(st.just("merge"), st.integers(0, 2), st.booleans()),
    ),
    min_size=1,
    max_size=5,
)


@contextmanager
def lake() -> Iterator[Lake]:
    folder = Path(tempfile.mkdtemp(prefix="lake-"))
    try:
        yield Lake(folder)
    finally:
        shutil.rmtree(folder)


def omit(values: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {key: value for key, value in values.items() if key != name}


def newest(files: list[ColdFile], generations: int) -> list[ColdFile]:
    """The files of the newest generations."""
    kept = sorted({file.generation for file in files})[-generations:] if generations else []
    return [file for file in files if file.generation in kept]


def play(world: Lake, steps: list[tuple[str, object, bool]]) -> None:
    now_us = NOON_US
    for action, what, flag in steps:
        if action == "compact":
            assert isinstance(what, list)
            segments = [segment for rows in what for segment in world.segment(rows)]
            world.run(segments, world.records if flag else (), now_us)
        else:
            assert isinstance(what, int)
            now_us += DAY_US * flag
            world.run([], newest(world.records, what) if what else world.records, now_us)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that everything happens: files split by GPU, streams merged beforehand."""
    monkeypatch.setattr(windows, "FILE_ROWS_MAX", 3)
    monkeypatch.setattr(windows, "MINUTE_RECORDS_MIN", 0)
    monkeypatch.setattr(segments, "BATCH_BYTES", 1)
    monkeypatch.setattr(job_module, "STREAMS_MAX", 2)


@given(steps=actions)
@settings(max_examples=25 * ROUNDS, deadline=None)
def test_what_is_read_is_what_was_written_whatever_was_compacted_when(steps: list[tuple[str, object, bool]]) -> None:
    check(steps)


@pytest.mark.usefixtures("crowded")
def test_the_same_holds_when_files_split_and_streams_are_many() -> None:
    @given(steps=actions)
    @settings(max_examples=25 * ROUNDS, deadline=None)
    def run(steps: list[tuple[str, object, bool]]) -> None:
        check(steps)

    run()


def check(steps: list[tuple[str, object, bool]]) -> None:
    with lake() as world:
        play(world, steps)
        reader = ColdReader(world.cold)
        for file in world.files:
            assert verify(file, world.cold) == []
        frames = list(reader.rows(world.records, None, Span(), METRICS))
        assert sorted(row for frame in frames for row in plain(frame, METRICS)) == bits(world.expected)
        for gpu in GPUS:
            # By their names only those can be asked for that are not a record's own columns.
            mine = [(g, time, omit(values, "timestamp")) for g, time, values in bits(world.expected) if g == gpu]
            names = [name for name in METRICS if name != "timestamp"]
            forward = list(reader.records(world.records, gpu, Span(), names))
            assert [row for frame in forward for row in plain(frame, names, gpu)] == mine
            back = list(reader.records(world.records, gpu, Span(), newest_first=True))
            assert [row for frame in back for row in plain(frame, names, gpu)] == mine[::-1]


@given(
    rows=st.lists(batches, min_size=1, max_size=3),
    span=st.tuples(times, times),
    gpus=st.one_of(st.none(), st.sets(st.sampled_from(GPUS))),
    width_us=st.sampled_from([MINUTE_US, HOUR_US, 7 * HOUR_US]),
)
@settings(max_examples=40 * ROUNDS, deadline=None)
def test_aggregates_are_those_of_the_records_in_the_span(
    rows: list[list[Row]], span: tuple[int, int], gpus: set[str] | None, width_us: int
) -> None:
    with lake() as world:
        for batch in rows:
            world.run(world.segment(batch))
        start, end = min(span), max(span) + 1
        steps = Steps.over(start, end, width_us)
        reader = ColdReader(world.cold)
        asked = Span(start, end)
        found = reader.partials(world.records, gpus, asked, steps, METRICS)
        compare(found, world, lambda gpu, time: start <= time < end and (gpus is None or gpu in gpus), steps)


@given(rows=batches, start=times, level=st.sampled_from([Level.MINUTE_ROLLUP, Level.HOUR_ROLLUP]))
@settings(max_examples=40 * ROUNDS, deadline=None)
def test_roll_ups_answer_as_the_records_do(rows: list[Row], start: int, level: Level) -> None:
    with lake() as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "MINUTE_RECORDS_MIN", 0)
        world.run(world.segment(rows))
        width = level.width_us
        steps = Steps.over(start, MIDNIGHT_US + 2 * DAY_US, width * 3)
        span = Span(-(-start // width) * width, None)
        files = [file for file in world.files if file.level is level]
        found = ColdReader(world.cold).rollup_partials(files, None, span, steps, METRICS)
        compare(found, world, lambda _, time: time >= (span.start_us or 0), steps, exact_instants=False)


def compare(
    found: pl.DataFrame, world: Lake, wanted: Callable[[str, int], bool], steps: Steps, *, exact_instants: bool = True
) -> None:
    expected: dict[tuple[str, int], dict[str, list[tuple[int, float]]]] = {}
    for (gpu, time), metrics in sorted(world.expected.items()):
        if wanted(gpu, time):
            step = expected.setdefault((gpu, (time - steps.start_us) // steps.width_us), {})
            for name, value in metrics.items():
                step.setdefault(name, []).append((time, value))
    assert sorted(found.select("gpu", "step").rows()) == sorted(expected)
    for row in found.iter_rows(named=True):
        for place, name in enumerate(METRICS):
            samples = expected[row["gpu"], row["step"]].get(name, [])
            assert row[f"{place}:count"] == len(samples)
            if not samples:
                assert [row[f"{place}:{part}"] for part in ("min", "max", "sum", "last", "last_us")] == [None] * 5
                continue
            numbers = [value for _, value in samples]
            assert (row[f"{place}:min"], row[f"{place}:max"]) == (min(numbers), max(numbers))
            assert row[f"{place}:last"] == numbers[-1]
            assert row[f"{place}:last_us"] == samples[-1][0] or not exact_instants
            if math.isfinite(total := sum(numbers)) and math.isfinite(row[f"{place}:sum"]):
                assert math.isclose(row[f"{place}:sum"], total, rel_tol=1e-9, abs_tol=1e-9 * sum(map(abs, numbers)))


def test_partial_results_over_different_records_add_up(tmp_path: Path) -> None:
    world = Lake(tmp_path)
    first = world.run(world.segment([("g", NOON_US, {"x": 1.0}), ("g", NOON_US + 1, {"x": 5.0})])).files
    later = world.run(world.segment([("g", NOON_US + HOUR_US, {"x": -3.0, "power": 2.0})])).files
    reader = ColdReader(world.cold)
    steps = Steps.over(NOON_US, NOON_US + 2 * HOUR_US, 2 * HOUR_US)
    parts = [reader.partials([files[0]], None, Span(), steps, ["x", "power"]) for files in (later, first)]
    row = combine_partials(parts, 2).row(0, named=True)
    assert [row[f"0:{name}"] for name in ("min", "max", "sum", "count", "last")] == [-3.0, 5.0, 3.0, 3, -3.0]
    assert [row[f"1:{name}"] for name in ("min", "max", "sum", "count", "last")] == [2.0, 2.0, 2.0, 1, 2.0]
