"""A GPU's records out of both tiers as one stream in order of time, without a seam or a duplicate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl

from telemetry.model import TIMESTAMP
from telemetry.storage.cold.files import ColdFile, ColdFileError
from telemetry.storage.cold.reader import ColdReader
from telemetry.storage.samples import merge_instants
from telemetry.storage.store import Span


def cold_records(
    reader: ColdReader,
    files: Sequence[ColdFile],
    gpu: str,
    span: Span,
    names: Sequence[str],
    *,
    newest_first: bool,
    on_damage: Callable[[ColdFileError], None],
) -> Iterator[pl.DataFrame]:
    """Yield a GPU's records from cold files; what is in a file that cannot be read is left out."""
    while True:
        try:
            for frame in reader.records(files, gpu, span, names, newest_first=newest_first):
                yield frame
                last_us = _time_at(frame, -1)
                span = Span(span.start_us, last_us) if newest_first else Span(last_us + 1, span.end_us)
        except ColdFileError as error:
            on_damage(error)
            files = [file for file in files if file.path != error.path]
            continue
        return


def merge_in_order(
    older: Iterator[pl.DataFrame], newer: Iterator[pl.DataFrame], *, newest_first: bool
) -> Iterator[pl.DataFrame]:
    """Merge two streams of records, each in order of time; of one instant and metric the value of ``newer`` wins."""
    streams = [filter(len, older), filter(len, newer)]
    held = [next(stream, None) for stream in streams]
    times = pl.col(TIMESTAMP).dt.timestamp("us")
    while True:
        one, other = held
        if one is None or other is None:
            break
        ends = _time_at(one, -1), _time_at(other, -1)
        is_complete = times >= max(ends) if newest_first else times <= min(ends)
        merged = merge_instants(pl.concat([one.filter(is_complete), other.filter(is_complete)]))
        yield merged.reverse() if newest_first else merged
        for place, stream in enumerate(streams):
            rest = held[place].filter(~is_complete)  # type: ignore[union-attr]
            held[place] = rest if rest.height else next(stream, None)
    for place, stream in enumerate(streams):
        rest = held[place]
        if rest is not None:
            yield rest
            yield from stream


def _time_at(frame: pl.DataFrame, row: int) -> int:
    time: int = frame.get_column(TIMESTAMP).slice(row, 1).dt.timestamp("us").item()
    return time
