"""A publisher for scripts that have no event loop: it brings one, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from telemetry.queue.clients.batches import OutgoingMessage
from telemetry.queue.clients.publisher import Publisher
from telemetry.queue.clients.topics import Storage
from telemetry.queue.core.types import Receipt
from telemetry.runtime.credentials import Credentials

_Result = TypeVar("_Result")


class BlockingPublisher:
    """The calls of :class:`Publisher` that scripts need; each blocks until it is done. May be used from several
    threads."""

    def __init__(
        self,
        address: str,
        producer_id: str = "",
        delivery_timeout_s: float | None = 120.0,
        credentials: Credentials | None = None,
    ) -> None:
        """Open a publisher to ``address``, ``host:port``; :meth:`Publisher.__init__` explains the rest."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="publisher", daemon=True)
        self._thread.start()
        # asyncio's locks bind to the loop in which they are first used, which is the thread's.
        self._publisher = Publisher(
            address, producer_id, delivery_timeout_s=delivery_timeout_s, credentials=credentials
        )
        self._run(self._publisher.start())

    def ensure_topic(self, topic: str, partitions: int = 1, storage: Storage | None = None) -> int:
        """Make a topic unless it is there; returns the partitions that it has."""
        return self._run(self._publisher.ensure_topic(topic, partitions, storage))

    def publish(
        self,
        topic: str,
        data: bytes,
        attributes: Mapping[str, str] | None = None,
        ordering_key: str | None = None,
    ) -> Receipt:
        """Publish one message and wait until it is confirmed."""
        return self._run(self._publisher.publish(topic, data, attributes, ordering_key))

    def publish_batch(self, topic: str, messages: Sequence[OutgoingMessage], *, partition: int) -> Receipt:
        """Publish messages as one request to one partition and wait until it is confirmed."""
        return self._run(self._publisher.publish_batch(topic, messages, partition=partition))

    def close(self) -> None:
        """Flush and close."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._publisher.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> BlockingPublisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
