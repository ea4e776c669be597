"""Which batch may be sent when, and what an answer means. Pure bookkeeping: no tasks, and the time is an argument.

Theory of operation. Each partition of a topic is a *lane*: batches wait in it, go out in order, and stay *in flight*
until answered, in the same order. Sequences are given when a batch enters its lane and never change. A lane that is
*flowing* may have any number in flight; one that is not has one at most. It starts to flow with its first receipt and
stops with everything else, because the server takes any sequence from a producer that it does not know: were two in
flight then, the first refused and the second stored, the first would forever count as a duplicate.

=====================  ================================================================================================
answer to the oldest   what happens
=====================  ================================================================================================
receipt                settled; the lane flows
full, unavailable      it and all behind it return to the lane in order and go out again after the time asked for, or
                       after a backoff; what is in flight behind it is a gap to the server, which stores none of it
refused                it alone fails; all behind it go out again in the next epoch, which may start at any sequence
gap                    the server has lost what it had confirmed, or something before it has expired: it and all behind
                       it go out again in the next epoch
refused or gap, when   it fails, and so do those behind it that the caller counted, as gaps; the epoch stays, so that
the caller counts      the caller can go back to where the server is
fenced                 it and all behind it fail, and so does everything later
=====================  ================================================================================================

When the stream breaks, all that is in flight returns to its lanes. An answer to a send that has been taken back is not
looked at: every send has a number of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from telemetry.queue.clients.backoff import Backoff
from telemetry.queue.clients.batches import Batch
from telemetry.queue.clients.errors import (
    DeliveryTimeoutError,
    ProducerFencedError,
    QueueClientError,
    QueueUnavailableError,
    SequenceGapError,
)
from telemetry.queue.core.types import Receipt


@dataclass(frozen=True, slots=True)
class Send:
    """One request to write to the stream."""

    request_id: str
    batch: Batch
    epoch: int
    first_sequence: int


class Outbox:
    """The lanes of one producer."""

    def __init__(self, delivery_timeout_s: float | None, on_settled: Callable[[Batch], None]) -> None:
        """Begin with no lanes.

        Args:
            delivery_timeout_s: how long after it was accepted a batch fails unanswered; ``None`` means never.
            on_settled: called with every batch that has succeeded or failed.
        """
        self.delivery_timeout_s: Final = delivery_timeout_s
        self._on_settled = on_settled
        self._starts: dict[str, tuple[int, Mapping[int, int]]] = {}
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._ready: dict[_Lane, None] = {}  # in turn, so that no lane starves another
        self._held: set[_Lane] = set()
        self._sends: dict[str, _Lane] = {}
        self._sent = 0
        self.trouble = ""
        """What last went wrong with the connection; empty while it is well."""

    def knows(self, topic: str) -> bool:
        """Whether :meth:`open_topic` was called."""
        return topic in self._starts

    def open_topic(self, topic: str, epoch: int, next_sequences: Mapping[int, int]) -> None:
        """Say where the producer stands in a topic; a partition not named begins at sequence 0."""
        self._starts[topic] = epoch, next_sequences

    def is_idle(self, topic: str, partition: int) -> bool:
        """Whether nothing of a partition waits or is in flight."""
        lane = self._lanes.get((topic, partition))
        return lane is None or not (lane.waiting or lane.in_flight)

    def add(self, batch: Batch) -> None:
        """Put a batch at the end of its lane; its topic must be open."""
        lane = self._lanes.get((batch.topic, batch.partition))
        if lane is None:
            epoch, next_sequences = self._starts[batch.topic]
            lane = _Lane(epoch, next_sequences.get(batch.partition, 0))
            self._lanes[batch.topic, batch.partition] = lane
        if lane.fenced is not None:
            self._fail(batch, lane.fenced)
            return
        explicit = batch.explicit_sequence
        first_sequence = lane.next_sequence if explicit is None else explicit
        lane.next_sequence = first_sequence + batch.count
        lane.waiting.append(_Request(batch, first_sequence))
        self._ready[lane] = None

    def next_send(self, now: float) -> Send | None:
        """The next request to write, if any may be written now."""
        for lane in [lane for lane in self._held if lane.hold_until <= now]:
            self._held.discard(lane)
            self._ready[lane] = None
        while self._ready:
            lane = next(iter(self._ready))
            del self._ready[lane]
            if lane.may_send(now):
                self._sent += 1
                request = lane.waiting.popleft()
                request.request_id = str(self._sent)
                lane.in_flight.append(request)
                self._sends[request.request_id] = lane
                self._ready[lane] = None
                return Send(request.request_id, request.batch, lane.epoch, request.first_sequence)
        return None

    def answer(self, request_id: str, outcome: Receipt | QueueClientError, now: float) -> None:
        """Take an answer.

        Raises:
            QueueUnavailableError: if it is out of order, so that the stream cannot be trusted.
        """
        lane = self._sends.pop(request_id, None)
        if lane is None:
            return
        if lane.in_flight[0].request_id != request_id:
            raise QueueUnavailableError("the queue answers a partition's requests out of order")
        request = lane.in_flight.popleft()
        self._ready[lane] = None
        if isinstance(outcome, Receipt):
            lane.flowing = True
            lane.trouble = ""
            lane.backoff.reset()
            self._on_settled(request.batch)
            request.batch.succeed(outcome)
        elif isinstance(outcome, ProducerFencedError):
            lane.fenced = outcome
            self._take_back(lane)
            self._fail(request.batch, outcome)
            while lane.waiting:
                self._fail(lane.waiting.popleft().batch, outcome)
        elif outcome.retriable:
            self._take_back(lane, request)
            wait_s = lane.backoff.next_s() if outcome.retry_after_s is None else outcome.retry_after_s
            lane.trouble = outcome.message
            lane.hold_until = now + wait_s
            self._held.add(lane)
        elif request.batch.explicit_sequence is not None:
            self._take_back(lane)
            self._fail(request.batch, outcome)
            self._fail_counted(lane, request.first_sequence)
        elif isinstance(outcome, SequenceGapError) and not request.restarted:
            request.restarted = True
            self._take_back(lane, request)
            lane.epoch += 1
        else:
            self._take_back(lane)
            lane.epoch += 1
            self._fail(request.batch, outcome)

    def take_back_all(self) -> None:
        """The stream is gone: what is in flight on it must go out again."""
        for lane in self._lanes.values():
            self._take_back(lane)

    def fail_all(self, error: QueueClientError) -> None:
        """Fail everything that is here."""
        self.take_back_all()
        for lane in self._lanes.values():
            while lane.waiting:
                self._fail(lane.waiting.popleft().batch, error)

    def expire(self, now: float) -> bool:
        """Fail what has waited for too long, and return whether any of it was in flight: then the stream is stuck."""
        stuck = False
        if self.delivery_timeout_s is None:
            return stuck
        for lane in self._lanes.values():
            while (oldest := lane.oldest()) is not None and oldest.batch.accepted_at + self.delivery_timeout_s <= now:
                if lane.in_flight:
                    stuck = True
                    del self._sends[lane.in_flight.popleft().request_id]
                else:
                    lane.waiting.popleft()
                self._ready[lane] = None
                why = lane.trouble or self.trouble or "the queue has not answered"
                self._fail(
                    oldest.batch, DeliveryTimeoutError(f"not confirmed within {self.delivery_timeout_s:g} s: {why}")
                )
        return stuck

    def next_expiry_at(self) -> float | None:
        """When :meth:`expire` will have something to do."""
        if self.delivery_timeout_s is None:
            return None
        heads = (lane.oldest() for lane in self._lanes.values())
        return min(
            (head.batch.accepted_at + self.delivery_timeout_s for head in heads if head is not None), default=None
        )

    def next_retry_at(self) -> float | None:
        """When a lane that was asked to wait may go on."""
        return min((lane.hold_until for lane in self._held), default=None)

    def unsettled(self) -> Iterator[Batch]:
        """All batches that have neither succeeded nor failed."""
        for lane in self._lanes.values():
            yield from (request.batch for request in (*lane.in_flight, *lane.waiting))

    def _take_back(self, lane: _Lane, oldest: _Request | None = None) -> None:
        for request in lane.in_flight:
            del self._sends[request.request_id]
        lane.waiting.extendleft(reversed(lane.in_flight))
        lane.in_flight.clear()
        if oldest is not None:
            lane.waiting.appendleft(oldest)
        lane.flowing = False
        self._ready[lane] = None

    def _fail_counted(self, lane: _Lane, missing: int) -> None:
        counted = [request.batch for request in lane.waiting if request.batch.explicit_sequence is not None]
        lane.waiting = deque(request for request in lane.waiting if request.batch.explicit_sequence is None)
        for batch in counted:
            self._fail(batch, SequenceGapError(f"sequence {missing} before it was not stored"))

    def _fail(self, batch: Batch, error: QueueClientError) -> None:
        self._on_settled(batch)
        batch.fail(error)


@dataclass(slots=True, eq=False)
class _Request:
    batch: Batch
    first_sequence: int
    request_id: str = ""
    restarted: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    epoch: int
    next_sequence: int
    waiting: deque[_Request] = field(default_factory=deque)
    in_flight: deque[_Request] = field(default_factory=deque)
    flowing: bool = False
    hold_until: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)
    fenced: ProducerFencedError | None = None
    trouble: str = ""

    def may_send(self, now: float) -> bool:
        return bool(self.waiting) and (self.flowing or not self.in_flight) and self.hold_until <= now

    def oldest(self) -> _Request | None:
        if self.in_flight:
            return self.in_flight[0]
        return self.waiting[0] if self.waiting else None
