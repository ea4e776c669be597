"""What is sent, the same for every peer, and what a worker process tells about it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import orjson

ROW_BYTES: Final = 300
ROWS_A_BATCH: Final = 500
STAMP_BYTES: Final = 8
"""A row begins with when it was due, in nanoseconds of the monotonic clock, which all processes share."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is sent, and how.

    Attributes:
        rows: rows of `ROW_BYTES`; a multiple of `ROWS_A_BATCH` when they go in batches.
        packed: whether a message of the peer holds `ROWS_A_BATCH` rows instead of one.
        boosted: whether the peer is given what goes beyond its ordinary client: its best foot forward.
        per_second: rows that fall due each second, one message each; 0 means batches, as fast as it goes.
    """

    rows: int
    packed: bool = False
    boosted: bool = False
    per_second: int = 0

    @property
    def batches(self) -> int:
        """How many batches the rows make."""
        return self.rows // ROWS_A_BATCH


@dataclass(slots=True)
class Outcome:
    """What a worker has seen.

    Attributes:
        began_ns: when it sent the first row; 0 in a consumer.
        ended_ns: when the last confirmation had come.
        rows: how many rows were confirmed, or received and acked.
        cpu_s: processor time from when it was ready to ``ended_ns``.
        latency_ms: of each row from when it was due to when the consumer had it; only in a paced load.
    """

    began_ns: int = 0
    ended_ns: int = 0
    rows: int = 0
    cpu_s: float = 0.0
    latency_ms: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """The first row is about to be sent."""
        self.began_ns = time.monotonic_ns()

    def end(self) -> None:
        """The last confirmation has come."""
        self.ended_ns = time.monotonic_ns()
        self.cpu_s = time.process_time()

    def received(self, row: bytes) -> None:
        """A row of a paced load has come."""
        due_ns = int.from_bytes(row[:STAMP_BYTES], "little")
        self.latency_ms.append((time.monotonic_ns() - due_ns) / 1e6)


class Worker(Protocol):
    """One side of a load in a process of its own: connects, calls ``ready``, then sends or receives all rows."""

    def __call__(self, address: str, load: Load, ready: Callable[[], None]) -> Outcome: ...


def whole_batches(rows: float) -> int:
    """About so many rows, in whole batches and at least one."""
    return max(1, round(rows / ROWS_A_BATCH)) * ROWS_A_BATCH


def batch_of_rows() -> list[bytes]:
    """The rows of a batch."""
    return [bytes([index % 256]) * ROW_BYTES for index in range(ROWS_A_BATCH)]


def stamped_row(due_ns: int) -> bytes:
    """A row that says when it was due."""
    return due_ns.to_bytes(STAMP_BYTES, "little").ljust(ROW_BYTES, b".")


def rows_in(data: bytes, load: Load) -> int:
    """How many rows a message holds; complains about one that came out otherwise than it went in."""
    expected = ROW_BYTES * (ROWS_A_BATCH if load.packed else 1)
    if len(data) != expected:
        raise ValueError(f"a message of {len(data)} bytes came instead of {expected}")
    return ROWS_A_BATCH if load.packed else 1


def due_times(load: Load) -> Iterator[int]:
    """Wait until each row of a paced load is due, and yield when that was."""
    begun_ns = time.monotonic_ns()
    for index in range(load.rows):
        due_ns = begun_ns + index * 1_000_000_000 // load.per_second
        if (wait_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(wait_ns / 1e9)
        yield due_ns


def run_worker(worker: Worker) -> None:
    """Run one side in this process: the address and load are its arguments, the outcome its last line."""
    address, load = sys.argv[-2], Load(**orjson.loads(sys.argv[-1]))
    began_s = 0.0

    def ready() -> None:
        nonlocal began_s
        began_s = time.process_time()
        print("ready", flush=True)
        sys.stdin.readline()

    outcome = worker(address, load, ready)
    outcome.cpu_s -= began_s
    print(orjson.dumps(outcome).decode(), flush=True)
