"""The job in its own process: killed at any moment it leaves nothing half-done, and it does not outlive its parent."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from telemetry.storage.cold.child import run_in_child
from telemetry.storage.cold.files import HotSegment
from telemetry.storage.cold.job import JobError, run_job
from telemetry.storage.cold.verify import verify
from tests.unit.storage_cold.lake import MIDNIGHT_US, NOON_US, Lake

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS") or 1)


@pytest.fixture
def world(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def some_segments(world: Lake, rows: int) -> list[HotSegment]:
    return world.segment(
        [
            (f"gpu-{gpu}", start + place * 1_000_000, {"x": place * 0.1, "y": 1.0})
            for gpu in range(6)
            for start in (MIDNIGHT_US, NOON_US)
            for place in range(rows)
        ]
    )


async def test_a_child_gives_the_result_that_this_process_would(world: Lake) -> None:
    job = world.job(some_segments(world, 20))
    here = run_job(replace(job, directory=world.folder / "here"))
    assert await run_in_child(job) == here


async def test_what_is_wrong_comes_back_from_the_child(world: Lake) -> None:
    world.run(some_segments(world, 5))
    (world.cold / world.records[0].path).unlink()
    with pytest.raises(JobError, match="the file is missing") as caught:
        await run_in_child(world.job([], world.records))
    assert caught.value.path == world.records[0].path


async def test_a_child_that_takes_too_long_is_ended(world: Lake) -> None:
    job = world.job(some_segments(world, 5))
    world.cold.mkdir()
    with (world.cold / "JOB").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(JobError, match=r"longer than 0\.5 s"):
            await run_in_child(job, timeout_s=0.5)
    assert await run_in_child(job) == run_job(job)


async def test_a_child_killed_at_any_moment_leaves_whole_files_only_and_the_job_can_be_done_again(
    world: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.job(some_segments(world, 600))
    whole = run_job(replace(job, directory=world.folder / "whole"))
    described = {file.path: file for file in whole.files}
    chance = random.Random(3)
    seen: set[int] = set()
    children: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: object, **options: object) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)  # type: ignore[arg-type]
        children.append(process)
        return process

    monkeypatch.setattr("asyncio.create_subprocess_exec", noted)
    for _ in range(8 * ROUNDS):
        task = asyncio.create_task(run_in_child(job))
        # The work begins once the lock is there; how far it gets is left to chance.
        (world.cold / "JOB").unlink(missing_ok=True)
        while not (world.cold / "JOB").exists():
            await asyncio.sleep(0.002)
        await asyncio.sleep(chance.random() * 0.15)
        if children[-1].returncode is None:
            children[-1].send_signal(signal.SIGKILL)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert outcome == whole or "signal 9" in str(outcome)
        in_view = list(world.cold.glob("*/*.parquet"))
        seen.add(len(in_view))
        for path in in_view:
            assert verify(described[str(path.relative_to(world.cold))], world.cold) == []
            path.unlink()
    assert 0 in seen
    assert await run_in_child(job) == whole


async def test_cancelling_ends_the_child(world: Lake) -> None:
    job = world.job(some_segments(world, 5))
    world.cold.mkdir()
    with (world.cold / "JOB").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        task = asyncio.create_task(run_in_child(job))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not list(world.cold.glob("*/*"))


async def test_a_child_does_not_outlive_its_parent(world: Lake) -> None:
    job = world.job(some_segments(world, 5))
    world.cold.mkdir()
    text = (
        "import asyncio, json, sys; from telemetry.storage.cold.child import run_in_child;"
        "from telemetry.storage.cold.job import Job;"
        "asyncio.run(run_in_child(Job.from_json(json.loads(sys.argv[1]))))"
    )
    with (world.cold / "JOB").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", text, json.dumps(job.to_json()))
        while not (born := _children(parent.pid)):
            await asyncio.sleep(0.01)
        parent.kill()
        await parent.wait()
        while any(Path(f"/proc/{number}/cmdline").exists() and not _is_zombie(number) for number in born):
            await asyncio.sleep(0.01)
    assert not list(world.cold.glob("*/*"))


def _children(parent: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _is_zombie(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
