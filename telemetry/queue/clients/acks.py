"""Outcomes on their way to the queue: gathered into requests, and matched with answers. Pure bookkeeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.duration_pb2 import Duration

from telemetry.queue.clients.errors import QueueClientError, QueueUnavailableError, error_from_status
from telemetry.queue.clients.events import Settlement
from telemetry.queue.core.types import AckStatus, Outcome
from telemetry.v1 import queue_pb2

ENTRIES_MAX: Final = 10_000
"""The most entries in one request."""

REQUESTS_MAX: Final = 16
"""The most requests that may be unanswered."""

Answered = Callable[[AckStatus | QueueClientError], None]
"""Called once with what became of an entry."""

_OUTCOMES: Final = {
    Outcome.ACK: queue_pb2.ACK_OUTCOME_ACK,
    Outcome.NACK: queue_pb2.ACK_OUTCOME_NACK,
    Outcome.EXTEND: queue_pb2.ACK_OUTCOME_EXTEND,
    Outcome.TERMINATE: queue_pb2.ACK_OUTCOME_TERMINATE,
}

_STATUSES: Final = {
    queue_pb2.ACK_STATUS_OK: AckStatus.OK,
    queue_pb2.ACK_STATUS_STALE: AckStatus.STALE,
    queue_pb2.ACK_STATUS_UNKNOWN: AckStatus.UNKNOWN,
}


class Acks:
    """Entries wait, then are in flight in requests that are answered in order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[queue_pb2.AckEntry, Answered]] = deque()
        self._in_flight: deque[_Request] = deque()
        self._sent = 0

    def add(self, delivery_id: str, settlement: Settlement, answered: Answered) -> None:
        """Put an entry at the end."""
        entry = queue_pb2.AckEntry(
            delivery_id=delivery_id, outcome=_OUTCOMES[settlement.outcome], reason=settlement.reason
        )
        if settlement.delay_s is not None:
            delay = Duration()
            delay.FromNanoseconds(int(settlement.delay_s * 1e9))
            entry.delay.CopyFrom(delay)
        self._waiting.append((entry, answered))

    @property
    def waiting(self) -> int:
        """Entries that are in no request yet."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return len(self._in_flight)

    def take(self, now: float) -> queue_pb2.AckRequest | None:
        """The next request to write, if there is one and few enough are unanswered."""
        if not self._waiting or len(self._in_flight) >= REQUESTS_MAX:
            return None
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), ENTRIES_MAX))]
        self._sent += 1
        request_id = str(self._sent)
        self._in_flight.append(_Request(request_id, now, [answered for _, answered in taken]))
        return queue_pb2.AckRequest(request_id=request_id, entries=[entry for entry, _ in taken])

    def answer(self, response: queue_pb2.AckResponse) -> None:
        """Take an answer.

        Raises:
            QueueUnavailableError: if it is not the answer to the oldest request, so that the stream cannot be trusted.
        """
        if not self._in_flight or self._in_flight[0].request_id != response.request_id:
            raise QueueUnavailableError("the queue answers acks out of order")
        oldest = self._in_flight[0]
        outcomes: list[AckStatus | QueueClientError]
        if response.HasField("error"):
            outcomes = [error_from_status(response.error)] * len(oldest.answered)
        else:
            outcomes = [_STATUSES.get(result.status, AckStatus.UNKNOWN) for result in response.results]
        if len(outcomes) != len(oldest.answered):
            raise QueueUnavailableError(f"the queue answers {len(outcomes)} of {len(oldest.answered)} acks")
        self._in_flight.popleft()
        for answered, outcome in zip(oldest.answered, outcomes, strict=True):
            answered(outcome)

    def oldest_at(self) -> float | None:
        """When the oldest unanswered request was taken."""
        return self._in_flight[0].taken_at if self._in_flight else None

    def abandon(self) -> None:
        """The session is over: whatever is not answered counts as STALE."""
        left = [answered for request in self._in_flight for answered in request.answered]
        left += [answered for _, answered in self._waiting]
        self._in_flight.clear()
        self._waiting.clear()
        for answered in left:
            answered(AckStatus.STALE)


@dataclass(frozen=True, slots=True)
class _Request:
    request_id: str
    taken_at: float
    answered: Sequence[Answered]
