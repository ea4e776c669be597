"""Check, repair, backup and restore of a data directory, through the command that people use."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from telemetry.cli.store import store as command
from telemetry.runtime.datadir import DataDirectoryLock
from telemetry.storage.cold.files import HOUR_US
from telemetry.storage.cold.job import Job, run_job
from telemetry.storage.store import Batch, Position, Span, TopicPartition
from telemetry.storage.tiered import TieredStore
from telemetry.storage.upkeep.catalogue import Catalogue, snapshot
from tests.unit.storage_cold.lake import MIDNIGHT_US, NOON_US

SECOND_US = 1_000_000


def batch(start_us: int, rows: int, offset: int) -> Batch:
    times = pl.Series([start_us + row * SECOND_US for row in range(rows)]).cast(pl.Datetime("us", "UTC"))
    frames = [
        pl.DataFrame({"timestamp": times, "gpu": [gpu] * rows, "x": [float(row) for row in range(rows)]})
        for gpu in ("GPU-a", "gpu-a", "../b")
    ]
    return Batch(frames, [b'{"reason":"bad"}'], {TopicPartition("telemetry", 0): Position(1, offset)})


def compact(store: TieredStore, directory: Path) -> None:
    """Close all segments and move them to the cold tier, as the collector does."""
    store.close_files(1 << 62)
    closed = store.closed()
    number = store.next_cold_number()
    result = run_job(Job(directory / "cold", [each.file for each in closed], [], number, NOON_US, 0))
    last = max(file.id for file in result.files)
    segments = [each.segment for each in closed]
    store.exchange(result.files, segments=segments, now_us=NOON_US, next_number=last + 1)
    store.sweep()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Hot and cold records of three GPUs, and a quarantine."""
    directory = tmp_path / "data"
    opened = TieredStore(directory, synced=False)
    opened.commit(batch(MIDNIGHT_US, 200, 1))
    compact(opened, directory)
    opened.commit(batch(NOON_US, 200, 2))
    opened.close()
    return directory


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def contents(directory: Path) -> dict[str, list[tuple[object, ...]]]:
    with DataDirectoryLock(directory):
        opened = TieredStore(directory)
        try:
            assert opened.positions() == {TopicPartition("telemetry", 0): Position(1, 2)}
            return {
                gpu.gpu: [row for frame in opened.records(gpu.gpu, Span()) for row in frame.iter_rows()]
                for gpu in opened.gpus()
            }
        finally:
            opened.close()


def cold_file(directory: Path, level: str = "hour") -> Path:
    return next((directory / "cold" / level).glob("*.parquet"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def test_a_sound_directory_has_no_damage_and_is_not_changed(directory: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*.parquet")}
    result = run("check", "--data-dir", directory)
    assert result.exit_code == 0, result.output
    assert "no damage" in result.output
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*.parquet")} == before


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (lambda folder: flip(cold_file(folder)), "its checksum is wrong"),
    "a missing cold file": (lambda folder: cold_file(folder, "1h").unlink(), "it is missing"),
    "a truncated hot file": (lambda folder: os.truncate(folder / "hot" / "%2e.%2fb.jsonl", 100), "it lacks"),
    "a missing hot file": (lambda folder: (folder / "hot" / "%2e.%2fb.jsonl").unlink(), "missing or empty"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_with_what_would_be_done_and_gone_after_the_repair(directory: Path, kind: str) -> None:
    harm, expected = DAMAGE[kind]
    harm(directory)
    checked = run("check", "--data-dir", directory)
    assert checked.exit_code == 1
    assert expected in checked.output
    assert "--repair would" in checked.output
    repaired = run("check", "--repair", "--data-dir", directory)
    assert repaired.exit_code == 0, repaired.output
    assert "repaired: " in repaired.output
    assert run("check", "--data-dir", directory).output.endswith("no damage\n")
    found = contents(directory)
    assert len(found["GPU-a"]) == (200 if kind == "a flipped bit" else 400)


def test_what_a_repair_takes_out_of_view_is_kept(directory: Path) -> None:
    path = cold_file(directory)
    flip(path)
    damaged = path.read_bytes()
    run("check", "--repair", "--data-dir", directory)
    assert (directory / "cold" / "damaged" / path.name).read_bytes() == damaged
    assert not path.exists()


def test_leftovers_are_no_damage_and_a_repair_removes_them(directory: Path) -> None:
    with (directory / "hot" / "%2e.%2fb.jsonl").open("ab") as file:
        file.write(b"never committed")
    stray = directory / "cold" / "day" / "2020-01-01.00000900.parquet"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"half")
    result = run("check", "--json", "--data-dir", directory)
    assert result.exit_code == 0
    told = json.loads(result.output)
    assert [(each["path"], each["damage"], each["remedy"]) for each in told["problems"]] == [
        ("hot/%2e.%2fb.jsonl", False, "cut them off"),
        ("cold/day/2020-01-01.00000900.parquet", False, "remove it"),
    ]
    run("check", "--repair", "--data-dir", directory)
    assert not stray.exists()
    assert len(contents(directory)["../b"]) == 400


def test_a_file_that_was_closed_just_before_a_crash_is_not_taken_for_lost(directory: Path) -> None:
    growing = directory / "hot" / "%2e.%2fb.jsonl"
    growing.rename(directory / "hot" / "%2e.%2fb+000001.jsonl")
    result = run("check", "--data-dir", directory)
    assert (result.exit_code, "let it grow again" in result.output) == (0, True), result.output
    assert run("check", "--repair", "--data-dir", directory).exit_code == 0
    assert growing.exists()
    assert len(contents(directory)["../b"]) == 400


def test_a_line_that_is_no_record_is_damage_that_stays(directory: Path) -> None:
    path = directory / "hot" / "%2e.%2fb.jsonl"
    data = path.read_bytes()
    path.write_bytes(b"\x00" * 10 + data[10:])
    result = run("check", "--repair", "--data-dir", directory)
    assert result.exit_code == 1
    assert "1 line is no record (at byte 0: " in result.output
    assert "nothing can be done about it here" in result.output


def test_while_a_collector_runs_it_can_be_checked_but_not_repaired(directory: Path) -> None:
    flip(cold_file(directory))
    with DataDirectoryLock(directory):
        checked = run("check", "--data-dir", directory)
        assert checked.exit_code == 1
        assert "while a collector is at work" in checked.output
        refused = run("check", "--repair", "--data-dir", directory)
    assert refused.exit_code == 1
    assert f"is in use by process {os.getpid()}" in refused.output


def test_what_is_no_data_directory_is_refused(tmp_path: Path) -> None:
    for result in (run("check", "--data-dir", tmp_path), run("backup", tmp_path / "to", "--data-dir", tmp_path)):
        assert (result.exit_code, "no collector's data directory" in result.output) == (1, True)
    assert not (tmp_path / "LOCK").exists()


def test_a_damaged_checkpoint_says_so(directory: Path) -> None:
    with (directory / "checkpoint.sqlite").open("r+b") as file:
        file.seek(0)
        file.write(b"\xff" * 5000)
    result = run("check", "--data-dir", directory)
    assert result.exit_code == 1
    assert "checkpoint.sqlite" in result.output


def test_a_restored_backup_holds_what_was_there(directory: Path, tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert run("backup", backup, "--data-dir", directory).exit_code == 0
    result = run("restore", backup, "--data-dir", restored, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["damaged"] == {}
    assert contents(restored) == contents(directory)
    assert (restored / "quarantine.jsonl").read_bytes() == (directory / "quarantine.jsonl").read_bytes()


def test_a_store_that_is_written_and_compacted_meanwhile_is_sound_and_its_backup_is_of_one_moment(
    directory: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    number = 0

    def work() -> None:
        nonlocal number
        with DataDirectoryLock(directory):
            opened = TieredStore(directory, synced=False, rotate_bytes=2000)
            while not stop.is_set():
                opened.commit(batch(NOON_US + (number + 1) * HOUR_US, 30, 2 + number + 1))
                number += 1
                if number % 3 == 0:
                    compact(opened, directory)
            opened.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for round_ in range(6):
            while number < 5 * (round_ + 1):
                worker.join(0.005)
                assert worker.is_alive()
            result = run("check", "--data-dir", directory)
            assert (result.exit_code, "while a collector is at work" in result.output) == (0, True), result.output
            backup, restored = tmp_path / f"backup-{round_}", tmp_path / f"restored-{round_}"
            result = run("backup", backup, "--data-dir", directory)
            assert result.exit_code == 0, result.output
            result = run("restore", backup, "--data-dir", restored)
            assert result.exit_code == 0, result.output
            opened = TieredStore(restored)
            (position,) = opened.positions().values()
            for gpu in opened.gpus():
                rows = sum(frame.height for frame in opened.records(gpu.gpu, Span()))
                assert rows == 400 + 30 * (position.next_offset - 2)
            opened.close()
    finally:
        stop.set()
        worker.join()


@pytest.mark.parametrize("happening", ["closed", "closed and written again", "compacted"])
def test_a_file_that_moves_on_right_after_the_snapshot_is_backed_up_as_it_was(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happening: str
) -> None:
    opened = TieredStore(directory, synced=False)
    expected = [row for frame in opened.records("../b", Span()) for row in frame.iter_rows()]
    times = 0

    def snapshot_and_more(source: Path, copy: Path) -> Catalogue:
        nonlocal times
        catalogue = snapshot(source, copy)
        times += 1
        if times == 1 and happening == "compacted":
            compact(opened, directory)
        elif times == 1:
            opened.close_files(1 << 62)
            if happening == "closed and written again":
                opened.commit(batch(NOON_US + HOUR_US, 300, 3))
        return catalogue

    monkeypatch.setattr("telemetry.storage.upkeep.backup.snapshot", snapshot_and_more)
    result = run("backup", tmp_path / "backup", "--data-dir", directory)
    assert result.exit_code == 0, result.output
    assert times == (2 if happening == "compacted" else 1)
    opened.close()
    result = run("restore", tmp_path / "backup", "--data-dir", tmp_path / "restored")
    assert result.exit_code == 0, result.output
    assert contents(tmp_path / "restored")["../b"] == expected


def test_a_damaged_cold_file_is_left_out_of_a_backup_and_said(directory: Path, tmp_path: Path) -> None:
    flip(cold_file(directory))
    result = run("backup", tmp_path / "backup", "--data-dir", directory)
    assert result.exit_code == 1
    assert "damaged: cold/hour/" in result.output
    assert run("restore", tmp_path / "backup", "--data-dir", tmp_path / "restored").exit_code == 0
    assert run("check", "--data-dir", tmp_path / "restored").exit_code == 0


def test_files_that_are_lost_are_left_out_of_a_backup_and_said(directory: Path, tmp_path: Path) -> None:
    lost = [cold_file(directory, "1m"), directory / "hot" / "%2e.%2fb.jsonl"]
    for path in lost:
        path.unlink()
    result = run("backup", tmp_path / "backup", "--data-dir", directory)
    assert result.exit_code == 1
    for path in lost:
        assert f"damaged: {path.relative_to(directory)}: it is missing" in result.output
    result = run("restore", tmp_path / "backup", "--data-dir", tmp_path / "restored")
    assert (result.exit_code, "hot/%2e.%2fb.jsonl: it is missing or empty" in result.output) == (1, True)
    assert len(contents(tmp_path / "restored")["GPU-a"]) == 400


def test_a_backup_that_is_not_whole_is_not_restored(directory: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    run("backup", backup, "--data-dir", directory)
    flip(backup / "hot" / "%2e.%2fb.jsonl")
    result = run("restore", backup, "--data-dir", tmp_path / "one")
    assert (result.exit_code, "is not what was written" in result.output) == (1, True)
    assert not (tmp_path / "one" / "checkpoint.sqlite").exists()
    (backup / "hot" / "%2e.%2fb.jsonl").unlink()
    assert "is missing" in run("restore", backup, "--data-dir", tmp_path / "two").output
    (backup / "backup.json").unlink()
    assert "no complete backup" in run("restore", backup, "--data-dir", tmp_path / "three").output


def test_nothing_is_written_over(directory: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    run("backup", backup, "--data-dir", directory)
    assert "is not empty" in run("backup", backup, "--data-dir", directory).output
    assert "is not empty" in run("restore", backup, "--data-dir", directory).output


def test_a_manifest_cannot_name_files_elsewhere(directory: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    run("backup", backup, "--data-dir", directory)
    manifest = json.loads((backup / "backup.json").read_text())
    manifest["files"].append(["../outside", 0, 0])
    (backup / "backup.json").write_text(json.dumps(manifest))
    assert "outside of the backup" in run("restore", backup, "--data-dir", tmp_path / "to").output
