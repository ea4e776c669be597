"""The quarantine is read where it lies, whatever the collector does meanwhile, and what was retried stays known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage.quarantine import NAME, RETRIED
from telemetry.storage.quarantined import Retries, Retry, entries
from telemetry.storage.store import Batch
from telemetry.storage.tiered import TieredStore

KIB = 1024


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TieredStore]:
    """A quarantine with 16 files of about a KiB, ten lines."""
    opened = TieredStore(tmp_path, quarantine_bytes=16 * KIB, synced=False)
    yield opened
    opened.close()


def put(store: TieredStore, first: int, last: int) -> None:
    for number in range(first, last):
        store.commit(Batch(quarantine=[json.dumps({"reason": f"{number:03d}", "raw": "x" * 75}).encode()]))


def numbers(found: Iterator[object]) -> list[int]:
    return [int(entry.reason) for entry in found]  # type: ignore[attr-defined]


def test_whoever_reads_sees_what_was_committed_when_they_began_less_what_was_dropped(
    tmp_path: Path, store: TieredStore
) -> None:
    put(store, 0, 35)
    before = {entry.id: int(entry.reason) for entry in entries(tmp_path)}
    assert list(before.values()) == list(range(35))
    reading = entries(tmp_path)
    assert int(next(reading).reason) == 0
    put(store, 35, 60)
    # The file that grew at that time has been closed, others have been closed after it.
    assert {entry.id: int(entry.reason) for entry in reading} == {name: n for name, n in before.items() if n}
    reading = entries(tmp_path)
    assert int(next(reading).reason) == 0
    put(store, 60, 400)
    # The rest of the file that is open, and the one that grew; all between them have been dropped.
    left = numbers(reading)
    assert left == [*range(1, left.index(50) + 1), *range(50, 60)]
    assert numbers(entries(tmp_path))[-100:] == list(range(300, 400))


def test_what_is_not_committed_is_not_read(tmp_path: Path, store: TieredStore) -> None:
    put(store, 0, 3)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"reason":"900"}\n')
    assert numbers(entries(tmp_path)) == [0, 1, 2]


def test_what_was_retried_is_known_until_its_file_has_gone(tmp_path: Path, store: TieredStore) -> None:
    put(store, 0, 35)
    done = [(entry, Retry("now", f"telemetry/0@{entry.reason}")) for entry in entries(tmp_path)]
    with Retries(tmp_path).alone() as retries:
        retries.add(done[:20])
        retries.add(done[20:])
    known = Retries(tmp_path)
    assert [known.find(entry) for entry, _ in done] == [retry for _, retry in done]
    put(store, 35, 170)
    with Retries(tmp_path).alone() as retries:
        left = [int(entry.reason) for entry in entries(tmp_path) if retries.find(entry)]
        assert left
        assert left == list(range(left[0], 35))
        with pytest.raises(DataDirectoryError, match="another retry is at work"), Retries(tmp_path).alone():
            pass
    assert (tmp_path / RETRIED).read_bytes().count(b"\n") == len(left)
    with Retries(tmp_path).alone():
        pass


def test_a_note_cut_short_by_a_crash_costs_no_other(tmp_path: Path, store: TieredStore) -> None:
    put(store, 0, 3)
    one, two, three = entries(tmp_path)
    with Retries(tmp_path).alone() as retries:
        retries.add([(one, Retry("then", "telemetry/0@1")), (two, Retry("then", "telemetry/0@2"))])
    path = tmp_path / RETRIED
    path.write_bytes(path.read_bytes()[:-9])
    with Retries(tmp_path).alone() as retries:
        assert retries.find(two) is None
        retries.add([(three, Retry("now", "telemetry/0@3"))])
    known = Retries(tmp_path)
    assert [known.find(entry) is not None for entry in (one, two, three)] == [True, False, True]


def test_a_line_that_was_edited_is_another_one(tmp_path: Path, store: TieredStore) -> None:
    put(store, 0, 2)
    first, _ = entries(tmp_path)
    with Retries(tmp_path).alone() as retries:
        retries.add([(first, Retry("now", "telemetry/0@1"))])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes().replace(b"xxx", b"yyy", 1))
    edited, other = entries(tmp_path)
    known = Retries(tmp_path)
    assert edited.id == first.id
    assert (known.find(first) is not None, known.find(edited), known.find(other)) == (True, None, None)
