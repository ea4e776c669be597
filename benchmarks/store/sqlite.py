"""The same samples in SQLite: a wide row an instant and GPU, clustered by GPU and time, which is the best it can do."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from benchmarks.store.dataset import Dataset, Slab
from telemetry.model import GPU, TIMESTAMP


class Sqlite:
    """One database file, written by one connection."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self.path = path
        self._columns = list(dataset.metrics)
        self._numbers = {gpu: number for number, gpu in enumerate(dataset.identities())}
        self._connection = self._connect()
        columns = ", ".join(f"{name} REAL" for name in self._columns)
        self._connection.execute(
            f"CREATE TABLE samples (gpu INTEGER, t INTEGER, {columns}, PRIMARY KEY (gpu, t)) WITHOUT ROWID"
        )

    def load(self, slabs: Iterator[Slab]) -> tuple[float, float]:
        """Insert everything, a transaction a slab; returns the seconds that SQLite took, and the CPU time."""
        places = ", ".join("?" * (len(self._columns) + 2))
        seconds = cpu_s = 0.0
        for slab in slabs:
            numbers = pl.col(GPU).replace_strict(self._numbers, return_dtype=pl.Int64)
            rows = slab.frame.select(numbers, pl.col(TIMESTAMP).cast(pl.Int64), *self._columns).rows()
            begun, begun_cpu = time.perf_counter(), time.process_time()
            with self._connection:
                self._connection.executemany(f"INSERT INTO samples VALUES ({places})", rows)
            seconds += time.perf_counter() - begun
            cpu_s += time.process_time() - begun_cpu
        return seconds, cpu_s

    def settled_bytes(self) -> int:
        """Empty the journal; returns the file's bytes."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.path.stat().st_size

    def reopen(self) -> None:
        """Begin with an empty cache."""
        self._connection.close()
        self._connection = self._connect()

    def averages(self, gpu: str, metric: str, start_us: int, end_us: int, step_us: int) -> Sequence[tuple[int, float]]:
        """One metric of one GPU by step."""
        statement = f"SELECT t / ?, avg({metric}) FROM samples WHERE gpu = ? AND t >= ? AND t < ? GROUP BY 1"
        return self._connection.execute(statement, (step_us, self._numbers[gpu], start_us, end_us)).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection
