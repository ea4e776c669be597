"""What cannot be known yet: after a start or a gap in the feed, which alerts stay as they are. No I/O.

A GPU that says nothing and a feed that says nothing look alike to an expression. They are told apart here: while no GPU
at all is heard of, it is the feed, and nothing is evaluated. When it is back, an alert about a GPU waits until that GPU
is heard of, or for so long that it should have been.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from telemetry.alerts.alert import GPU_LABEL, HOST_LABEL
from telemetry.alerts.state import NOTHING_HELD, Held

SILENT_US: Final = 15_000_000
"""A feed that brings nothing for so long is silent, if it usually brings something more often than that; in
microseconds, as all of these."""

SILENT_US_MAX: Final = 80_000_000
"""However seldom it usually does. Less than the 90 s after which the rule pack takes a GPU for lost: when all sources
end, those that spoke first in their last round must not be lost before the feed is known to be silent."""

PAUSE_US: Final = 5_000_000
"""A feed that brings nothing for so long pauses."""

PAUSES_US: Final = 600_000_000
"""For how long a pause tells of what is usual."""

GPU_SILENT_US: Final = 90_000_000
"""A GPU that is not heard of for so long after the feed is back is silent by itself. Its labels, without which nobody
knows which GPU it is, come once a minute."""

LOOKBACK_US: Final = 300_000_000
"""How long a sample counts; alerts about a GPU not heard of are not resolved before."""

PAST_US_MAX: Final = 600_000_000
"""An alert whose rule looks back further than this is not resolved for so long after a start; or as long as its rule
looks back, if the GPU or host that it is about is not heard of."""

SETTLE_US: Final = 10_000_000
"""How long alerts about many GPUs wait for the GPUs to be heard of."""


class _Rhythm:
    """How long the feed usually pauses: sources that are asked once a minute may all be asked at the same time."""

    def __init__(self) -> None:
        self._pauses: deque[tuple[int, int]] = deque()
        self.silent_us = SILENT_US
        """A pause of so long is not usual."""

    def hear(self, last_us: int, now_us: int) -> None:
        """Take note that something came after the time before."""
        while self._pauses and self._pauses[0][0] < now_us - PAUSES_US:
            self._pauses.popleft()
        if now_us - last_us > PAUSE_US:
            self._pauses.append((now_us, now_us - last_us))
        # What happened once is an outage, what happened twice is how it is.
        usual_us = sorted(length for _, length in self._pauses)[-2] if len(self._pauses) > 1 else 0
        # A quarter and two seconds more is chance.
        self.silent_us = min(max(SILENT_US, usual_us * 5 // 4 + 2_000_000), SILENT_US_MAX)


class Warmup:
    """Follows the feed."""

    def __init__(self, now_us: int) -> None:
        """Begin with a feed that has brought nothing, and an evaluator that knows nothing."""
        self._cold_us = self._resumed_us = now_us
        self._heard: set[str] = set()
        self._hosts: set[str] = set()
        self._rhythm = _Rhythm()
        self.last_us = now_us
        """When the feed last brought something; at first, the beginning."""
        self.started = False
        """Whether it ever did."""

    def forget(self, now_us: int) -> None:
        """Begin again with an evaluator that knows nothing: the rules are new."""
        self._cold_us = self._resumed_us = now_us
        self._heard, self._hosts = set(), set()

    def hear(self, gpus: Iterable[str], hosts: Iterable[str], now_us: int) -> None:
        """Take note that the feed brought something, and of which GPUs and hosts it could be taken."""
        if self.is_silent(now_us):
            self._resumed_us, self._heard, self._hosts = now_us, set(), set()
        self._heard.update(gpus)
        self._hosts.update(hosts)
        if self.started:
            self._rhythm.hear(self.last_us, now_us)
        self.started, self.last_us = True, now_us

    def is_silent(self, now_us: int) -> bool:
        """Whether the feed, and not single GPUs, says nothing."""
        return not self.started or now_us - self.last_us > self._rhythm.silent_us

    def held(self, range_us: int, now_us: int) -> Held:
        """What cannot be known of a rule whose expression looks back ``range_us``."""
        if now_us < self._resumed_us - SETTLE_US:  # the clock was set back
            self._cold_us, self._resumed_us = min(self._cold_us, now_us), now_us
        longest_us = max(self._resumed_us + LOOKBACK_US, self._cold_us + range_us)
        if now_us >= longest_us:
            return NOTHING_HELD
        return _Held(self._heard, self._hosts, now_us - self._resumed_us, range_us, now_us - self._cold_us)


class _Held(Held):
    def __init__(self, heard: set[str], hosts: set[str], since_us: int, range_us: int, known_us: int) -> None:
        self._heard, self._hosts, self._since_us = heard, hosts, since_us
        self._range_us, self._known_us = range_us, known_us

    def activation(self, labels: Mapping[str, str]) -> bool:
        gpu = labels.get(GPU_LABEL)
        if gpu is None:
            return self._since_us < SETTLE_US
        return self._since_us < GPU_SILENT_US and gpu not in self._heard

    def resolution(self, labels: Mapping[str, str]) -> bool:
        gpu, host = labels.get(GPU_LABEL), labels.get(HOST_LABEL)
        if gpu is not None:
            heard = gpu in self._heard
        else:
            heard = self._since_us >= GPU_SILENT_US and (host is None or host in self._hosts)
        if self._known_us < (min(self._range_us, PAST_US_MAX) if heard else self._range_us):
            return True
        return not heard and self._since_us < LOOKBACK_US
