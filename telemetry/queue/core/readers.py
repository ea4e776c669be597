"""Ephemeral subscriptions: they follow the log without a group, and miss what is gone before they come to it."""

from __future__ import annotations

from telemetry.queue.core.partition import Partition
from telemetry.queue.core.sessions import Handout, Session
from telemetry.queue.core.types import Gap


class Reader:
    """A session without a group, and how far it has come. What it has not read may be dropped all the same."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.offsets: dict[Partition, int] = {}

    def feed(self, partitions: list[Partition] | None = None) -> None:
        """Hand out what there is, a batch of each partition in turn, as far as the session has room."""
        queue = list(self.offsets if partitions is None else partitions)
        while queue:
            queue = [partition for partition in queue if self._hand_out(partition)]

    def _hand_out(self, partition: Partition) -> bool:
        offset = self.offsets.get(partition)
        if offset is None:
            return False
        entry = partition.index.find(max(offset, partition.start_offset))
        if entry is None or entry.base_offset >= partition.visible_end:
            return False
        room = self.session.room(entry.size)
        if not room:
            return False
        first = max(offset, entry.base_offset, partition.start_offset)
        if first > offset:
            self.session.tell(Gap(partition.topic.name, partition.number, first - offset))
        end = min(entry.end_offset, first + room)
        whole = end - first == entry.messages
        due = () if whole else ((first - entry.base_offset, end - first),)
        self.session.hand(Handout(partition, entry, due, end - first))
        self.offsets[partition] = end
        return True
