"""What could not be stored is kept, in files of bounded size, and nothing of it twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry.storage import files
from telemetry.storage.checkpoint import Checkpoint
from telemetry.storage.quarantine import NAME, Extent, Quarantine, closed_files
from telemetry.storage.store import Batch, StoreError
from telemetry.storage.tiered import TieredStore
from telemetry.storage.upkeep.backup import backup
from telemetry.storage.upkeep.check import check

KIB = 1024


def line(number: int) -> bytes:
    return b'{"number":"%03d","padding":"%s"}' % (number, b"x" * 68)


def batch(*numbers: int) -> Batch:
    return Batch(quarantine=[line(number) for number in numbers])


@contextmanager
def opened(folder: Path) -> Iterator[TieredStore]:
    """A store whose quarantine has 16 files of about a KiB, ten lines."""
    store = TieredStore(folder, quarantine_bytes=16 * KIB)
    try:
        yield store
    finally:
        store.close()


def kept(folder: Path) -> list[bytes]:
    names = [f"quarantine.{number}.jsonl" for number, _ in sorted(closed_files(folder))]
    paths = [folder / name for name in names] + [folder / NAME]
    return [each for path in paths if path.exists() for each in path.read_bytes().splitlines()]


def test_lines_are_kept_in_order_over_files_and_starts(tmp_path: Path) -> None:
    for start in range(0, 60, 20):
        with opened(tmp_path) as store:
            for number in range(start, start + 20):
                store.commit(batch(number))
    assert kept(tmp_path) == [line(number) for number in range(60)]
    assert len(list(closed_files(tmp_path))) >= 5


def test_the_oldest_files_go_when_there_is_too_much(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(400):
            store.commit(batch(number))
        stats = store.stats()
    lines = kept(tmp_path)
    assert lines == [line(number) for number in range(400 - len(lines), 400)]
    assert 14 * KIB < sum(len(each) + 1 for each in lines) <= 16 * KIB
    assert stats.quarantine_bytes == sum(len(each) + 1 for each in lines)
    assert stats.quarantine_bytes + stats.quarantine_dropped_bytes == 400 * (len(line(0)) + 1)


def test_lines_are_on_disk_with_their_names_before_anything_vouches_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, bool]] = []
    sync, commit = files.sync_files, Checkpoint.commit

    def synced(directory: Path, paths: Sequence[Path], *, with_directory: bool) -> None:
        events.extend((path.name, with_directory) for path in paths)
        sync(directory, paths, with_directory=with_directory)

    def committed(*arguments: Any) -> None:
        events.append(("commit", False))
        commit(*arguments)

    monkeypatch.setattr(files, "sync_files", synced)
    monkeypatch.setattr(Checkpoint, "commit", committed)
    with opened(tmp_path) as store:
        for number in range(12):
            store.commit(batch(number))
    assert len(list(closed_files(tmp_path))) == 1
    with_name = [place for place, event in enumerate(events) if event == (NAME, True)]
    assert len(with_name) == 2
    assert [name for name, _ in events] == [NAME, "commit"] * 12


@pytest.mark.parametrize("lost", ["before", "after"])
def test_what_no_checkpoint_vouches_for_never_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """A crash after the file was closed, before the transaction; and the same batch again, with a store that lives."""

    def commit(*_: object) -> None:
        raise StoreError("a crash")

    with opened(tmp_path) as store:
        for number in range(11):
            store.commit(batch(number))
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "commit", commit)
            with pytest.raises(StoreError):
                store.commit(batch(11, 12))
        assert (tmp_path / "quarantine.0.jsonl").exists()
        if lost == "before":
            store.commit(batch(11, 12))
    with opened(tmp_path) as store:
        if lost == "after":
            assert kept(tmp_path) == [line(number) for number in range(11)]
            store.commit(batch(11, 12))
    assert kept(tmp_path) == [line(number) for number in range(13)]


def test_examination_and_backup_know_a_file_that_was_closed_and_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"

    def commit(*_: object) -> None:
        raise StoreError("a crash")

    with opened(data) as store:
        for number in range(22):
            store.commit(batch(number))
        monkeypatch.setattr(Checkpoint, "commit", commit)
        with pytest.raises(StoreError):
            store.commit(batch(99))
    monkeypatch.undo()
    assert check(data).is_sound
    backup(data, copy)
    assert kept(copy) == [line(number) for number in range(22)]
    assert check(data, repair=True).is_sound
    assert kept(data) == [line(number) for number in range(22)]
    assert check(data).problems == []


def closed_name_of(folder: Path, number: int) -> Path:
    return folder / f"quarantine.{number}.jsonl"


def filled(folder: Path, count: int = 60) -> Path:
    with opened(folder) as store:
        for number in range(count):
            store.commit(batch(number))
    return folder


def problems(folder: Path) -> list[tuple[str, str, bool]]:
    return [(each.path, each.what, each.is_damage) for each in check(folder).problems]


def test_examination_looks_at_every_file_of_the_quarantine(tmp_path: Path) -> None:
    assert problems(filled(tmp_path)) == []
    path = closed_name_of(tmp_path, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"edited\n", *lines[2:-1], lines[-1][:20]]))
    last = len(path.read_bytes()) - 20
    closed_name_of(tmp_path, 2).unlink()
    closed_name_of(tmp_path, 3).unlink()
    (tmp_path / NAME).write_bytes(b"\0" * (tmp_path / NAME).stat().st_size)
    assert problems(tmp_path) == [
        ("quarantine.2.jsonl", "it is missing, and so are the 1 after it", True),
        ("quarantine.1.jsonl", f"2 lines are no entries (at byte {len(lines[0])}, {last})", True),
        (NAME, "1 line is no entry (at byte 0)", True),
    ]
    with opened(tmp_path):
        assert not check(tmp_path).is_sound


def test_files_of_the_quarantine_that_an_older_checkpoint_does_not_know_make_room_for_new_ones(tmp_path: Path) -> None:
    data, copy = filled(tmp_path / "data", 25), tmp_path / "copy"
    backup(data, copy)
    filled(data, 60)
    (data / "checkpoint.sqlite").write_bytes((copy / "checkpoint.sqlite").read_bytes())
    for name in ("checkpoint.sqlite-wal", "checkpoint.sqlite-shm"):
        (data / name).unlink(missing_ok=True)
    stray = [each for each in problems(data) if "no checkpoint vouches" in each[1]]
    assert stray
    assert not any(is_damage for _, _, is_damage in stray)
    with opened(data) as store:
        for number in range(100, 130):
            store.commit(batch(number))
        assert store.stats().quarantine_bytes == sum(len(each) + 1 for each in kept(data))
    assert kept(data)[-30:] == [line(number) for number in range(100, 130)]
    assert check(data).is_sound


def test_lines_that_are_missing_are_reported_and_what_comes_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as store:
        store.commit(batch(1, 2))
    (tmp_path / NAME).unlink()
    with opened(tmp_path) as store:
        assert "lines are missing" in caplog.text
        store.commit(batch(3))
    with opened(tmp_path) as store:
        store.commit(batch(4))
    assert kept(tmp_path) == [line(3), line(4)]


def test_what_is_left_of_a_line_that_was_cut_by_hand_spoils_no_other(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-30])
    assert "it lacks" in check(tmp_path).problems[0].what
    with opened(tmp_path) as store:
        store.commit(batch(3))
    assert kept(tmp_path) == [line(0), line(1)[:-29], line(3)]
    path.write_bytes(path.read_bytes()[:-30])
    repaired = check(tmp_path, repair=True).problems
    assert [(each.remedy, each.repaired) for each in repaired if "lacks" in each.what] == [
        ("take the lines in it as lost", True)
    ]
    assert all("no entr" in each.what for each in check(tmp_path).problems)


def test_a_line_cut_short_by_a_crash_is_removed(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, Extent(0, 0), synced=True)
    extent = quarantine.write(b"one\n")
    quarantine.apply(extent)
    quarantine.write(b"tw")
    assert Quarantine(tmp_path, extent, synced=True).size == 4
    assert (tmp_path / NAME).read_bytes() == b"one\n"
