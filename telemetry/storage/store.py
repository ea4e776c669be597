"""The seam between collectors and whatever keeps the samples: what is stored together, and what can be asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import polars as pl

from telemetry.storage.plan import Plan
from telemetry.storage.series import Aggregation, Steps
from telemetry.storage.values import Latest, Ranges


class StoreError(Exception):
    """What was to be stored is not, and nothing of it counts; the same batch may be tried again.

    Attributes:
        full: whether the disk has no room left.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """How far a partition has been stored.

    ``topic_created_us`` tells a topic from a later one of the same name, whose offsets begin at 0 again.
    """

    topic_created_us: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What becomes durable together.

    Attributes:
        frames: valid records in queue order: ``timestamp`` and ``gpu`` without nulls, Float64 metrics, String labels.
        quarantine: lines for the quarantine, without newlines.
        positions: the next offset of each partition that the batch draws on.
    """

    frames: Sequence[pl.DataFrame] = ()
    quarantine: Sequence[bytes] = ()
    positions: Mapping[TopicPartition, Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What a batch brought for one GPU: of each metric the last value, the smallest and the largest.

    Attributes:
        gpu: the GPU.
        newest_us: its newest record, of all.
        advanced: whether that record came with this batch.
        labels: all its labels if they are new or changed, else ``None``.
        values: what it brought.
    """

    gpu: str
    newest_us: int
    advanced: bool
    labels: Mapping[str, str] | None
    values: Ranges


@dataclass(frozen=True, slots=True)
class Committed:
    """What a batch came to.

    Attributes:
        records: records that held something new.
        samples: samples that were new or changed.
        duplicates: records that were there already with the same values.
        conflicts: samples that were there already with another value; the later one counts.
        changes: what changed, a GPU each.
    """

    records: int
    samples: int
    duplicates: int
    conflicts: int
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that has records.

    Attributes:
        gpu: the identity.
        labels: all labels, as last seen.
        first_us: its oldest record, in microseconds since 1970.
        last_us: its newest record.
        records: lines stored; a record that came in two parts counts twice.
        latest: the newest sample of each metric.
    """

    gpu: str
    labels: Mapping[str, str]
    first_us: int
    last_us: int
    records: int
    latest: Latest


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of time, in microseconds since 1970; ``None`` leaves an end open."""

    start_us: int | None = None
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class TierStats:
    """What a tier holds.

    Attributes:
        files: how many files.
        size: their bytes.
        rows: rows in them; 0 for ``hot``, where nobody counts.
    """

    files: int
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds.

    Attributes:
        gpus: GPUs known.
        stored_bytes: bytes on disk, of all tiers.
        cached_counts: how many records are in memory of each GPU that has any there.
        cached_bytes: bytes of memory that they take, about.
        cache_entries_max: the most records kept in memory for a GPU.
        cache_bytes_max: the most bytes of records kept in memory.
        quarantine_bytes: bytes of the quarantine.
        checkpoint_us: when the newest checkpoint was written; ``None`` before the first.
        tiers: what each tier holds: ``hot``, and of the cold ones ``raw``, ``1m`` and ``1h``.
        damaged_files: cold files that could not be read.
        quarantine_dropped_bytes: bytes of the quarantine that went to make room, since the store was opened.
    """

    gpus: int
    stored_bytes: int
    cached_counts: Sequence[int]
    cached_bytes: int
    cache_entries_max: int
    cache_bytes_max: int
    quarantine_bytes: int
    checkpoint_us: int | None
    tiers: Mapping[str, TierStats]
    damaged_files: int
    quarantine_dropped_bytes: int = 0

    @property
    def cached_records(self) -> int:
        """Records in memory."""
        return sum(self.cached_counts)


class Store(Protocol):
    """Keeps samples. Methods block; :meth:`commit` is called by one thread at a time, the others by any number."""

    def positions(self) -> Mapping[TopicPartition, Position]:
        """How far each partition has been stored."""
        ...

    def commit(self, batch: Batch) -> Committed:
        """Store a batch; when this returns, it survives a crash as a whole.

        Raises:
            StoreError: nothing of it is stored.
        """
        ...

    def gpus(self) -> Sequence[Gpu]:
        """All GPUs, by identity."""
        ...

    def find(self, gpu: str) -> Gpu | None:
        """One GPU."""
        ...

    def records(
        self,
        gpu: str,
        span: Span,
        *,
        metrics: Sequence[str] | None = None,
        newest_first: bool = False,
        plan: Plan | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield a GPU's records in order of time, in pieces: ``timestamp`` and a column for each metric.

        ``metrics`` ``None`` means all it has. No two records have the same instant. Memory stays bounded whatever the
        span; stop iterating to stop reading. What is in files that are damaged is left out; ``plan`` says so.

        Raises:
            StoreError: what is stored cannot be read.
        """
        ...

    def series(
        self,
        gpus: Sequence[str],
        span: Span,
        steps: Steps,
        metrics: Sequence[str],
        aggregation: Aggregation,
        *,
        plan: Plan | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield metrics of GPUs over time, by GPU, some GPUs at a time.

        A frame has a row for each GPU and step in which there is anything: ``gpu``, ``step`` (its place), and a column
        for each metric, called by its place. The samples of ``span`` within a step become one. ``plan`` is told how
        the answer was found and what is missing.

        Raises:
            StoreError: what is stored cannot be read.
        """
        ...

    def stats(self) -> StoreStats:
        """What the store holds."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...
