"""The audit log is bounded, survives a torn line, and writes down how each change ended."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway import audit
from gateway.audit import Actor, AuditLog
from telemetry.runtime.errors import StartupError

SOMEBODY = Actor("127.0.0.1:5000", "", "request")


async def nothing() -> None:
    pass


async def changes(log: AuditLog, count: int) -> None:
    for number in range(count):
        await log.change(SOMEBODY, "topic.purge", f"t{number}", {}, nothing)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_file_is_turned_over_and_five_are_kept(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", file_bytes_max=500)
    await log.open()
    await changes(log, 20)
    await log.close()
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["audit.jsonl", *(f"audit.jsonl.{number}" for number in range(1, 5))]
    assert lines(files[0])[-1]["target"] == "t19"
    assert all(path.stat().st_size < 1_000 for path in tmp_path.iterdir())


async def test_changes_are_read_back_over_the_turn_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, file_bytes_max=4_000)
    await log.open()
    await changes(log, 9)
    await log.close()
    assert (tmp_path / "audit.jsonl.1").exists()
    again = AuditLog(path)
    await again.open()
    assert [each.target for each in again.newest(3)] == ["t8", "t7", "t6"]
    assert {each.outcome for each in again.newest(3)} == {"done"}
    await again.close()


async def test_a_change_whose_end_is_missing_is_unknown_and_a_torn_line_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    await log.open()
    await log.begin(SOMEBODY, "topic.delete", "t", {"offsets": list(range(150))})
    await log.close()
    with path.open("ab") as file:
        file.write(b'{"id": "torn')
    again = AuditLog(path)
    await again.open()
    (entry,) = again.newest(10)
    assert (entry.outcome, entry.action) == ("unknown", "topic.delete")
    assert entry.parameters["offsets"][-2:] == [99, "and 50 more"]
    await changes(again, 1)
    await again.close()
    assert json.loads(path.read_text().splitlines()[-1])["outcome"] == "done"


async def test_only_so_many_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ENTRIES_MAX", 5)
    log = AuditLog(None)
    await log.open()
    await changes(log, 9)
    assert [each.target for each in log.newest(100)] == ["t8", "t7", "t6", "t5", "t4"]
    await log.close()


async def test_a_change_goes_on_when_the_one_who_asked_has_gone() -> None:
    log = AuditLog(None)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await may_end.wait()

    asking = asyncio.create_task(log.change(SOMEBODY, "topic.delete", "t", {}, slow))
    await begun.wait()
    asking.cancel()
    await asyncio.wait({asking})
    may_end.set()
    await log.close()
    (entry,) = log.newest(1)
    assert entry.outcome == "done"


async def test_an_error_of_ours_is_written_down_as_failed() -> None:
    log = AuditLog(None)

    async def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        await log.change(SOMEBODY, "topic.delete", "t", {}, fail)
    (entry,) = log.newest(1)
    assert (entry.outcome, entry.detail) == ("failed", "broken")
    await log.close()


async def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    with pytest.raises(StartupError, match="--audit-log"):
        await log.open()
    await log.close()
