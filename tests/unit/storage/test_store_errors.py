"""A disk that fails or turns read-only while the store is open: it says so, serves what it can, and goes on later."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from telemetry.storage.plan import Plan
from telemetry.storage.series import Aggregation
from telemetry.storage.store import Batch, Position, StoreError, TopicPartition
from telemetry.storage.tiered import TieredStore
from telemetry.storage.upkeep.check import check
from tests.unit.storage.naive import Row
from tests.unit.storage.rounds import BASE_US, SECOND_US, frame, records, series

GPUS = ("a", "b", "c")
PARTITION = TopicPartition("telemetry", 0)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def rows(first: int, last: int) -> list[Row]:
    return [(gpu, BASE_US + second * SECOND_US, {"x": float(second)}) for second in range(first, last) for gpu in GPUS]


def batch(first: int, last: int) -> Batch:
    return Batch([frame(rows(first, last))], [b'{"reason":"bad"}'], {PARTITION: Position(1, last)})


def seconds(store: TieredStore, gpu: str) -> list[int]:
    return [(time - BASE_US) // SECOND_US for time, _ in records(store, gpu)]


@contextmanager
def failing(name: str, number: int, is_meant: Callable[..., bool] = lambda *_: True) -> Iterator[None]:
    """Calls of the operating system fail."""
    original = getattr(os, name)

    def call(*arguments: Any, **more: Any) -> Any:
        if is_meant(*arguments):
            path = arguments[0] if isinstance(arguments[0], str | os.PathLike) else None
            raise OSError(number, os.strerror(number), path)
        return original(*arguments, **more)

    with mock.patch.object(os, name, call):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TieredStore]:
    opened = TieredStore(tmp_path, cache_entries=0)
    yield opened
    opened.close()


def writes(_: object, flags: int, *__: object) -> bool:
    return bool(flags & WRITING)


WAYS: dict[str, tuple[Callable[[], AbstractContextManager[None]], str]] = {
    "writing fails": (lambda: failing("pwrite", errno.EIO), "Input/output error"),
    "syncing fails": (lambda: failing("fsync", errno.EIO), "Input/output error"),
    "read-only": (lambda: failing("open", errno.EROFS, writes), "Read-only file system"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_written_is_not_stored_and_all_else_is_served(
    tmp_path: Path, store: TieredStore, way: str
) -> None:
    disk_fails, message = WAYS[way]
    store.commit(batch(0, 5))
    with disk_fails():
        for _ in range(3):
            with pytest.raises(StoreError, match=message) as caught:
                store.commit(batch(5, 10))
            assert not caught.value.full
        assert store.positions() == {PARTITION: Position(1, 5)}
        for gpu in GPUS:
            assert seconds(store, gpu) == list(range(5))
    store.commit(batch(5, 10))
    store.close()
    assert check(tmp_path).problems == []
    reopened = TieredStore(tmp_path)
    assert [seconds(reopened, gpu) for gpu in GPUS] == [list(range(10))] * 3
    assert (tmp_path / "quarantine.jsonl").read_bytes() == b'{"reason":"bad"}\n' * 2
    reopened.close()


def test_a_file_that_cannot_be_read_costs_its_gpu_only_and_stops_no_commit(tmp_path: Path, store: TieredStore) -> None:
    store.commit(batch(0, 5))
    bad = tmp_path / "hot" / "b.jsonl"
    span = (BASE_US, BASE_US + 60 * SECOND_US)
    with failing("open", errno.EIO, lambda path, *more: Path(path) == bad and not writes(path, *more)):
        with pytest.raises(StoreError, match=r"b\.jsonl cannot be read: Input/output error"):
            records(store, "b")
        assert [seconds(store, gpu) for gpu in "ac"] == [list(range(5))] * 2
        plan = Plan()
        counts = series(store, GPUS, span, 60 * SECOND_US, Aggregation.COUNT, plan=plan)
        assert counts == {"a": {0: 5.0}, "b": {}, "c": {0: 5.0}}
        assert len(plan.warnings) == 1
        assert "GPU b" in plan.warnings[0]
    # Some of this is there already, which the store cannot see now.
    with failing("pread", errno.EIO):
        store.commit(Batch([frame(rows(3, 8))]))
    assert [seconds(store, gpu) for gpu in GPUS] == [list(range(8))] * 3
    counts = series(store, GPUS, span, 60 * SECOND_US, Aggregation.COUNT)
    assert counts == {gpu: {0: 8.0} for gpu in GPUS}
