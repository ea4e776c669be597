"""The balance at the end of a play: what was published against what is stored, by every way of reading."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.queue.client import partition_of_key
from telemetry.topics import DATA
from tests.ledger.checks import asking, differences, files_of, records_of, wrong_latest, wrong_series
from tests.ledger.input import METRICS
from tests.ledger.play import Play


@dataclass(slots=True)
class Balance:
    """What came out.

    Attributes:
        records: records that were published.
        twice: records that more than one collector has.
        twice_in: the partitions of these.
        problems: whatever is wrong.
    """

    records: int = 0
    twice: int = 0
    twice_in: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


async def balance(play: Play) -> Balance:
    """Wait until all is stored, and compare. Afterwards the collectors have ended."""
    await play.until_done()
    truth = play.input.truth()
    books = Balance(truth.height)
    found = books.problems
    for collector in play.collectors:
        await play.until_ready(collector)  # the last to be killed may still be starting
        stats = play.stats(collector)
        found += [f"{collector.name}: {stats[name]} {name}" for name in ("conflicts", "quarantined") if stats[name]]
        # A start removes what nobody vouches for, so that the files by themselves are as good as the store.
        await collector.end()
        collector.start()
        await play.until_ready(collector)
    streams = []
    for collector, address in zip(play.collectors, play.addresses, strict=True):
        async with asking([address]) as alone:
            streams.append(await records_of(alone))
        found += differences(f"StreamRecords of {collector.name}", streams[-1], truth, whole=False)
    async with asking(play.addresses) as together:
        found += differences("StreamRecords", await records_of(together), truth)
        found += [wrong async for wrong in wrong_series(together, truth)]
        found += [wrong async for wrong in wrong_latest(together, truth)]
    for collector in play.collectors:
        await collector.end()
    files = [files_of(play.folders[collector.name]) for collector in play.collectors]
    for collector, mine, streamed in zip(play.collectors, files, streams, strict=True):
        found += differences(f"files of {collector.name}", mine, truth, whole=False)
        if mine.height != streamed.height:
            found.append(f"{collector.name} has {mine.height} records in its files and tells {streamed.height}")
    counts = pl.concat(files).group_by(GPU, TIMESTAMP, *METRICS).len()
    found += differences("files", counts, truth)
    twice = counts.filter(pl.col("len") > 1)
    books.twice = twice.height
    books.twice_in = {partition_of_key(gpu, DATA.partitions) for gpu in twice[GPU].unique()}
    print(
        f"{books.records} records, {books.twice} of them in two collectors; {play.input.again} messages published again"
    )
    return books
