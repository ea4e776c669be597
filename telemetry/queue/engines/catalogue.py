"""The seam to where topics, groups and positions are kept, beside the log."""

from __future__ import annotations

from typing import Protocol

from telemetry.queue.core.cursor import Cursor
from telemetry.queue.core.delivery import Piece
from telemetry.queue.core.groups import GroupState
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.topics import TopicState


class Catalogue(Protocol):
    """Keeps what is not in the log. Everything but ``commit`` returns at once and takes effect with the next commit."""

    def put_topic(self, topic: TopicState) -> None: ...
    def delete_topic(self, topic: TopicState) -> None: ...
    def put_group(self, group: GroupState) -> None: ...
    def delete_group(self, group: GroupState) -> None: ...
    def put_cursor(self, cursor: Cursor) -> None: ...
    def put_start(self, partition: Partition) -> None: ...
    def put_attempts(self, piece: Piece) -> None: ...
    def forget_attempts(self, cursor: Cursor) -> None: ...

    def request_commit(self) -> None:
        """See to it that everything so far becomes durable before long, without waiting for that."""
        ...

    async def commit(self) -> None:
        """Wait until everything so far is durable."""
        ...


class NoCatalogue:
    """Keeps nothing: for an engine whose topics and groups go with the process."""

    def put_topic(self, topic: TopicState) -> None:
        """Nothing to do."""

    def delete_topic(self, topic: TopicState) -> None:
        """Nothing to do."""

    def put_group(self, group: GroupState) -> None:
        """Nothing to do."""

    def delete_group(self, group: GroupState) -> None:
        """Nothing to do."""

    def put_cursor(self, cursor: Cursor) -> None:
        """Nothing to do."""

    def put_start(self, partition: Partition) -> None:
        """Nothing to do."""

    def put_attempts(self, piece: Piece) -> None:
        """Nothing to do."""

    def forget_attempts(self, cursor: Cursor) -> None:
        """Nothing to do."""

    def request_commit(self) -> None:
        """Nothing to do."""

    async def commit(self) -> None:
        """Nothing to wait for."""
