"""The memory engine: a queue whose messages, topics and groups go with the process."""

from __future__ import annotations

from typing import Final

from telemetry.queue.core.topics import TopicDefaults
from telemetry.queue.core.types import Storage
from telemetry.queue.engines.catalogue import NoCatalogue
from telemetry.queue.engines.local import Clock, LocalEngine, system_clock
from telemetry.queue.engines.memory_log import MemoryLog

MEMORY_PARTITION_BYTES: Final = 256 << 20
"""At how many bytes a partition in memory is full, unless its topic says otherwise."""


class MemoryEngine(LocalEngine):
    """A `QueueEngine` in memory."""

    name = "memory"

    def __init__(self, *, create_missing_topics: bool = True, clock: Clock = system_clock) -> None:
        """Make an engine.

        Args:
            create_missing_topics: whether publishing and subscribing to a topic that does not exist makes it.
            clock: the time, for tests.
        """
        defaults = TopicDefaults(Storage.MEMORY, {Storage.MEMORY: MEMORY_PARTITION_BYTES})
        super().__init__(defaults, create_missing_topics=create_missing_topics, clock=clock)
        self._logs = {Storage.MEMORY: MemoryLog(self)}
        self._catalogue = NoCatalogue()
