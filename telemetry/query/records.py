"""Records of several collectors as one stream: GPU by GPU, in order of time, each record once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Final

from telemetry.query.collector import CollectorClient
from telemetry.query.fleet import Holding
from telemetry.query.members import REFUSALS, leave_out, none_answers, note
from telemetry.runtime.calls import UpstreamError
from telemetry.v1 import query_pb2

PIECE_RECORDS: Final = 1_000
"""Most records in a piece."""


class _Cursor:
    """What one collector has yet to give. It holds one piece at a time."""

    def __init__(self, collector: CollectorClient, pieces: AsyncIterator[query_pb2.StreamRecordsResponse]) -> None:
        self.collector = collector
        self.error: UpstreamError | None = None
        self.completeness = query_pb2.Completeness()
        self._pieces = pieces
        self._records: Sequence[query_pb2.Record] = ()
        self._at = 0

    async def head(self) -> query_pb2.Record | None:
        """The next record; ``None`` at the end, and after a failure, which is then in :attr:`error`."""
        while self._at >= len(self._records):
            try:
                piece = await anext(self._pieces, None)
            except UpstreamError as error:
                if error.code in REFUSALS:
                    raise
                self.error, self._records, self._at = error, (), 0
                return None
            if piece is None:
                return None
            self._records, self._at = piece.records, 0
            self.completeness.MergeFrom(piece.completeness)
        return self._records[self._at]

    def step(self) -> None:
        """Go past the next record."""
        self._at += 1

    def run(self) -> Sequence[query_pb2.Record]:
        """Take the records of the next one's GPU that are here."""
        gpu = self._records[self._at].gpu
        start = self._at
        self._at = bisect_right(self._records, gpu, lo=start, key=lambda record: record.gpu)
        return self._records[start : self._at]


async def merged(
    collectors: Sequence[CollectorClient],
    request: query_pb2.StreamRecordsRequest,
    *,
    fleet: Mapping[str, Holding],
    newest_first: bool,
    patient: bool,
    completeness: query_pb2.Completeness,
) -> AsyncGenerator[Sequence[query_pb2.Record]]:
    """Yield records in pieces; what is missing is written into ``completeness``.

    Records of one GPU and instant are one record; of two values that of the collector counts that has the GPU's newest
    record, since it took over from the other.

    Args:
        collectors: whom to ask.
        request: what to ask each.
        fleet: who holds which GPUs.
        newest_first: the order of time that it asks for.
        patient: as in :meth:`CollectorClient.stream_records`.
        completeness: what is missing is added here.

    Raises:
        UpstreamError: if one refuses, or all fail.
    """
    async with AsyncExitStack() as stack:
        cursors = [
            _Cursor(each, await stack.enter_async_context(aclosing(each.stream_records(request, patient=patient))))
            for each in collectors
        ]
        active = list(cursors)
        while True:
            heads = [(cursor, head) for cursor in active if (head := await cursor.head()) is not None]
            active = [cursor for cursor, _ in heads]
            if not heads:
                break
            gpu = min(head.gpu for _, head in heads)
            having = [cursor for cursor, head in heads if head.gpu == gpu]
            if len(having) == 1:
                yield having[0].run()
            else:
                having.sort(key=partial(_rank, fleet.get(gpu)))
                async for piece in _one_gpu(gpu, having, newest_first=newest_first):
                    yield piece
        failed = [cursor.error for cursor in cursors if cursor.error]
        if failed and len(failed) == len(cursors):
            raise none_answers(failed)
        for cursor in cursors:
            note(completeness, cursor.collector, cursor.completeness)
        for error in failed:
            leave_out(completeness, error)


def _rank(holding: Holding | None, cursor: _Cursor) -> int:
    """Where a collector stands among a GPU's holders."""
    holders = [holder.collector.address for holder in holding.holders] if holding else []
    return holders.index(cursor.collector.address) if cursor.collector.address in holders else len(holders)


async def _one_gpu(
    gpu: str, cursors: Sequence[_Cursor], *, newest_first: bool
) -> AsyncIterator[Sequence[query_pb2.Record]]:
    """The records of one GPU that several collectors have; the values of the first count."""
    sign = -1 if newest_first else 1
    piece: list[query_pb2.Record] = []
    while True:
        heads = []
        for cursor in cursors:
            head = await cursor.head()
            if head is not None and head.gpu == gpu:
                heads.append((sign * head.timestamp.ToMicroseconds(), cursor, head))
        if not heads:
            break
        first = min(time for time, _, _ in heads)
        same = [(cursor, head) for time, cursor, head in heads if time == first]
        record = same[0][1]
        for _, other in same[1:]:
            for name, value in other.metrics.items():
                if name not in record.metrics:
                    record.metrics[name] = value
        piece.append(record)
        for cursor, _ in same:
            cursor.step()
        if len(piece) >= PIECE_RECORDS:
            yield piece
            piece = []
    if piece:
        yield piece
