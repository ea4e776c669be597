"""What to compact and what to delete now: plans made of what there is, the time and the rules. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Final

from telemetry.storage.cold.files import DAY_US, ColdFile, Level, Window
from telemetry.storage.regions import overlaps
from telemetry.storage.tiered import Closed

GRACE_US: Final = 10 * 60_000_000
"""A window is over so long after its end and the age at which records move; most late records have come by then."""

JOB_BYTES: Final = 512 << 20
"""A job takes closed segments of about so many bytes."""

SETTLED_US: Final = DAY_US
"""Records are not deleted for their age before they have been in the cold tier for so long: their window must have the
time to be merged with others that came with them."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the cold tiers keep what they have; 0 means forever.

    Attributes:
        raw_us: records, by age.
        minutes_us: 1-minute roll-ups.
        hours_us: 1-hour roll-ups.
        raw_bytes: records, by the bytes of all of them; the oldest go first.
    """

    raw_us: int = 0
    minutes_us: int = 0
    hours_us: int = 0
    raw_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Merge:
    """What goes into one job, and what its result replaces.

    Attributes:
        segments: closed segments.
        files: files of records, in the order of their generations.
        rollups: the roll-ups of those files, which go with them.
        minutes_of: files of records that stay and get a roll-up by the minute.
    """

    segments: Sequence[Closed] = ()
    files: Sequence[ColdFile] = ()
    rollups: Sequence[ColdFile] = ()
    minutes_of: Sequence[ColdFile] = ()


def moves(closed: Sequence[Closed]) -> Iterator[Merge]:
    """Closed segments, which come by GPU and in order, as jobs of a bearable size."""
    batch: list[Closed] = []
    size = 0
    for each in closed:
        if batch and size + each.file.length > JOB_BYTES:
            yield Merge(batch)
            batch, size = [], 0
        batch.append(each)
        size += each.file.length
    if batch:
        yield Merge(batch)


def merges(files: Sequence[ColdFile], now_us: int, after_us: int, damaged: Mapping[str, str]) -> Iterator[Merge]:
    """Windows that are over and lie in more than one layer of files.

    A day is left alone while one of its files is damaged: whatever is in that file must keep its place in the order.

    Args:
        files: all there are.
        now_us: what time it is.
        after_us: the age at which records move to the cold tier.
        damaged: the paths of files that cannot be read.
    """
    over_us = now_us - after_us - GRACE_US
    records = sorted((file for file in files if not file.level.is_rollup), key=_day)
    for day, group in groupby(records, key=_day):
        mine = list(group)
        if any(file.path in damaged for file in mine):
            continue
        if day.end_us <= over_us:
            if any(file.level is Level.HOUR for file in mine) or _is_layered(mine):
                yield _merge(mine, files)
            continue
        for window, hour_group in groupby(sorted(mine, key=lambda file: file.window), key=lambda file: file.window):
            hour = list(hour_group)
            if window.end_us <= over_us and len({file.generation for file in hour}) > 1:
                yield _merge(hour, files)


def departures(
    files: Sequence[tuple[ColdFile, int]],
    retention: Retention,
    now_us: int,
    newest_us: int,
    damaged: Mapping[str, str],
) -> Iterator[Merge]:
    """Files of records that are about to be deleted, each of which must get a roll-up by the minute before.

    Most have none, since it would take more room than it saves time while there are records; but it is kept for longer
    than they are.

    Args:
        files: all there are, and when each was taken in.
        retention: the rules.
        now_us: what time it is.
        newest_us: the newest record of all, see :func:`expired`.
        damaged: the paths of files that cannot be read.
    """
    rolled = {file.derived_from for file, _ in files if file.level is Level.MINUTE_ROLLUP}
    oldest_us = min(now_us, newest_us) - retention.minutes_us if retention.minutes_us else None
    for file in _leaving(files, retention, now_us, newest_us):
        is_kept = oldest_us is None or file.window.end_us > oldest_us
        if is_kept and file.id not in rolled and file.path not in damaged:
            yield Merge(minutes_of=[file])


def expired(files: Sequence[tuple[ColdFile, int]], retention: Retention, now_us: int, newest_us: int) -> list[ColdFile]:
    """Files to delete, whole ones only.

    Roll-ups outlive the records that they were made of, unless they may stand for the same records as others.

    Args:
        files: all there are, and when each was taken in.
        retention: the rules.
        now_us: what time it is.
        newest_us: the newest record of all. Ages count from it if it is before now, so that a clock that is ahead
            deletes nothing that is young.
    """
    then_us = min(now_us, newest_us)
    everything = [file for file, _ in files]
    gone = _leaving(files, retention, now_us, newest_us)
    ids = {file.id for file in gone}
    known = {file.id for file in everything if not file.level.is_rollup}
    remains = [file for file in everything if file.level.is_rollup and file.derived_from not in known - ids]
    ages = {Level.MINUTE_ROLLUP: retention.minutes_us, Level.HOUR_ROLLUP: retention.hours_us}
    old = [
        file for file in everything if (age_us := ages.get(file.level, 0)) and file.window.end_us <= then_us - age_us
    ]
    return [*gone, *{file.id: file for file in (*old, *_doubtful(remains))}.values()]


def _leaving(
    files: Sequence[tuple[ColdFile, int]], retention: Retention, now_us: int, newest_us: int
) -> list[ColdFile]:
    """Files of records to delete, for their age or for the bytes of all of them."""
    then_us = min(now_us, newest_us)
    records = sorted((each for each in files if not each[0].level.is_rollup), key=lambda each: each[0].window.end_us)
    gone = [
        file
        for file, adopted_us in records
        if retention.raw_us and file.window.end_us <= then_us - retention.raw_us and adopted_us <= now_us - SETTLED_US
    ]
    if retention.raw_bytes:
        excess = sum(file.size for file, _ in records) - retention.raw_bytes - sum(file.size for file in gone)
        for file, _ in records:
            if excess <= 0:
                break
            if file not in gone:
                gone.append(file)
                excess -= file.size
    return gone


def _doubtful(remains: Sequence[ColdFile]) -> Iterator[ColdFile]:
    """Roll-ups that are about to be, or are, all that is left of a time, and may stand for records of an earlier one.

    They are compared by the minute where both have such a roll-up; else one by the hour stands for all of its hours.
    """
    by_source: dict[tuple[Window, int], dict[Level, ColdFile]] = {}
    for file in remains:
        by_source.setdefault((_day(file), file.derived_from or file.id), {})[file.level] = file
    for _, day in groupby(sorted(by_source), key=lambda source: source[0]):
        for earlier, later in combinations([by_source[source] for source in day], 2):
            for level, file in later.items():
                other = earlier.get(level) or next(iter(earlier.values()))
                if overlaps(other, file):
                    yield file


def _is_layered(files: Sequence[ColdFile]) -> bool:
    return len({file.generation for file in files}) > 1


def _merge(files: Sequence[ColdFile], everything: Sequence[ColdFile]) -> Merge:
    ids = {file.id for file in files}
    rollups = [file for file in everything if file.derived_from in ids]
    return Merge(files=sorted(files, key=lambda file: (file.generation, file.id)), rollups=rollups)


def _day(file: ColdFile) -> Window:
    return Window.day_of(file.window.start_us)
