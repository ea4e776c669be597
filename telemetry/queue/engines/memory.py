"""The memory engine: a queue whose messages, topics and groups go with the process."""

from __future__ import annotations

from telemetry.queue.core.limits import DEFAULT_LIMITS, Limits
from telemetry.queue.core.topics import TopicDefaults
from telemetry.queue.core.types import Storage
from telemetry.queue.engines.catalogue import NoCatalogue
from telemetry.queue.engines.driver import Clock, system_clock
from telemetry.queue.engines.local import LocalEngine
from telemetry.queue.engines.memory_log import MemoryLog


class MemoryEngine(LocalEngine):
    """A `QueueEngine` in memory."""

    name = "memory"

    def __init__(
        self, *, create_missing_topics: bool = True, limits: Limits = DEFAULT_LIMITS, clock: Clock = system_clock
    ) -> None:
        """Make an engine.

        Args:
            create_missing_topics: whether publishing and subscribing to a topic that does not exist makes it.
            limits: what is refused because it is too much.
            clock: the time, for tests.
        """
        defaults = TopicDefaults(Storage.MEMORY, {Storage.MEMORY: limits.memory_partition_bytes}, limits)
        super().__init__(defaults, create_missing_topics=create_missing_topics, clock=clock)
        self._logs = {Storage.MEMORY: MemoryLog(self)}
        self._catalogue = NoCatalogue()
