"""How many requests and calls a second one caller may make, so that one who floods leaves something for the others."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Final

RATE_LIMIT: Final = 1_000
"""Requests and calls a second for each caller, unless said otherwise."""
BURST_S: Final = 10.0
"""Who has been quiet may make as many at once as in so many seconds: a whole fleet may share a token, and come back at
the same moment when a process has started again."""
CALLERS_MAX: Final = 10_000
"""Most callers remembered. Whoever was quiet for longest is forgotten first, and is then as one who is new."""


class Rates:
    """A token bucket for each caller, of which only the time is kept at which it will be full again."""

    def __init__(self, limit: float, clock: Callable[[], float] = monotonic) -> None:
        """Allow each caller ``limit`` requests a second."""
        self._each_s = 1.0 / limit
        self._ahead_s = BURST_S - self._each_s
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, caller: str) -> float:
        """Take one request of a caller; returns how long he has to wait before another try, 0.0 when it is allowed.

        What is refused costs the caller nothing.
        """
        now = self._clock()
        full_at = self._full_at.get(caller)
        if full_at is None:
            if len(self._full_at) >= CALLERS_MAX:
                self._full_at.popitem(last=False)
            self._full_at[caller] = now + self._each_s
            return 0.0
        self._full_at.move_to_end(caller)
        ahead_s = full_at - now
        if ahead_s > self._ahead_s:
            return ahead_s - self._ahead_s
        self._full_at[caller] = (full_at if ahead_s > 0.0 else now) + self._each_s
        return 0.0


@lru_cache(maxsize=CALLERS_MAX)
def network_of(address: str) -> str:
    """What counts as one caller among addresses: all of an IPv6 /64, since whoever has one of them has them all."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
