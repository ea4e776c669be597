"""Which GPUs collectors hold, and what they know of each, put together. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan

from telemetry.query.collector import CollectorClient
from telemetry.v1 import query_pb2


@dataclass(frozen=True, slots=True)
class Holder:
    """A collector that has records of a GPU, the oldest and the newest at these microseconds since 1970."""

    collector: CollectorClient
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Holding:
    """A GPU, and who has records of it; the one with the newest comes first."""

    gpu: query_pb2.Gpu
    holders: Sequence[Holder]


def unite(found: Iterable[tuple[CollectorClient, query_pb2.Gpu]]) -> dict[str, Holding]:
    """Put together what collectors know of the same GPUs, by identity."""
    known: dict[str, list[tuple[CollectorClient, query_pb2.Gpu]]] = {}
    for collector, gpu in found:
        known.setdefault(gpu.gpu, []).append((collector, gpu))
    return {name: _united(known[name]) for name in sorted(known)}


def _united(known: list[tuple[CollectorClient, query_pb2.Gpu]]) -> Holding:
    # Of two that end with the same record, which both hold, the one that begins later took over.
    known.sort(key=lambda each: (each[1].last_seen.ToMicroseconds(), each[1].first_seen.ToMicroseconds()), reverse=True)
    holders = [
        Holder(collector, gpu.first_seen.ToMicroseconds(), gpu.last_seen.ToMicroseconds()) for collector, gpu in known
    ]
    newest = known[0][1]
    if len(known) == 1:
        return Holding(newest, holders)
    labels: dict[str, str] = {}
    for _, gpu in reversed(known):
        labels.update(gpu.labels)
    oldest = min((gpu for _, gpu in known), key=lambda gpu: gpu.first_seen.ToMicroseconds())
    gpu = query_pb2.Gpu(
        gpu=newest.gpu,
        host=labels.get("host", ""),
        index=labels.get("index", ""),
        model=labels.get("model", ""),
        labels=labels,
        first_seen=oldest.first_seen,
        last_seen=newest.last_seen,
        metrics=sorted({name for _, gpu in known for name in gpu.metrics}),
    )
    return Holding(gpu, holders)


def matches(gpu: query_pb2.Gpu, selector: query_pb2.GpuSelector) -> bool:
    """Whether a selector's hosts and labels choose a GPU."""
    return (not selector.hosts or gpu.labels.get("host", "") in selector.hosts) and all(
        gpu.labels.get(name) == value for name, value in selector.labels.items()
    )


def hosts_of(fleet: Mapping[str, Holding]) -> list[query_pb2.Host]:
    """The hosts that GPUs are in, by name."""
    by_host: dict[str, list[query_pb2.Gpu]] = {}
    for holding in fleet.values():
        by_host.setdefault(holding.gpu.labels.get("host", ""), []).append(holding.gpu)
    return [
        query_pb2.Host(
            host=host,
            gpus=len(gpus),
            first_seen=min((gpu.first_seen for gpu in gpus), key=lambda time: time.ToMicroseconds()),
            last_seen=max((gpu.last_seen for gpu in gpus), key=lambda time: time.ToMicroseconds()),
        )
        for host, gpus in sorted(by_host.items())
    ]


def newest_of(
    answers: Sequence[query_pb2.GetLatestResponse], metrics: Sequence[str], *, with_timestamps: bool
) -> query_pb2.GetLatestResponse:
    """The newest value of each metric of each GPU; of two of one instant, that of who has the GPU's newest record.

    Args:
        answers: each with the times of its values.
        metrics: those asked for; empty means all.
        with_timestamps: whether to keep the times of the values.
    """
    place = {name: at for at, name in enumerate(sorted({name for answer in answers for name in answer.gpus}))}
    asked = list(dict.fromkeys(metrics))
    names = asked or sorted({column.metric for answer in answers for column in answer.columns})
    seen_us = [0] * len(place)
    values = {name: [nan] * len(place) for name in names}
    times_us = {name: [0] * len(place) for name in names}
    giver_us = {name: [0] * len(place) for name in names}  # the newest record of who gave the value
    for answer in answers:
        places, newest_us = [place[name] for name in answer.gpus], answer.timestamps_us
        for at, last_us in zip(places, newest_us, strict=True):
            seen_us[at] = max(seen_us[at], last_us)
        for column in answer.columns:
            mine, since, giver = values[column.metric], times_us[column.metric], giver_us[column.metric]
            for at, value, time_us, last_us in zip(places, column.values, column.timestamps_us, newest_us, strict=True):
                if time_us > since[at] or (time_us == since[at] and last_us > giver[at]):
                    mine[at], since[at], giver[at] = value, time_us, last_us
    return query_pb2.GetLatestResponse(
        gpus=list(place),
        timestamps_us=seen_us,
        columns=[
            query_pb2.MetricColumn(
                metric=name, values=values[name], timestamps_us=times_us[name] if with_timestamps else None
            )
            for name in names
        ],
    )
