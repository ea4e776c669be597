"""Runs a compaction job in a process of its own, of low priority, that dies with this one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Final

from telemetry.storage.cold.job import Job, JobError, JobResult

NICE: Final = 19
TIMEOUT_S: Final = 3600.0

_COMPLAINT_BYTES: Final = 2000


async def run_in_child(job: Job, *, nice: int = NICE, timeout_s: float = TIMEOUT_S) -> JobResult:
    """Run it and wait. When this is cancelled, or takes longer than ``timeout_s``, the process is killed.

    Raises:
        JobError: it failed, died or took too long. Nothing counts of what it may have left on disk.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "telemetry.storage.cold.job", str(nice)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    complaints = asyncio.create_task(child.stderr.read())
    try:
        async with asyncio.timeout(timeout_s):
            child.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            answer = await child.stdout.read()
            await child.wait()
    except TimeoutError:
        raise JobError(f"the job took longer than {timeout_s:g} s and was ended") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        child.stdin.close()
        complaint = (await complaints)[-_COMPLAINT_BYTES:].decode(errors="replace").strip()
    return _result(answer, child.returncode, complaint)


def _result(answer: bytes, code: int | None, complaint: str) -> JobResult:
    try:
        value = json.loads(answer)
    except ValueError:
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        raise JobError(
            f"the job {how}{': ' if complaint else ''}{complaint.splitlines()[-1] if complaint else ''}"
        ) from None
    if "error" in value:
        raise JobError(value["error"]["message"], value["error"]["path"])
    return JobResult.from_json(value["result"])
