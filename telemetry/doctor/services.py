"""The pipeline's processes: who listens on their ports, whether they are well, and how far off their clocks are."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from telemetry.doctor.finding import Finding, fail, ok, warn
from telemetry.runtime.channel import open_channel
from telemetry.runtime.credentials import Credentials

DEADLINE_S: Final = 3.0
SKEW_S_MAX: Final = 2.0
"""How far a clock may be off: HTTP tells the time in whole seconds, and the answer takes a moment."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process should be.

    Attributes:
        name: what it is called.
        address: ``host:port``.
        http: whether it speaks HTTP there, else gRPC.
        expected: whether it was asked for by name, so that its absence is a failure.
        flag: the flag of `telemetry up` that moves it elsewhere.
    """

    name: str
    address: str
    http: bool
    expected: bool
    flag: str


async def check_services(places: Sequence[Place], credentials: Credentials | None) -> AsyncIterator[Finding]:
    """Ask every process how it is, all at once."""
    for finding in await asyncio.gather(*(_check(place, credentials) for place in places)):
        yield finding


async def _check(place: Place, credentials: Credentials | None) -> Finding:
    label = f"{place.name} {place.address}"
    try:
        if not await _listens(place.address):
            return _absent(label, place)
        if place.http:
            return await asyncio.to_thread(_check_http, label, place, credentials)
        return await _check_grpc(label, place, credentials)
    except (OSError, ValueError, UnicodeError) as error:
        return fail(label, f"cannot be asked: {error}", "see that the address is right and nothing lies in between")


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(DEADLINE_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return False
    except TimeoutError:
        raise OSError(f"no answer in {DEADLINE_S:g} s") from None
    writer.close()
    return True


def _absent(label: str, place: Place) -> Finding:
    if place.expected:
        return fail(label, "nobody listens there", "start it, or see that the address is right")
    return ok(label, "free: nothing runs there")


async def _check_grpc(label: str, place: Place, credentials: Credentials | None) -> Finding:
    channel = open_channel(place.address, credentials)
    try:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        began = time.perf_counter()
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        took_ms = (time.perf_counter() - began) * 1000
    except grpc.aio.AioRpcError as error:
        return _refused(label, place, f"{error.code().name}: {error.details()}", credentials)
    finally:
        await channel.close()
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        return fail(label, f"it says {state}", "wait if it has just started or is stopping; else its log says why")
    return ok(label, f"{state} in {took_ms:.1f} ms")


def _refused(label: str, place: Place, said: str, credentials: Credentials | None) -> Finding:
    if credentials is None or credentials.ca is None:
        remedy = "another program may listen there, or it wants TLS: give --ca and perhaps --client-cert"
    else:
        remedy = "see that --ca signed its certificate, that the certificate names this host, and that it speaks TLS"
    if not place.expected:
        remedy += f"; `telemetry up` can use another port with {place.flag}"
    return fail(label, said, remedy)


def _check_http(label: str, place: Place, credentials: Credentials | None) -> Finding:
    context = None if credentials is None else credentials.tls_context()
    token = None if credentials is None else credentials.token()
    scheme = "http" if context is None else "https"
    request = urllib.request.Request(f"{scheme}://{place.address}/health")  # noqa: S310  (one of the two above)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        began = time.time()
        status, headers, content = _get(request, context)
        middle = (began + time.time()) / 2
    except urllib.error.URLError as error:
        return _refused(label, place, str(error.reason), credentials)
    version = content.get("version")
    if not isinstance(version, str):
        return fail(
            label,
            "something listens there that is not ours",
            f"stop it, or move ours with {place.flag}" if not place.expected else "see that the address is right",
        )
    skew = _skew_s(headers.get("date"), middle)
    if skew is not None and abs(skew) > SKEW_S_MAX:
        return fail(label, f"its clock is {skew:+.0f} s off ours", "keep the clocks of both machines right (NTP)")
    troubles = _troubles(content)
    if status != 200 or troubles:
        return warn(label, f"{content.get('status', status)}: {'; '.join(troubles) or 'not well'}", "its log says more")
    return ok(label, f"{content.get('status', 'ok')}, version {version}")


def _get(
    request: urllib.request.Request, context: ssl.SSLContext | None
) -> tuple[int, Mapping[str, str], dict[str, object]]:
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S, context=context) as answer:  # noqa: S310
            status, headers, body = answer.status, dict(answer.headers.items()), answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        with error:
            status, headers, body = error.code, dict(error.headers.items()), error.read(1 << 20)
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    return status, {name.lower(): text for name, text in headers.items()}, content if isinstance(content, dict) else {}


def _skew_s(date: str | None, now: float) -> float | None:
    """How far the sender's clock is ahead, in seconds, whole ones at best."""
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
    except ValueError:
        return None
    return theirs - now


def _troubles(content: Mapping[str, object]) -> list[str]:
    """What `/health` of a process says is not well."""
    checks = content.get("checks")
    if not isinstance(checks, dict):
        return []
    return [
        f"{name}: {check.get('detail', '')}"
        for name, check in checks.items()
        if isinstance(check, dict) and check.get("ok") is False
    ]
