"""What cannot be known yet: after a start or a gap in the feed, which alerts stay as they are. No I/O.

A GPU that says nothing and a feed that says nothing look alike to an expression. They are told apart here: while no GPU
at all is heard of, it is the feed, and nothing is evaluated. When it is back, an alert about a GPU waits until that GPU
is heard of, or for so long that it should have been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from telemetry.alerts.alert import GPU_LABEL, HOST_LABEL
from telemetry.alerts.state import NOTHING_HELD, Held

SILENT_US: Final = 15_000_000
"""A feed that brings nothing for so long is silent; in microseconds, as all of these."""

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


class Warmup:
    """Follows the feed."""

    def __init__(self, now_us: int) -> None:
        """Begin with a feed that has brought nothing, and an evaluator that knows nothing."""
        self._cold_us = self._resumed_us = now_us
        self._heard: set[str] = set()
        self._hosts: set[str] = set()
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
        self.started, self.last_us = True, now_us

    def is_silent(self, now_us: int) -> bool:
        """Whether the feed, and not single GPUs, says nothing."""
        return not self.started or now_us - self.last_us > SILENT_US

    def held(self, range_us: int, now_us: int) -> Held:
        """What cannot be known of a rule whose expression looks back ``range_us``."""
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
