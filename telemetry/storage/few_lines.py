"""Metrics of one GPU over time out of few lines, worked out in one go: what a chart of the last minutes asks for.

Reading a thousand lines as a frame and putting the frame through a dozen operations, each of which wakes other threads
and waits for its turn in Python again, takes ten times as long as reading them one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from telemetry.model import GPU
from telemetry.storage.lines import GPU_KEY
from telemetry.storage.series import STEP, Aggregation, Steps

FEW_BYTES: Final = 1 << 20
"""Lines of so many bytes are few: to read them takes a few milliseconds."""

_TIME_CHARACTERS: Final = len("2026-01-01T00:00:00.000000Z")
_NUMBERS: Final = {float, int, type(None)}

_Times = npt.NDArray[np.int64]
_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InSteps:
    """A row for each step in which there is any record: ``gpu``, ``step`` and the metrics by place.

    Attributes:
        frame: the rows, in order.
        records: how many records they are made of.
    """

    frame: pl.DataFrame
    records: int


def in_steps_of_lines(
    lines: bytes,
    gpu: str,
    span_us: tuple[int, int],
    steps: Steps,
    metrics: Sequence[str],
    aggregation: Aggregation,
) -> InSteps | None:
    """Aggregate a GPU's lines; of two values of one instant the later line's counts.

    Args:
        lines: the lines, in the order in which they were written.
        gpu: the GPU.
        span_us: what to take into account, from the first time on and before the second.
        steps: the steps.
        metrics: the metrics, by name.
        aggregation: one that can be put together from parts.

    Returns:
        ``None`` if any line is not as we write it: somebody else must look at it closely.
    """
    try:
        records: list[Mapping[str, Any]] = [orjson.loads(line) for line in lines.split(b"\n") if line]
        if any(record[GPU_KEY] != gpu for record in records):
            return None
        times_us = _times_us([record["timestamp"] for record in records])
        held = [record["metrics"] for record in records]
        columns = [_values([each.get(metric) for each in held]) for metric in metrics]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    wanted = np.flatnonzero((times_us >= span_us[0]) & (times_us < span_us[1]))
    wanted = wanted[np.argsort(times_us[wanted], kind="stable")]
    times_us = times_us[wanted]
    instants = times_us[_ends(times_us)]
    places = np.unique((instants - steps.start_us) // steps.width_us)
    frame = pl.DataFrame(
        [
            pl.Series(GPU, [gpu], pl.String).new_from_index(0, places.size),
            pl.Series(STEP, places, pl.Int64),
            *(
                pl.Series(
                    str(number),
                    _aggregated(times_us, values[wanted], steps, places, aggregation),
                    pl.Float64,
                    nan_to_null=True,
                )
                for number, values in enumerate(columns)
            ),
        ]
    )
    return InSteps(frame, int(instants.size))


def _times_us(texts: Sequence[str]) -> _Times:
    if not all(len(text) == _TIME_CHARACTERS and text[-1] == "Z" for text in texts):
        raise ValueError("not as we write it")
    return np.array([text[:-1] for text in texts], dtype="datetime64[us]").astype(np.int64)


def _values(values: Sequence[float | None]) -> _Values:
    """As an array, NaN where there is none."""
    if not set(map(type, values)) <= _NUMBERS:
        raise ValueError("not a number")
    return np.array(values, dtype=np.float64)


def _aggregated(times_us: _Times, values: _Values, steps: Steps, places: _Times, aggregation: Aggregation) -> _Values:
    """One value for each of the places, NaN where there is none."""
    result = np.full(places.size, np.nan)
    present = ~np.isnan(values)
    times_us, values = times_us[present], values[present]
    if not values.size:
        return result
    last_of_instant = _ends(times_us)
    of_step, values = (times_us[last_of_instant] - steps.start_us) // steps.width_us, values[last_of_instant]
    ends = _ends(of_step)
    starts = np.concatenate(([0], ends[:-1] + 1))
    match aggregation:
        case Aggregation.MIN:
            found = np.minimum.reduceat(values, starts)
        case Aggregation.MAX:
            found = np.maximum.reduceat(values, starts)
        case Aggregation.SUM:
            found = np.add.reduceat(values, starts)
        case Aggregation.AVG:
            found = np.add.reduceat(values, starts) / (ends - starts + 1)
        case Aggregation.COUNT:
            found = ends - starts + 1.0
        case Aggregation.LAST:
            found = values[ends]
        case _:
            raise ValueError(f"{aggregation} cannot be put together from parts")
    result[np.searchsorted(places, of_step[ends])] = found
    return result


def _ends(ascending: _Times) -> npt.NDArray[np.intp]:
    """Where each run of equal numbers ends."""
    return np.flatnonzero(np.append(ascending[1:] != ascending[:-1], ascending.size > 0))
