"""What the newest lines in memory take is what the store says that they take."""

from __future__ import annotations

import os
import subprocess
import sys

import polars as pl
import pytest

from telemetry.storage.columns import combine, portions

_FILL = """
import sys
from pathlib import Path
from telemetry.storage.tails import TailCache

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

line_bytes, files, lines = map(int, sys.argv[1:])
before, cache = resident(), TailCache(1000)
for line in range(1, lines + 1):
    for file in range(files):
        cache.append(file, line * line_bytes, bytes(bytearray(line_bytes)), 1)
print(cache.usage()[1], resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux what a process takes")
@pytest.mark.parametrize(
    ("line_bytes", "files", "lines"), [(850, 10_000, 5), (250, 10_000, 3), (300, 500, 100), (20_000, 100, 25)]
)
def test_memory_is_what_is_said(line_bytes: int, files: int, lines: int) -> None:
    # A process that does nothing else: whatever it takes more than before is the cache's.
    run = [sys.executable, "-c", _FILL, str(line_bytes), str(files), str(lines)]
    said, taken = map(int, subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())
    assert said == pytest.approx(taken, rel=0.15)


def test_a_large_commit_is_made_into_lines_a_few_gpus_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    records = {
        "timestamp": pl.Series(range(20)).cast(pl.Datetime("us", "UTC")),
        "gpu": list("abcd") * 5,
        "x": [float(number) for number in range(20)],
        "y": [1.5 if number % 4 == 1 else None for number in range(20)],
    }
    columns = combine([pl.DataFrame(records)])
    together = {portion.gpu: portion for portion in portions(columns)}
    monkeypatch.setattr("telemetry.storage.columns._TOGETHER_CELLS", 8)
    apart = portions(columns)
    assert sorted(portion.gpu for portion in apart) == ["a", "b", "c", "d"]
    for portion in apart:
        whole = together[portion.gpu]
        assert (portion.text, portion.records, portion.values) == (whole.text, whole.records, whole.values)


def test_every_command_tells_the_allocator_of_polars_to_give_back_what_is_free() -> None:
    # The allocator complains on standard error about what it does not understand.
    run = [sys.executable, "-c", "import telemetry.cli.collector, os, polars; print(os.environ['_RJEM_MALLOC_CONF'])"]
    environment = {name: value for name, value in os.environ.items() if name != "_RJEM_MALLOC_CONF"}
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=environment)
    assert ("dirty_decay_ms" in done.stdout, done.stderr) == (True, "")
