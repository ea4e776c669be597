"""Where GPUs are, as the beginning of an answer: it hardly ever changes, so it is put in JSON and compressed once."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from telemetry.queue.shapes import Json
from telemetry.v1 import query_pb2

GZIP_LEVEL: Final = 4
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

    async def followed_by(self, members: Json, *, gzipped: bool) -> bytes:
        """A JSON object that begins with the places and goes on with ``members``."""
        rest = orjson.dumps(members, option=orjson.OPT_UTC_Z).removeprefix(b"{")
        if not gzipped:
            return self._text + rest
        if len(rest) > INLINE_BYTES_MAX:
            return await asyncio.to_thread(self._gzip, rest)
        return self._gzip(rest)

    def _gzip(self, rest: bytes) -> bytes:
        # A copy goes on where the one that has compressed the beginning stopped, checksum included.
        compressor = self._compressor.copy()
        return self._compressed + compressor.compress(rest) + compressor.flush()
