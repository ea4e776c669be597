"""Figures 1 to 5: the same rows through each queue, in batches and one at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.queue import jetstream, ours, redis_streams
from benchmarks.queue.load import Load, whole_batches
from benchmarks.queue.programs import Carried, MissingError, Server, carry
from benchmarks.queue.report import Figure, Number, Row

PER_SECOND: Final = 2_000

RATE: Final = "rows/s"
CPU: Final = "CPU µs/row"
P50: Final = "p50 ms"
P99: Final = "p99 ms"


@dataclass(frozen=True, slots=True)
class Subject:
    """A queue and the load that it gets."""

    name: str
    module: str
    start: Callable[[Path], Server]
    promise: str
    load: Load


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured, as a factor and for the backlog in GB, how often, and where the files go."""

    factor: float
    rounds: int
    folder: Path
    backlog_gb: float

    def rows(self, rows: int) -> int:
        """So many rows times the factor, in whole batches."""
        return whole_batches(rows * self.factor)


_OURS: Final = "telemetry"
_REDIS: Final = "Redis Streams"
_REDIS_FAST: Final = "Redis Streams, with hiredis"
_NATS: Final = "JetStream"
_NATS_FAST: Final = "JetStream, atomic batches of 500"


def _ours(load: Load) -> Subject:
    return Subject(_OURS, "ours", ours.start, ours.PROMISE, load)


def _redis(load: Load) -> Subject:
    name = _REDIS_FAST if load.boosted else _REDIS
    return Subject(name, "redis_streams", redis_streams.start, redis_streams.PROMISE, load)


def _nats(load: Load) -> Subject:
    name = _NATS_FAST if load.boosted else _NATS
    return Subject(name, "jetstream", jetstream.start, jetstream.PROMISE, load)


def batches(size: Size) -> Figure:
    """Rows in batches: publish, subscribe, ack, all durable."""
    figure = Figure("batches", "fsynced publish → subscribe → ack, messages of 300 B in batches of 500")
    subjects = [
        _ours(Load(size.rows(2_000_000))),
        _redis(Load(size.rows(100_000))),
        _redis(Load(size.rows(200_000), boosted=True)),
        _nats(Load(size.rows(10_000))),
        _nats(Load(size.rows(50_000), boosted=True)),
    ]
    _measure(figure, subjects, size, _rates)
    mine = figure.number(_OURS, RATE)
    figure.at_least("messages a second", mine, 400_000)
    for peer in (_REDIS, _REDIS_FAST, _NATS, _NATS_FAST):
        figure.at_least(f"times {peer}", _ratio(mine, figure.number(peer, RATE)), 10)
    return figure


def packed(size: Size) -> Figure:
    """The peers carry 500 rows in a message, ours carries messages as before."""
    figure = Figure("packed", "the same, where a message of the peers holds 500 rows")
    rows = size.rows(2_000_000)
    subjects = [_ours(Load(rows)), _redis(Load(rows, packed=True, boosted=True)), _nats(Load(rows, packed=True))]
    _measure(figure, subjects, size, _rates)
    mine = figure.number(_OURS, RATE)
    for peer in (_REDIS_FAST, _NATS):
        figure.at_least(f"times {peer}", _ratio(mine, figure.number(peer, RATE)), 1)
    return figure


def single(size: Size) -> Figure:
    """One message at a time, durable."""
    figure = Figure("single", f"one message at a time, {PER_SECOND:,} a second, durable, from due to received")
    load = Load(size.rows(16_000), per_second=PER_SECOND)
    fast = Load(load.rows, per_second=PER_SECOND, boosted=True)
    _measure(figure, [_ours(load), _redis(fast), _nats(load)], size, _latencies)
    for column in (P50, P99):
        figure.at_most(f"{column} against Redis", figure.number(_OURS, column), figure.number(_REDIS_FAST, column))
    return figure


def memory(size: Size) -> Figure:
    """One message at a time in memory."""
    figure = Figure("memory", f"memory engine, one message at a time, {PER_SECOND:,} a second, from due to received")
    subject = Subject(
        _OURS, "ours", lambda folder: ours.start(folder, "memory"), "nothing is on disk",
        Load(size.rows(16_000), per_second=PER_SECOND),
    )  # fmt: skip
    _measure(figure, [subject], size, _latencies)
    figure.at_most(P50, figure.number(_OURS, P50), 1.0)
    return figure


def _measure(
    figure: Figure, subjects: Sequence[Subject], size: Size, numbers: Callable[[Sequence[Carried]], dict[str, Number]]
) -> None:
    carried: dict[str, list[Carried]] = {}
    missing: dict[str, str] = {}
    versions: dict[str, str] = {}
    for _ in range(size.rounds):  # all in turn, so that what else the machine does hits all
        for subject in subjects:
            with tempfile.TemporaryDirectory(prefix="bench-", dir=size.folder) as name:
                folder = Path(name)
                try:
                    server = subject.start(folder)
                except MissingError as error:
                    missing[subject.name] = f"skipped: {error}"
                    continue
                versions[subject.name] = server.version
                with server.running():
                    done = carry(subject.module, server, folder, subject.load)
                carried.setdefault(subject.name, []).append(done)
    for subject in subjects:
        if subject.name in carried:
            note = f"{versions[subject.name]}; {subject.promise}"
            figure.rows.append(Row(subject.name, numbers(carried[subject.name]), note))
        else:
            figure.rows.append(Row(subject.name, {}, missing[subject.name]))


def _rates(carried: Sequence[Carried]) -> dict[str, Number]:
    return {RATE: Number([one.rows_per_second for one in carried]), **_costs(carried)}


def _latencies(carried: Sequence[Carried]) -> dict[str, Number]:
    times = [sorted(one.consumer.latency_ms) for one in carried]
    return {
        P50: Number([one[len(one) // 2] for one in times]),
        P99: Number([one[len(one) * 99 // 100] for one in times]),
        **_costs(carried),
    }


def _costs(carried: Sequence[Carried]) -> dict[str, Number]:
    def each(cpu_s: Callable[[Carried], float]) -> Number:
        return Number([cpu_s(one) / one.rows * 1e6 for one in carried])

    parts = (
        each(lambda one: one.publisher.cpu_s),
        each(lambda one: one.broker_cpu_s),
        each(lambda one: one.consumer.cpu_s),
    )
    names = ("publisher", "broker", "subscriber")
    return {f"{name} {CPU}": part for name, part in zip(names, parts, strict=True)}


def _ratio(ours_: float | None, peer: float | None) -> float | None:
    return ours_ / peer if ours_ is not None and peer is not None else None
