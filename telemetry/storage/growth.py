"""What new records do to what is known of a GPU and to its file. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from telemetry.storage.checkpoint import Block, Entry, Segment
from telemetry.storage.columns import Portion
from telemetry.storage.store import Change, Gpu

BLOCK_BYTES: Final = 64 << 10
"""A block of a file is finished, and its range of time noted, once it has so many bytes."""


@dataclass(frozen=True, slots=True)
class Closing:
    """A GPU's growing file closed: what is known afterwards, the closed file, and the block that this finished."""

    entry: Entry
    segment: Segment
    finished: Block | None


@dataclass(frozen=True, slots=True)
class Growth:
    """What records do to a GPU.

    Attributes:
        entry: what is known of it afterwards.
        closed: the file that must be closed before, for being long enough.
        finished: the blocks that come to their end.
        offset: where in the growing file the lines go.
        portion: the records.
        change: what to tell others.
    """

    entry: Entry
    closed: Segment | None
    finished: tuple[Block, ...]
    offset: int
    portion: Portion
    change: Change


def close(known: Entry) -> Closing:
    """Close the growing file; the next one is empty."""
    end = known.block.end
    entry = replace(known, block=Block(end, end, 0, 0), base=end, closed=known.closed + 1, opened_us=0)
    is_empty = known.block.start == end
    return Closing(entry, Segment(known.number, known.base, end, known.closed), None if is_empty else known.block)


def grow(known: Entry, portion: Portion, labels: Mapping[str, str], rotate_bytes: int, now_us: int) -> Growth:
    """Put records at the end of the growing file, or of a new one if that has ``rotate_bytes``."""
    finished: list[Block] = []
    closed = None
    if known.block.end - known.base >= rotate_bytes:
        closing = close(known)
        known, closed = closing.entry, closing.segment
        finished += [closing.finished] if closing.finished else []
    gpu, block, size = known.gpu, known.block, len(portion.text)
    is_empty = block.start == block.end
    grown = Block(
        block.start,
        block.end + size,
        portion.first_us if is_empty else min(block.min_us, portion.first_us),
        portion.last_us if is_empty else max(block.max_us, portion.last_us),
    )
    if grown.end - grown.start >= BLOCK_BYTES:
        finished.append(grown)
        grown = Block(grown.end, grown.end, 0, 0)
    is_new = gpu.records == 0
    changed = is_new or any(gpu.labels.get(name) != value for name, value in labels.items())
    after = _after(gpu, portion, {**gpu.labels, **labels} if changed else gpu.labels)
    change = Change(
        gpu.gpu,
        after.last_us,
        is_new or portion.last_us > gpu.last_us,
        after.labels if changed else None,
        portion.values,
    )
    opened_us = now_us if block.end == known.base else known.opened_us
    entry = Entry(known.number, known.file, after, grown, known.base, known.closed, opened_us)
    return Growth(entry, closed, tuple(finished), block.end - known.base, portion, change)


def _after(gpu: Gpu, portion: Portion, labels: Mapping[str, str]) -> Gpu:
    return Gpu(
        gpu.gpu,
        labels,
        min(gpu.first_us, portion.first_us),
        max(gpu.last_us, portion.last_us),
        gpu.records + portion.records,
        gpu.latest.with_newer(portion.values.places, portion.instants, portion.values.figures[0]),
    )
