"""Gathers single messages into batches. Pure bookkeeping: no tasks, and the time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from telemetry.queue.clients.batches import Batch, DoneCallback, OutgoingMessage, encode_messages
from telemetry.queue.clients.placement import partition_of_key


class Accumulator:
    """Open batches by topic and partition.

    A batch closes when it is full, when nothing of its partition is on its way any more, when it has been open for
    ``linger_s``, or when it is told to. So a single message goes at once, and the more there are, the more travel
    together. Messages with a key go where their key says; those without go to one partition until its batch closes,
    then to the next.
    """

    def __init__(self, batch_messages: int, batch_bytes: int, linger_s: float) -> None:
        self._batch_messages = batch_messages
        self._batch_bytes = batch_bytes
        self._linger_s = linger_s
        self._open: dict[tuple[str, int], _OpenBatch] = {}  # the oldest first
        self._turn: dict[str, int] = {}

    def add(
        self, topic: str, partitions: int, message: OutgoingMessage, done: DoneCallback, now: float
    ) -> Sequence[Batch]:
        """Take a message, and return the batches that this closes, in order."""
        closed: list[Batch] = []
        encoded = encode_messages((message,))  # first, because it may turn out to be none
        size = message.size
        place = self._place(topic, partitions, message)
        while place in self._open and self._open[place].size + size > self._batch_bytes:
            closed.append(self._close(place))
            place = self._place(topic, partitions, message)
        batch = self._open.get(place)
        if batch is None:
            batch = self._open[place] = _OpenBatch(now)
        batch.add(encoded, size, done)
        if len(batch.done) >= self._batch_messages or batch.size >= self._batch_bytes:
            closed.append(self._close(place))
        return closed

    def close(self, topic: str, partition: int) -> Sequence[Batch]:
        """Close one partition's batch, if it is open."""
        place = topic, partition
        return [self._close(place)] if place in self._open else []

    def close_due(self, now: float, is_idle: Callable[[str, int], bool]) -> Sequence[Batch]:
        """Close what has been open for long enough, and what has nothing to wait for.

        Args:
            now: the time.
            is_idle: whether nothing of a topic's partition is on its way.
        """
        due = [
            place for place, batch in self._open.items() if batch.opened_at + self._linger_s <= now or is_idle(*place)
        ]
        return [self._close(place) for place in due]

    def close_all(self) -> Sequence[Batch]:
        """Close everything."""
        return [self._close(place) for place in list(self._open)]

    def next_due_at(self) -> float | None:
        """When :meth:`close_due` will have something to do, whatever is idle."""
        oldest = next(iter(self._open.values()), None)
        return None if oldest is None else oldest.opened_at + self._linger_s

    def _place(self, topic: str, partitions: int, message: OutgoingMessage) -> tuple[str, int]:
        if message.ordering_key is not None:
            return topic, partition_of_key(message.ordering_key, partitions)
        turn = self._turn[topic] = self._turn.get(topic, 0) % partitions
        return topic, turn

    def _close(self, place: tuple[str, int]) -> Batch:
        topic, partition = place
        batch = self._open.pop(place)
        if self._turn.get(topic) == partition:
            self._turn[topic] += 1
        return Batch(
            topic, partition, b"".join(batch.encoded), len(batch.done), batch.size, batch.opened_at, batch.done
        )


class _OpenBatch:
    __slots__ = ("done", "encoded", "opened_at", "size")

    def __init__(self, opened_at: float) -> None:
        self.encoded: list[bytes] = []
        self.done: list[DoneCallback] = []
        self.opened_at = opened_at
        self.size = 0

    def add(self, encoded: bytes, size: int, done: DoneCallback) -> None:
        self.encoded.append(encoded)
        self.done.append(done)
        self.size += size
