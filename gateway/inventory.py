"""Which GPUs there are: finding the one that somebody names, and the list of all, read at most once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from time import monotonic
from typing import Final

import grpc

from gateway.places import Places
from gateway.problems import ParameterError
from telemetry.query.fanout import Collectors
from telemetry.query.names import gpus_named
from telemetry.runtime.calls import UpstreamError
from telemetry.v1 import query_pb2

MAX_AGE_S: Final = 1.0
PLACES_MAX_AGE_S: Final = 30.0
"""For those who only want to know where a GPU is and what it is called: that hardly ever changes, and reading a large
fleet takes the collector long."""
PAGE_SIZE: Final = 10_000
CANDIDATES_MAX: Final = 5
"""How many GPUs an ambiguous name is answered with."""

Inventory = Mapping[str, query_pb2.Gpu]
"""GPUs by identity, in order."""


class Inventories:
    """Reads GPUs from the collectors. Methods raise :class:`~telemetry.runtime.calls.UpstreamError`."""

    def __init__(self, collectors: Collectors, clock: Callable[[], float] = monotonic) -> None:
        """Read from ``collectors``; ``clock`` tells how old the list of all is."""
        self._collectors = collectors
        self._clock = clock
        self._all: Inventory = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._places = Places({}, [])

    async def all(self, max_age_s: float = MAX_AGE_S) -> Inventory:
        """All GPUs, as they were within so many seconds."""
        asked_at = self._clock()
        async with self._reading:
            if asked_at - self._read_at > max_age_s:
                self._all = await self._read()
                self._read_at = self._clock()
            return self._all

    async def refreshed(self) -> Inventory:
        """All GPUs, read again: somebody has seen one that :meth:`all` lacks."""
        asked_at = self._clock()
        async with self._reading:
            if self._read_at < asked_at:
                self._all = await self._read()
                self._read_at = self._clock()
            return self._all

    async def places(self, gpus: Sequence[str]) -> Places:
        """Where these GPUs are, as far as is known; all is read again if one has just come."""
        known = await self.all(PLACES_MAX_AGE_S)
        if not self._places.are_of(known, gpus):
            if any(name not in known for name in gpus):
                # One that is unknown even then may be known in a moment, so this is not kept.
                return Places(await self.refreshed(), gpus)
            self._places = Places(known, gpus)
        return self._places

    async def find(self, name: str, parameter: str = "gpu") -> query_pb2.Gpu:
        """The GPU of this identity, else with this ``host/index``, else the only one whose identity begins so.

        Raises:
            ParameterError: 404 when there is none, 409 with candidates when there are several.
        """
        if not name:
            raise ParameterError(parameter, "no GPU is named", HTTPStatus.NOT_FOUND)
        found = await gpus_named(self._collectors, name, CANDIDATES_MAX)
        if not found.gpus and found.completeness.partial:
            # It may well be on a collector that did not answer.
            reason = f"no collector that answers has GPU {name!r}; {'; '.join(found.completeness.warnings)}"
            raise UpstreamError("collector", self._collectors.address, grpc.StatusCode.UNAVAILABLE, reason)
        if not found.gpus:
            raise ParameterError(parameter, f"there is no GPU {name!r}", HTTPStatus.NOT_FOUND)
        if len(found.gpus) > 1:
            raise ParameterError(
                parameter,
                f"{name!r} could be any of {found.total} GPUs; say more of its identity",
                HTTPStatus.CONFLICT,
                candidates=[each.gpu for each in found.gpus],
            )
        return found.gpus[0]

    async def _read(self) -> Inventory:
        gpus: dict[str, query_pb2.Gpu] = {}
        token = ""
        while True:
            request = query_pb2.ListGpusRequest(page_size=PAGE_SIZE, page_token=token)
            page = await self._collectors.list_gpus(request)
            gpus.update((each.gpu, each) for each in page.gpus)
            token = page.next_page_token
            if not token:
                return gpus
