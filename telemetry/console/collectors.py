"""The frame of commands that ask collectors: which collectors, which GPUs and times, and how the command ends.

Exit codes are those of :mod:`telemetry.console.session`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Concatenate, Final, ParamSpec

import click

from telemetry.console.session import DEFAULT_TIMEOUT_S, INTERRUPTED, Failure, notice
from telemetry.console.values import parse_attribute, parse_duration
from telemetry.query.fanout import Collectors
from telemetry.query.members import Members
from telemetry.query.names import gpus_named
from telemetry.runtime.calls import UpstreamError
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.security import connecting
from telemetry.runtime.settings import addresses
from telemetry.tabular import read_time
from telemetry.v1 import query_pb2

ADDRESS_VARIABLE: Final = "TELEMETRY_COLLECTOR_ADDRESS"
"""The environment variable of ``--collector``."""
DEFAULT_ADDRESS: Final = "127.0.0.1:9092"
GPUS_MAX: Final = 10_000
"""Most GPUs that can be meant by name."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_Given = ParamSpec("_Given")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for.

    Attributes:
        gpus: GPUs as people name them; empty means any.
        hosts: hosts; empty means any.
        labels: labels and the values they must have.
        metrics: metrics by canonical name; empty means all.
        start_us: from when on, in microseconds since 1970; ``None`` leaves it open.
        end_us: before when; ``None`` leaves it open.
        last_us: how far back from the end; ``None`` when ``start_us`` says it, or nothing does.
    """

    gpus: Sequence[str] = ()
    hosts: Sequence[str] = ()
    labels: Sequence[tuple[str, str]] = ()
    metrics: Sequence[str] = ()
    start_us: int | None = None
    end_us: int | None = None
    last_us: int | None = None

    async def selector(self, collectors: Collectors) -> query_pb2.GpuSelector:
        """The same for collectors, with the names of GPUs resolved.

        Raises:
            Failure: if there is no GPU of a name, or there are too many.
            UpstreamError: if no collector answers.
        """
        names: dict[str, None] = {}
        for name in self.gpus:
            found = await gpus_named(collectors, name, GPUS_MAX)
            if not found.gpus:
                missing = "; ".join(found.completeness.warnings)
                raise Failure(f"there is no GPU {name!r}" + (f"; {missing}" if missing else ""))
            names.update((gpu.gpu, None) for gpu in found.gpus)
            if found.total > GPUS_MAX or len(names) > GPUS_MAX:
                raise Failure(f"{name!r} and what else is named are more than {GPUS_MAX:,} GPUs; say more of them")
        return query_pb2.GpuSelector(gpus=names, hosts=self.hosts, labels=dict(self.labels))

    def start_before(self, end_us: int) -> int | None:
        """From when on, if it ends at ``end_us``."""
        return self.start_us if self.last_us is None else max(0, end_us - self.last_us)


def time_range(start_us: int | None, end_us: int | None) -> query_pb2.TimeRange:
    """A range for a request; ``None`` leaves an end open."""
    message = query_pb2.TimeRange()
    if start_us is not None:
        message.start_time.FromMicroseconds(start_us)
    if end_us is not None:
        message.end_time.FromMicroseconds(end_us)
    return message


class CollectorSession:
    """One command's run."""

    def __init__(self, addresses: Sequence[str], timeout_s: float, credentials: Credentials | None = None) -> None:
        """Ask the collectors at ``addresses``, giving up after ``timeout_s``."""
        self.addresses: Final = addresses
        self.timeout_s: Final = timeout_s
        self.credentials: Final = credentials

    def run(self, main: Callable[[Collectors], Awaitable[None]]) -> None:
        """Run ``main`` to its end.

        Raises:
            Failure: if the collectors refused or none could be reached.
        """

        async def connected() -> None:
            collectors = Collectors(Members(self.addresses, self.timeout_s, credentials=self.credentials))
            try:
                await main(collectors)
            finally:
                await collectors.close()

        try:
            asyncio.run(connected())
        except UpstreamError as error:
            raise Failure(error.reason) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


def tell_what_is_missing(completeness: query_pb2.Completeness) -> None:
    """Say on standard error how an answer is not complete."""
    for warning in completeness.warnings:
        notice(f"not complete: {warning}")
    if completeness.partial and not completeness.warnings:
        notice("not complete")


def on_collectors(function: Callable[Concatenate[CollectorSession, _Given], None]) -> Callable[_Given, None]:
    """Give a command the options that all have in common, and hand it a :class:`CollectorSession`."""

    @click.option(
        "--collector",
        "collectors",
        multiple=True,
        envvar=ADDRESS_VARIABLE,
        default=(DEFAULT_ADDRESS,),
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        callback=addresses,
        help="A collector's gRPC address; may be repeated, or be several with commas between them.",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="How long collectors may take to answer.",
    )
    @connecting(variables="TELEMETRY_")
    @functools.wraps(function)
    def command(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
        places, timeout_s = (kwargs.pop(name) for name in ("collectors", "timeout_s"))
        credentials = kwargs.pop("credentials")
        assert isinstance(places, tuple)
        assert credentials is None or isinstance(credentials, Credentials)
        function(CollectorSession(places, float(str(timeout_s)), credentials), *args, **kwargs)

    return command


def selecting(
    *, metrics: bool, times: bool
) -> Callable[[Callable[Concatenate[Selection, _Given], None]], Callable[_Given, None]]:
    """Give a command the options that choose GPUs, and metrics and times where it has any, as a :class:`Selection`."""

    def decorate(function: Callable[Concatenate[Selection, _Given], None]) -> Callable[_Given, None]:
        @functools.wraps(function)
        def command(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
            given = {name: kwargs.pop(name) for name in names}
            if given.get("last_us") is not None and given.get("start_us") is not None:
                raise click.UsageError("--last and --start cannot both say where to begin")
            start_us, end_us = given.get("start_us"), given.get("end_us")
            if isinstance(start_us, int) and isinstance(end_us, int) and start_us >= end_us:
                raise click.UsageError("--end must be later than --start")
            function(Selection(**given), *args, **kwargs)  # type: ignore[arg-type]

        options = _GPU_OPTIONS + (_METRIC_OPTIONS if metrics else []) + (_TIME_OPTIONS if times else [])
        names = _GPU_NAMES + (_METRIC_NAMES if metrics else []) + (_TIME_NAMES if times else [])
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _instant(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """RFC 3339, seconds since 1970, or how long ago, as microseconds since 1970."""
    if text is None:
        return None
    try:
        if text.startswith("-"):
            return max(0, (datetime.now(UTC) - timedelta(seconds=parse_duration(text[1:])) - _EPOCH) // _US)
        return (read_time(text) - _EPOCH) // _US
    except (ValueError, OverflowError):
        reason = f"{text!r} is no time: write 2026-07-14T08:00:00Z, seconds since 1970, or how long ago such as -15m"
        raise click.BadParameter(reason, context, parameter) from None


def duration_us(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """The callback of an option that takes a length of time; in microseconds.

    Raises:
        click.BadParameter: if it is none.
    """
    if text is None:
        return None
    try:
        length_us = round(parse_duration(text) * 1e6)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    if not 0 < length_us < 1 << 53:
        raise click.BadParameter(f"{text!r} is no length of time that can be used", context, parameter)
    return length_us


def _labels(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(parse_attribute(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


_US: Final = timedelta(microseconds=1)
_GPU_NAMES: Final = ["gpus", "hosts", "labels"]
_GPU_OPTIONS: Final = [
    click.option(
        "--gpu",
        "gpus",
        multiple=True,
        metavar="NAME",
        help="Only this GPU: its identity, host/index, or how identities begin; may be repeated.",
    ),
    click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only GPUs of this host; may be repeated."),
    click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_labels,
        help="Only GPUs whose label has this value; may be repeated, and all must match.",
    ),
]
_METRIC_NAMES: Final = ["metrics"]
_METRIC_OPTIONS: Final = [
    click.option("-m", "--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric; may be repeated."),
]
_TIME_NAMES: Final = ["start_us", "end_us", "last_us"]
_TIME_OPTIONS: Final = [
    click.option(
        "--start",
        "start_us",
        metavar="TIME",
        callback=_instant,
        help="From this time on: RFC 3339, seconds since 1970, or how long ago (-15m).",
    ),
    click.option("--end", "end_us", metavar="TIME", callback=_instant, help="Before this time."),
    click.option(
        "--last", "last_us", metavar="DURATION", callback=duration_us, help="So long before the end, such as 1h."
    ),
]
