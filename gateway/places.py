"""Where GPUs are, as the beginning of an answer: it hardly ever changes, so it is put in JSON, and in gzip, once."""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import orjson

from telemetry.queue.shapes import Json
from telemetry.v1 import query_pb2

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

Coding = Literal["zstd", "gzip", ""]
"""How an answer is compressed, as `Content-Encoding` has it."""

GZIP_LEVEL: Final = 4
ZSTD_LEVEL: Final = 6
"""Of 10,000 GPUs with ten metrics, places included, 185 kB in 7 ms where gzip makes 239 kB; lower levels make more than
190 kB, and brotli takes longer for as much."""
INLINE_BYTES_MAX: Final = 128 << 10
"""More is compressed in a thread: others would wait for it."""


class Places:
    """Identity, host, index and model of the GPUs of an answer, a list each; the rest of the answer may follow."""

    def __init__(self, inventory: Mapping[str, query_pb2.Gpu], gpus: Sequence[str]) -> None:
        """Put together what ``inventory`` knows of ``gpus``; of one it does not know, the places are empty."""
        nothing = query_pb2.Gpu()
        known = [inventory.get(name, nothing) for name in gpus]
        self._inventory = inventory
        self.gpus: Final = gpus
        self.hosts: Final = [gpu.host for gpu in known]
        self.indexes: Final = [gpu.index for gpu in known]
        self.models: Final = [gpu.model for gpu in known]
        members = {"gpus": self.gpus, "hosts": self.hosts, "indexes": self.indexes, "models": self.models}
        self._text = orjson.dumps(members).removesuffix(b"}") + b","
        self._compressor = zlib.compressobj(GZIP_LEVEL, wbits=16 + zlib.MAX_WBITS)
        self._compressed = self._compressor.compress(self._text)

    def are_of(self, inventory: Mapping[str, query_pb2.Gpu], gpus: Sequence[str]) -> bool:
        """Whether they are those of these GPUs in this very inventory."""
        return self._inventory is inventory and self.gpus == gpus

    async def followed_by(self, members: Json, coding: Coding) -> bytes:
        """A JSON object that begins with the places and goes on with ``members``."""
        rest = orjson.dumps(members, option=orjson.OPT_UTC_Z).removeprefix(b"{")
        if not coding:
            return self._text + rest
        compress = self._gzip if coding == "gzip" else self._zstd
        if len(rest) > INLINE_BYTES_MAX:
            return await asyncio.to_thread(compress, rest)
        return compress(rest)

    def _zstd(self, rest: bytes) -> bytes:
        # It is quick enough to do the beginning again, and one frame for both is smaller.
        return zstd.compress(self._text + rest, ZSTD_LEVEL)

    def _gzip(self, rest: bytes) -> bytes:
        # A copy goes on where the one that has compressed the beginning stopped, checksum included.
        compressor = self._compressor.copy()
        return self._compressed + compressor.compress(rest) + compressor.flush()
