"""Which collectors there are, and asking all of them at once."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, Generic, TypeVar

import grpc

from telemetry.query.collector import CollectorClient
from telemetry.runtime.calls import DEADLINE_S, Observe, UpstreamError, Violation, unobserved
from telemetry.runtime.credentials import Credentials
from telemetry.v1 import query_pb2

RESOLVE_EVERY_S: Final = 5.0
"""How old the addresses behind a name may be."""
RESOLVE_S: Final = 2.0
"""How long a name may take to be resolved."""
LATE_DEADLINE_S: Final = 1.0
"""The deadline of a collector that was late the last time: one that hangs slows down the first answer, not all."""

REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
"""Statuses that are about the request: every collector would say the same."""

_Answer = TypeVar("_Answer")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the IP addresses of a host; raises ``OSError``."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[_Answer]):
    """What collectors answered.

    Attributes:
        given: the answers, with who gave them, in the order of the members.
        missing: why there is none of the others.
    """

    given: Sequence[tuple[CollectorClient, _Answer]]
    missing: Sequence[UpstreamError]

    def completeness(self) -> query_pb2.Completeness:
        """Whether all answered, and what those that did say of their own answers."""
        whole = query_pb2.Completeness()
        for collector, answer in self.given:
            note(whole, collector, getattr(answer, "completeness", query_pb2.Completeness()))
        for error in self.missing:
            leave_out(whole, error)
        return whole


def note(whole: query_pb2.Completeness, collector: CollectorClient, part: query_pb2.Completeness) -> None:
    """Take over what one collector says of its answer."""
    whole.partial = whole.partial or part.partial
    whole.warnings.extend(f"collector {collector.address}: {warning}" for warning in part.warnings)


def leave_out(whole: query_pb2.Completeness, error: UpstreamError) -> None:
    """Say that a collector's part is missing."""
    whole.partial = True
    prefix = f"collector {error.address} is left out: "
    warning = prefix + (error.message or error.reason)
    if warning not in whole.warnings:
        whole.warnings.append(warning)


def together(first: query_pb2.Completeness, second: query_pb2.Completeness) -> query_pb2.Completeness:
    """How complete an answer is that needed both; what both say is said once."""
    warnings = list(dict.fromkeys([*first.warnings, *second.warnings]))
    return query_pb2.Completeness(partial=first.partial or second.partial, warnings=warnings)


def refused(field: str, message: str) -> UpstreamError:
    """The error for a field of a request that cannot be answered."""
    return UpstreamError("collector", "", grpc.StatusCode.INVALID_ARGUMENT, message, [Violation(field, message)])


async def ask(
    collectors: Iterable[CollectorClient],
    call: Callable[[CollectorClient, float], Awaitable[_Answer]],
    *,
    all_may_fail: bool = False,
) -> Answers[_Answer]:
    """Ask collectors at the same time; ``call`` is given each and its deadline in seconds.

    Raises:
        UpstreamError: if one refuses the request, or none answers and not ``all_may_fail``.
    """
    asked = list(collectors)
    outcomes = await asyncio.gather(*(_one(each, call) for each in asked))
    given, missing = [], []
    for collector, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, UpstreamError):
            if outcome.code in REFUSALS:
                raise outcome
            missing.append(outcome)
        else:
            given.append((collector, outcome))
    if missing and not given and not all_may_fail:
        raise none_answers(missing)
    return Answers(given, missing)


def none_answers(missing: Sequence[UpstreamError]) -> UpstreamError:
    """The error when every collector that was asked failed."""
    if len(missing) == 1:
        return missing[0]
    addresses = ", ".join(error.address for error in missing)
    reasons = "; ".join(error.reason for error in missing)
    return UpstreamError("collector", addresses, grpc.StatusCode.UNAVAILABLE, f"no collector answers: {reasons}")


async def _one(
    collector: CollectorClient, call: Callable[[CollectorClient, float], Awaitable[_Answer]]
) -> _Answer | UpstreamError:
    deadline_s = min(LATE_DEADLINE_S, collector.deadline_s) if collector.late else collector.deadline_s
    try:
        answer = await call(collector, deadline_s)
    except UpstreamError as error:
        collector.late = error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        return error
    collector.late = False
    return answer


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a host, of one family: a host with both would be asked twice.

    Raises:
        OSError: if there are none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return sorted({str(address[0]) for kind, _, _, _, address in found if kind == family})


class Members:
    """The collectors behind some addresses. A name with several IP addresses stands for as many collectors."""

    def __init__(
        self,
        addresses: Sequence[str],
        deadline_s: float = DEADLINE_S,
        observe: Observe = unobserved,
        credentials: Credentials | None = None,
        *,
        resolve: Resolve = resolve_host,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Nothing is resolved or connected before :meth:`current`.

        Args:
            addresses: each ``host:port``.
            deadline_s: how long a call may take.
            observe: is told of each call.
            credentials: for collectors with TLS or tokens.
            resolve: finds IP addresses.
            clock: tells how old they are, in seconds.
        """
        self._places: dict[str, list[str]] = {address: [address] for address in addresses}
        self._deadline_s = deadline_s
        self._observe = observe
        self._credentials = credentials
        self._resolve = resolve
        self._clock = clock
        self._resolved_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._clients: dict[str, CollectorClient] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """The addresses given, for people."""
        return ", ".join(self._places)

    async def current(self) -> list[CollectorClient]:
        """The collectors as they were a moment ago. Only the first call waits for names to be looked up."""
        if self._looking is None and self._clock() - self._resolved_at >= RESOLVE_EVERY_S:
            self._looking = asyncio.create_task(self._look_up_all(), name="look-up-collectors")
        if not self._clients and self._looking is not None:
            await asyncio.shield(self._looking)
        return list(self._clients.values())

    async def close(self) -> None:
        """Close all channels; open calls are cancelled."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await asyncio.gather(*self._closing, *(client.close() for client in self._clients.values()))

    async def _look_up_all(self) -> None:
        try:
            await asyncio.gather(*(self._look_up(address) for address in self._places))
            self._resolved_at = self._clock()
            self._renew({place: address for address, places in self._places.items() for place in places})
        finally:
            self._looking = None

    async def _look_up(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if _is_ip(host) or not port.isdecimal():
            return
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await self._resolve(host, int(port))
        except (OSError, TimeoutError):
            return  # Those known stay; calling the name itself says what is wrong with it.
        if len(found) > 1:
            self._places[address] = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in found]
        else:
            self._places[address] = [address]

    def _renew(self, places: Mapping[str, str]) -> None:
        """Have a client for each place, of those that there were or a new one; ``places`` says where each was found."""
        before = self._clients
        self._clients = {place: before.get(place) or self._client(place, address) for place, address in places.items()}
        for place, client in before.items():
            if place not in self._clients:
                # It may still be answering somebody.
                task = asyncio.create_task(client.close(self._deadline_s))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _client(self, place: str, address: str) -> CollectorClient:
        name = "" if place == address else address.rpartition(":")[0]
        return CollectorClient(place, self._deadline_s, self._observe, self._credentials, server_name=name)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
