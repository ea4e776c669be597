"""Who still reads what has been replaced: files are deleted only after everybody has gone who may know of them."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Thing = TypeVar("_Thing")


class Leases(Generic[_Thing]):
    """Readers hold a lease while they read; things that are put aside come due when all leases older than that ended.

    Safe to use from several threads. A reader takes its lease before it looks at what there is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._held: Counter[int] = Counter()
        self._aside: deque[tuple[int, _Thing]] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a lease."""
        with self._lock:
            mine = self._now
            self._held[mine] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[mine] -= 1
                if not self._held[mine]:
                    del self._held[mine]

    def put_aside(self, thing: _Thing) -> None:
        """Keep a thing, which nobody finds any more, for those who found it before."""
        with self._lock:
            self._aside.append((self._now, thing))
            self._now += 1

    def due(self) -> list[_Thing]:
        """Take the things that nobody reads any more."""
        with self._lock:
            oldest = min(self._held, default=self._now)
            things = []
            while self._aside and self._aside[0][0] < oldest:
                things.append(self._aside.popleft()[1])
            return things
