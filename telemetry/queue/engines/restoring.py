"""Puts the core back as it was, from what the catalogue holds and what is found in the log."""

from __future__ import annotations

from functools import partial

from telemetry.queue.core.attempts import TriedBefore
from telemetry.queue.core.batches import Entry
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.producers import SentBatch
from telemetry.queue.core.queue import QueueCore, Stand
from telemetry.queue.engines.recovery import Found
from telemetry.queue.engines.sqlite_catalogue import Kept
from telemetry.queue.engines.summaries import Section, Summary


class Restoring:
    """One start of an engine: the catalogue first, then each record or segment, then :meth:`finish`."""

    def __init__(self, core: QueueCore, kept: Kept) -> None:
        self._core = core
        self._kept = kept
        self._partitions: dict[tuple[int, int], Partition] = {}
        # Bytes that cannot be read so far, and how many of them there were before a partition's last record.
        self._unreadable = 0
        self._unreadable_before: dict[Partition, int] = {}
        core.skip_topic_ids(kept.last_topic_id)
        for topic in kept.topics:
            core.adopt_topic(topic)
            for partition in topic.partitions:
                self._partitions[topic.topic_id, partition.number] = partition
        for key, offset in kept.starts.items():
            if (known := self._partitions.get(key)) is not None:
                known.begin_at(offset)
        for topic_id, number, producer_id, epoch, last_sequence, time_us in kept.producers:
            if (known := self._partitions.get((topic_id, number))) is not None:
                known.producers.restore(producer_id, epoch, last_sequence, time_us)

    def take(self, found: Found) -> bool:
        """Take in a record, or what is unreadable. Returns whether its bytes are needed."""
        header = found.header
        if header is None:
            self._unreadable += found.end - found.position
            return False
        partition = self._partitions.get((header.topic_id, header.partition))
        if partition is None:
            self._core.skip_topic_ids(header.topic_id)
            return False
        self._unreadable_before[partition] = self._unreadable
        if header.producer_id:
            partition.producers.restore(
                header.producer_id,
                header.producer_epoch,
                header.first_sequence + header.messages - 1,
                header.time_us,
                SentBatch(header.first_sequence, header.messages, header.base_offset),
            )
        if not found.intact:
            partition.skip_to(header.base_offset + header.messages)
            return False
        return partition.restore(
            Entry(header.base_offset, header.messages, header.batch_bytes, header.time_us, found.position)
        )

    def take_summary(self, summary: Summary) -> int:
        """Take in all records of a segment. Returns how many of them are needed."""
        return sum(self._take_section(key, section) for key, section in summary.sections.items())

    def _take_section(self, key: tuple[int, int], section: Section) -> int:
        partition = self._partitions.get(key)
        if partition is None:
            self._core.skip_topic_ids(key[0])
            return 0
        self._unreadable_before[partition] = self._unreadable
        for producer_id, state in section.producers:
            partition.producers.restore_state(producer_id, state)
        needed = partition.restore_block(section.block) if len(section.block) else 0
        partition.skip_to(section.end_offset)
        return needed

    def finish(self) -> None:
        """Set the groups where they stood."""
        for partition in self._partitions.values():
            # Offsets are never used twice: nobody knows how many a record held of which not even the header can be
            # read, but a message takes two bytes at least.
            lost = self._unreadable - self._unreadable_before.get(partition, 0)
            partition.skip_to(partition.end_offset + lost // 2)
        for (group, topic_id, number), (acked_through, settled) in self._kept.cursors.items():
            if (known := self._partitions.get((topic_id, number))) is not None:
                # What was acked or handed out was there, even if the log was not synced and has lost it.
                handed = self._kept.handed[group, topic_id, number]
                known.skip_to(max(acked_through, settled[-1][1] if settled else 0, handed))
        for name, settings in self._kept.groups:
            self._core.adopt_group(name, settings, partial(self._stand, name))

    def _stand(self, group: str, partition: Partition) -> Stand:
        place = group, partition.topic.topic_id, partition.number
        acked_through, settled = self._kept.cursors.get(place, (0, ()))
        handed, tried = self._kept.handed.get(place, 0), self._kept.tried.get(place, ())
        known = TriedBefore(handed, tried) if handed > acked_through or tried else None
        return Stand(acked_through, settled, known)
