"""What a subscriber allows the queue to send. Pure bookkeeping."""

from __future__ import annotations

from typing import Final

from telemetry.v1 import queue_pb2

FLOW_MESSAGES_MAX: Final = 1_000_000
"""The most messages that one request may add."""


class Permits:
    """Permits that have come back and are to be given again, gathered so that not every delivery costs a request."""

    def __init__(self, messages: int, size: int) -> None:
        self._worth_messages = messages // 4
        self._worth_bytes = size // 4
        self._messages = 0
        self._bytes = 0

    def give_back(self, messages: int, size: int) -> None:
        """A delivery no longer occupies this client."""
        self._messages += messages
        self._bytes += size

    @property
    def waiting(self) -> bool:
        """Whether there is anything to give."""
        return self._messages > 0

    @property
    def urgent(self) -> bool:
        """Whether so much has come back that the queue should know at once."""
        return self._messages > self._worth_messages or self._bytes > self._worth_bytes

    def take(self) -> queue_pb2.SubscribeFlow:
        """What to give now."""
        messages = min(self._messages, FLOW_MESSAGES_MAX)
        flow = queue_pb2.SubscribeFlow(messages=messages, bytes=self._bytes)
        self._messages -= messages
        self._bytes = 0
        return flow
