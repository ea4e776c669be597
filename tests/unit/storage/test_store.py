"""What the hot store promises: one sample for a GPU, metric and instant, whatever comes in and whenever it dies."""

from __future__ import annotations

import errno
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage import files, growth
from telemetry.storage.store import Batch, Position, Span, StoreError, TopicPartition
from telemetry.storage.tiered import TieredStore

BASE_US = 1_767_225_600_000_000
SECOND_US = 1_000_000
Row = tuple[str, int, Mapping[str, float | None]]


def frame(*rows: Row, **labels: str) -> pl.DataFrame:
    """Records from (gpu, second, metrics)."""
    names = sorted({name for _, _, metrics in rows for name in metrics})
    columns: dict[str, pl.Series] = {
        "timestamp": pl.Series([BASE_US + second * SECOND_US for _, second, _ in rows]).cast(pl.Datetime("us", "UTC")),
        "gpu": pl.Series([gpu for gpu, _, _ in rows], dtype=pl.String),
    }
    for name in names:
        columns[name] = pl.Series([metrics.get(name) for _, _, metrics in rows], dtype=pl.Float64)
    return pl.DataFrame(columns).with_columns(pl.lit(value).alias(name) for name, value in labels.items())


def stored(store: TieredStore, gpu: str, span: Span | None = None, *, newest_first: bool = False) -> list[Row]:
    """A GPU's records as (gpu, second, metrics that it has)."""
    rows: list[Row] = []
    for piece in store.records(gpu, span or Span(), newest_first=newest_first):
        for row in piece.to_dicts():
            second = (int(row.pop("timestamp").timestamp() * 1e6) - BASE_US) // SECOND_US
            rows.append((gpu, second, {name: value for name, value in row.items() if value is not None}))
    return rows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TieredStore]:
    opened = TieredStore(tmp_path)
    yield opened
    opened.close()


def test_a_line_holds_exactly_gpu_metrics_and_timestamp(tmp_path: Path, store: TieredStore) -> None:
    records = frame(("g/0", 0, {"temperature": 60.0, "power_draw": None}), host="node-1")
    store.commit(Batch([records]))
    line = (tmp_path / "hot" / "g%2f0.jsonl").read_text()
    assert json.loads(line) == {
        "gpu_id": "g/0",
        "metrics": {"temperature": 60.0},
        "timestamp": "2026-01-01T00:00:00.000000Z",
    }
    assert line.endswith("}\n")


def test_values_that_are_not_finite_say_nothing(store: TieredStore) -> None:
    store.commit(Batch([frame(("a", 0, {"x": float("nan"), "y": float("inf"), "z": 1.0}))]))
    assert stored(store, "a") == [("a", 0, {"z": 1.0})]


def test_metrics_named_like_columns_of_ours_are_kept_apart(store: TieredStore) -> None:
    metrics: dict[str, float | None] = {"line": 1.0, "0": 2.0, "min0": 3.0, ":known": 4.0, 'a"\n': 5.0, "metrics": 6.0}
    store.commit(Batch([frame(("a", 0, metrics))]))
    store.commit(Batch([frame(("a", 0, metrics), ("a", 1, metrics))]))
    assert stored(store, "a") == [("a", 0, metrics), ("a", 1, metrics)]


def test_the_same_records_again_are_nothing_new(tmp_path: Path, store: TieredStore) -> None:
    records = frame(("a", 0, {"x": 1.0}), ("b", 0, {"x": 2.0}), ("a", 1, {"x": 3.0}))
    first = store.commit(Batch([records]))
    size = store.stats().stored_bytes
    second = store.commit(Batch([records]))
    assert (first.records, first.samples, first.duplicates) == (3, 3, 0)
    assert (second.records, second.samples, second.duplicates, second.conflicts) == (0, 0, 3, 0)
    assert store.stats().stored_bytes == size == sum(path.stat().st_size for path in (tmp_path / "hot").iterdir())


def test_the_same_record_twice_in_one_batch_is_stored_once(store: TieredStore) -> None:
    outcome = store.commit(Batch([frame(("a", 0, {"x": 1.0})), frame(("a", 0, {"x": 1.0}))]))
    assert (outcome.records, outcome.duplicates) == (1, 1)


def test_of_two_values_for_one_instant_the_later_in_the_queue_wins_and_is_counted(store: TieredStore) -> None:
    store.commit(Batch([frame(("a", 0, {"x": 1.0, "y": 1.0}), ("a", 1, {"x": 1.0}))]))
    outcome = store.commit(Batch([frame(("a", 0, {"x": 2.0, "y": 1.0}))]))
    assert (outcome.records, outcome.samples, outcome.duplicates, outcome.conflicts) == (1, 1, 0, 1)
    assert stored(store, "a") == [("a", 0, {"x": 2.0, "y": 1.0}), ("a", 1, {"x": 1.0})]


def test_a_value_that_returns_wins_again(store: TieredStore) -> None:
    for value in (1.0, 2.0, 1.0):
        store.commit(Batch([frame(("a", 0, {"x": value}))]))
    assert stored(store, "a") == [("a", 0, {"x": 1.0})]


def test_records_of_one_instant_are_one_record(store: TieredStore) -> None:
    store.commit(Batch([frame(("a", 0, {"x": 1.0})), frame(("a", 0, {"y": 2.0}))]))
    store.commit(Batch([frame(("a", 0, {"z": 3.0}))]))
    assert stored(store, "a") == [("a", 0, {"x": 1.0, "y": 2.0, "z": 3.0})]


def test_late_records_are_read_in_order_of_time(store: TieredStore) -> None:
    store.commit(Batch([frame(*(("a", second, {"x": float(second)}) for second in range(10, 20)))]))
    store.commit(Batch([frame(*(("a", second, {"x": float(second)}) for second in range(5)))]))
    assert [second for _, second, _ in stored(store, "a")] == [*range(5), *range(10, 20)]
    assert [second for _, second, _ in stored(store, "a", newest_first=True)] == [*range(19, 9, -1), *range(4, -1, -1)]


def test_a_span_is_half_open(store: TieredStore) -> None:
    store.commit(Batch([frame(*(("a", second, {"x": 1.0}) for second in range(5)))]))
    span = Span(BASE_US + SECOND_US, BASE_US + 3 * SECOND_US)
    assert [second for _, second, _ in stored(store, "a", span)] == [1, 2]


def test_reading_is_the_same_with_and_without_memory_and_over_many_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "BLOCK_BYTES", 500)
    seconds = [*range(100, 200), *range(50), *range(150, 160), *range(300, 320), *range(40, 120)]
    answers = []
    for number, entries in enumerate((0, 7, 10_000)):
        store = TieredStore(tmp_path / str(number), cache_entries=entries)
        for first in range(0, len(seconds), 9):
            rows = [("a", second, {"x": second + first / 1000}) for second in seconds[first : first + 9]]
            store.commit(Batch([frame(*rows)]))
        spans = [None, Span(BASE_US + 45 * SECOND_US, BASE_US + 155 * SECOND_US), Span(BASE_US + 310 * SECOND_US)]
        answers.append([stored(store, "a", span, newest_first=newest) for span in spans for newest in (False, True)])
        assert store.stats().cached_records <= entries
        store.close()
    expected = {second: second + (place // 9 * 9) / 1000 for place, second in enumerate(seconds)}
    assert answers[0][0] == [("a", second, {"x": expected[second]}) for second in sorted(expected)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][1] == answers[0][0][::-1]
    assert [second for _, second, _ in answers[0][2]] == [*range(45, 50), *range(50, 155)][:110]


def test_what_no_checkpoint_vouches_for_never_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = TopicPartition("telemetry", 3)
    store = TieredStore(tmp_path)
    store.commit(Batch([frame(("a", 0, {"x": 1.0}))], [b"{}"], {partition: Position(1, 10)}))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    unlucky = Batch([frame(("a", 1, {"x": 1.0}), ("new", 1, {"x": 1.0}))], [b"{}"], {partition: Position(1, 20)})
    with monkeypatch.context() as patch:
        patch.setattr(store._checkpoint, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            store.commit(unlucky)
    assert (tmp_path / "hot" / "new.jsonl").exists()
    store.close()

    store = TieredStore(tmp_path)
    assert store.positions() == {partition: Position(1, 10)}
    assert stored(store, "a") == [("a", 0, {"x": 1.0})]
    assert [gpu.gpu for gpu in store.gpus()] == ["a"]
    assert not (tmp_path / "hot" / "new.jsonl").exists()
    assert (tmp_path / "hot" / "a.jsonl").read_bytes().count(b"\n") == 1
    assert (tmp_path / "quarantine.jsonl").read_bytes() == b"{}\n"
    assert store.commit(unlucky).records == 2
    assert stored(store, "a") == [("a", 0, {"x": 1.0}), ("a", 1, {"x": 1.0})]
    store.close()


@pytest.mark.parametrize("fails_in", ["write_at", "sync_files"])
def test_a_full_disk_stores_nothing_and_the_batch_can_be_tried_again(
    tmp_path: Path, store: TieredStore, monkeypatch: pytest.MonkeyPatch, fails_in: str
) -> None:
    batch = Batch([frame(("a", 0, {"x": 1.0}), ("b", 0, {"x": 1.0}))], [b"bad"])
    attempts = 0

    def no_space(*arguments: object, with_directory: bool = False) -> None:
        nonlocal attempts
        attempts += 1
        if fails_in == "write_at" and attempts == 1:
            path, _, data = arguments
            assert isinstance(path, Path)
            assert isinstance(data, bytes)
            path.write_bytes(data[:5])
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(files, fails_in, no_space)
        with pytest.raises(StoreError, match="somewhere: No space left") as caught:
            store.commit(batch)
    assert caught.value.full
    assert store.gpus() == []
    assert store.commit(batch).records == 2
    assert stored(store, "a") == [("a", 0, {"x": 1.0})]
    assert (tmp_path / "quarantine.jsonl").read_bytes() == b"bad\n"


def test_without_syncing_what_was_committed_survives_the_death_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sync(*arguments: object, with_directory: bool = False) -> None:
        raise AssertionError("synced")

    monkeypatch.setattr(files, "sync_files", no_sync)
    store = TieredStore(tmp_path, synced=False)
    store.commit(Batch([frame(("a", 0, {"x": 1.0}))], [b"bad"], {TopicPartition("telemetry", 0): Position(1, 5)}))
    other = TieredStore(tmp_path, synced=False)
    assert stored(other, "a") == [("a", 0, {"x": 1.0})]
    assert other.positions() == {TopicPartition("telemetry", 0): Position(1, 5)}
    other.close()
    store.close()


def test_what_is_known_of_a_gpu_survives_a_restart(tmp_path: Path) -> None:
    store = TieredStore(tmp_path)
    store.commit(Batch([frame(("a", 5, {"x": 1.0, "y": 2.0}), host="node-1"), frame(("a", 9, {"x": 3.0}), pod="p")]))
    store.commit(Batch([frame(("a", 7, {"x": 9.0, "y": 4.0}))]))
    before = store.find("a")
    store.close()
    store = TieredStore(tmp_path)
    assert store.find("a") == before
    assert before is not None
    assert before.labels == {"host": "node-1", "pod": "p"}
    assert (before.first_us, before.last_us) == (BASE_US + 5 * SECOND_US, BASE_US + 9 * SECOND_US)
    assert before.latest == {"x": (BASE_US + 9 * SECOND_US, 3.0), "y": (BASE_US + 7 * SECOND_US, 4.0)}
    assert store.stats().cached_records == 3
    store.close()


def test_changes_tell_the_live_view_last_smallest_largest_and_new_labels(store: TieredStore) -> None:
    rows: list[Row] = [("a", second, {"x": value}) for second, value in enumerate([5.0, 9.0, 1.0, 4.0])]
    (change,) = store.commit(Batch([frame(*rows, host="n")])).changes
    assert (change.gpu, change.newest_us, change.advanced) == ("a", BASE_US + 3 * SECOND_US, True)
    assert change.values == {"x": (4.0, 1.0, 9.0)}
    assert change.labels == {"host": "n"}
    (change,) = store.commit(Batch([frame(("a", 4, {"x": 7.0}), host="n")])).changes
    assert change.labels is None
    (change,) = store.commit(Batch([frame(("a", -4, {"x": 7.0}), host="n")])).changes
    assert not change.advanced


def test_a_missing_checkpoint_beside_records_is_refused(tmp_path: Path) -> None:
    store = TieredStore(tmp_path)
    store.commit(Batch([frame(("a", 0, {"x": 1.0}))]))
    store.close()
    (tmp_path / "checkpoint.sqlite").unlink()
    with pytest.raises(DataDirectoryError, match=r"checkpoint\.sqlite is missing"):
        TieredStore(tmp_path)


@pytest.mark.parametrize("lost", [30, 100_000])
def test_a_file_that_lost_its_end_is_reported_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lost: int
) -> None:
    monkeypatch.setattr(growth, "BLOCK_BYTES", 300)
    store = TieredStore(tmp_path)
    for second in range(20):
        store.commit(Batch([frame(("a", second, {"x": 1.0}))]))
    store.close()
    path = tmp_path / "hot" / "a.jsonl"
    size = path.stat().st_size
    if lost < size:
        path.write_bytes(path.read_bytes()[:-lost])
    else:
        path.unlink()
    store = TieredStore(tmp_path)
    assert "records are missing" in caplog.text
    kept = [second for _, second, _ in stored(store, "a")]
    assert kept == (list(range(19)) if lost < size else [])
    store.commit(Batch([frame(("a", 30, {"x": 1.0}))]))
    assert [second for _, second, _ in stored(store, "a")] == [*kept, 30]
    store.close()


def test_damage_within_a_file_costs_only_the_damaged_lines(tmp_path: Path) -> None:
    store = TieredStore(tmp_path, cache_entries=0)
    store.commit(Batch([frame(*(("a", second, {"x": 1.0}) for second in range(5)))]))
    path = tmp_path / "hot" / "a.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"\0" * len(lines[2])
    path.write_bytes(b"\n".join(lines))
    assert [second for _, second, _ in stored(store, "a")] == [0, 1, 3, 4]
    store.close()


def test_what_a_store_holds_can_be_asked_while_gpus_are_new(tmp_path: Path) -> None:
    # Threads take turns all the time.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    store = TieredStore(tmp_path, synced=False)
    asked = ThreadPoolExecutor(1)
    done = threading.Event()

    def ask() -> int:
        files = 0
        while not done.is_set():
            files = store.stats().tiers["hot"].files
        return files

    try:
        asking = asked.submit(ask)
        for first in range(0, 1_800, 300):
            store.commit(Batch([frame(*((f"g{first + place}", 0, {"x": 1.0}) for place in range(300)))]))
        done.set()
        assert asking.result() <= 1_800
    finally:
        done.set()
        sys.setswitchinterval(before)
        asked.shutdown()
        store.close()


def test_times_keep_their_microseconds(store: TieredStore) -> None:
    instant = datetime(2026, 3, 4, 5, 6, 7, 891234, UTC)
    records = pl.DataFrame({"timestamp": [instant], "gpu": ["a"], "x": [0.1 + 0.2]})
    store.commit(Batch([records.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))]))
    (piece,) = store.records("a", Span())
    assert piece.to_dicts() == [{"timestamp": instant, "x": 0.1 + 0.2}]
