"""A partition: its dense offsets, the index of its batches, and what it drops when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telemetry.queue.core.batches import BatchIndex, Block, Entry
from telemetry.queue.core.producers import Producers, Undo
from telemetry.queue.core.runs import RunSet
from telemetry.queue.core.types import AtOffset, AtTime, Place, Position, PublishBatch

if TYPE_CHECKING:
    from telemetry.queue.core.cursor import Cursor
    from telemetry.queue.core.topics import TopicState


class Placed:
    """A batch that has its offsets and is not durable yet."""

    __slots__ = ("batch", "entry", "partition", "undo")

    def __init__(self, partition: Partition, batch: PublishBatch, entry: Entry, undo: Undo | None) -> None:
        self.partition = partition
        self.batch = batch
        self.entry = entry
        self.undo = undo


class Partition:
    """One partition of a topic.

    Offsets below ``start_offset`` are gone; below ``visible_end`` they may be delivered; below ``end_offset`` they are
    given out, but the batch is not yet as durable as the topic promises. What is lost in between is a hole.
    """

    __slots__ = (
        "cursors",
        "end_offset",
        "holes",
        "index",
        "number",
        "producers",
        "size_bytes",
        "start_offset",
        "topic",
        "visible_end",
    )

    def __init__(self, topic: TopicState, number: int) -> None:
        self.topic = topic
        self.number = number
        self.index = BatchIndex()
        self.producers = Producers()
        self.holes = RunSet()
        self.cursors: list[Cursor] = []
        self.start_offset = 0
        self.visible_end = 0
        self.end_offset = 0
        self.size_bytes = 0

    def place(self, batch: PublishBatch, time_us: int, position: int) -> Placed:
        """Give the batch its offsets. It is visible once :meth:`confirm` is called for it."""
        last = self.index.last()
        if last is not None:
            time_us = max(time_us, last.time_us)
        entry = Entry(self.end_offset, batch.count, len(batch.batch), time_us, position)
        self.index.append(entry)
        self.end_offset = entry.end_offset
        self.size_bytes += entry.size
        undo = None
        if batch.producer_id:
            undo = self.producers.store(
                batch.producer_id, batch.producer_epoch, batch.first_sequence, batch.count, entry.base_offset, time_us
            )
        return Placed(self, batch, entry, undo)

    def confirm(self, entry: Entry) -> None:
        """Make a batch visible. Batches are confirmed in the order of their offsets."""
        self.visible_end = max(self.visible_end, entry.end_offset)

    def withdraw(self, placed: Placed) -> None:
        """Take back the newest batch, which could not be stored."""
        last = self.index.last()
        if last is not None and last.base_offset == placed.entry.base_offset:
            self.index.drop_last()
            self.size_bytes -= placed.entry.size
        self.end_offset = max(placed.entry.base_offset, self.start_offset)
        if placed.batch.producer_id:
            self.producers.withdraw(placed.batch.producer_id, placed.undo)

    def begin_at(self, offset: int) -> None:
        """Have nothing below ``offset``, and nothing yet from there on."""
        self.start_offset = self.visible_end = self.end_offset = offset

    def restore(self, entry: Entry) -> bool:
        """Take in a batch found in the log; what is missing before it is a hole. Returns whether it is needed."""
        if entry.end_offset <= self.end_offset:
            return False
        if entry.base_offset > self.end_offset:
            self.holes.add(self.end_offset, entry.base_offset)
        self.index.append(entry)
        self.size_bytes += entry.size
        self.end_offset = self.visible_end = entry.end_offset
        return True

    def restore_block(self, block: Block) -> int:
        """Take in batches found in the log, as :meth:`restore` does with one. Returns how many of them are needed."""
        needed = block.at_offset(self.end_offset)
        if needed == len(block):
            return 0
        if needed:
            block = block.cut(needed, len(block))
        self.holes.add(self.end_offset, block[0].base_offset)
        if not block.is_dense:
            for first, end in block.holes():
                self.holes.add(first, end)
        self.index.extend(block)
        self.size_bytes += block.size
        self.end_offset = self.visible_end = block[-1].end_offset
        return len(block)

    def skip_to(self, offset: int) -> None:
        """Let the next offset be at least ``offset``; those passed over are a hole."""
        if offset > self.end_offset:
            self.holes.add(self.end_offset, offset)
            self.end_offset = self.visible_end = offset

    def lose(self, entry: Entry) -> None:
        """Remove a batch whose bytes turned out to be damaged; its offsets are a hole."""
        self.index.drop(entry.base_offset)
        self.size_bytes -= entry.size
        self.holes.add(entry.base_offset, entry.end_offset)

    def resolve(self, position: Position) -> int:
        """The offset that a position means now."""
        match position:
            case Place.EARLIEST:
                return self.start_offset
            case Place.LATEST:
                return self.visible_end
            case AtTime(time_us):
                entry = self.index.find_time(time_us)
                offset = entry.base_offset if entry is not None else self.visible_end
            case AtOffset(offset):
                pass
        return min(max(offset, self.start_offset), self.visible_end)

    def acked_through(self) -> int | None:
        """The offset below which every group has settled all; ``None`` when no group subscribes."""
        return min((cursor.acked_through for cursor in self.cursors), default=None)

    def drop_through(self, offset: int) -> list[Block]:
        """Drop what lies below ``offset``, which must be visible. Returns the batches of which nothing is left."""
        if offset <= self.start_offset:
            return []
        dropped = self.index.drop_through(offset)
        self.size_bytes -= sum(block.size for block in dropped)
        self.start_offset = offset
        self.holes.discard_below(offset)
        return dropped

    def message_count(self) -> int:
        """How many messages are stored and visible."""
        return max(0, self.visible_end - self.start_offset - self.holes.count_from(self.start_offset))
