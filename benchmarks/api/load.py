"""Asks over kept-alive connections as fast as answers come, with as little of Python as that needs."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter
from typing import Final, cast

HOST: Final = "127.0.0.1"
_LENGTH: Final = b"content-length: "


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it; latencies are in seconds, in order of size."""

    requests: int
    wall_s: float
    latencies_s: Sequence[float]
    body_bytes: int

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.wall_s

    def quantile(self, share: float) -> float:
        """The latency that this share of the requests did not exceed."""
        return self.latencies_s[min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))]


def request(path: str, port: int, headers: Mapping[str, str]) -> bytes:
    """A request as bytes."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{more}\r\n".encode()


class _Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next."""

    def __init__(self, requests: Iterator[bytes], latencies: array[float], until: float) -> None:
        self._requests = requests
        self._latencies = latencies
        self._until = until
        self._sent = 0.0
        self._waiting = b""
        self._missing = 0
        self.body_bytes = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._waiting += data
            end = self._waiting.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._waiting.startswith(b"HTTP/1.1 200"):
                self._fail(self._waiting[:200])
                return
            start = self._waiting.find(_LENGTH) + len(_LENGTH)
            self.body_bytes = int(self._waiting[start : self._waiting.find(b"\r", start)])
            self._missing = self.body_bytes - (len(self._waiting) - end - 4)
            self._waiting = b""
        if self._missing == 0:
            now = perf_counter()
            self._latencies.append(now - self._sent)
            if now < self._until:
                self._send()
            else:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self._sent = perf_counter()
        self._transport.write(next(self._requests))

    def _fail(self, answer: bytes) -> None:
        self.ended.set_exception(RuntimeError(f"not the answer that was wanted: {answer!r}"))
        self._transport.close()


async def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Measured:
    """Ask for ``seconds``; requests are taken in turn by all connections.

    Raises:
        RuntimeError: if an answer is not 200.
    """
    loop = asyncio.get_running_loop()
    latencies = array("d")
    began = perf_counter()
    turns = cycle(requests)
    all_of_them = [
        (await loop.create_connection(lambda: _Connection(turns, latencies, began + seconds), HOST, port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(each.ended for each in all_of_them))
    return Measured(len(latencies), perf_counter() - began, sorted(latencies), all_of_them[0].body_bytes)
