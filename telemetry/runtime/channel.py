"""The one place where clients' channels are made: in the clear, or with TLS, a client certificate and a token."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import grpc

from telemetry.runtime.credentials import Credentials
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.runtime.watched import Watched

AUTHORIZATION: Final = "authorization"
"""The name under which a token travels, in HTTP/2 as in HTTP/1."""


def open_channel(address: str, credentials: Credentials | None = None, *, server_name: str = "") -> grpc.aio.Channel:
    """A channel; it connects when it is first used.

    Args:
        address: ``host:port``.
        credentials: who we are and whom we believe; ``None`` means in the clear and without a name.
        server_name: what the server's certificate has to say when that is not the host of ``address``, because somebody
            has resolved it.

    Raises:
        StartupError: if the files that ``credentials`` names are of no use.
    """
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    credentials.check()
    return _RenewedChannel(address, credentials, server_name)


class _Connection:
    """A channel made from the files as they were at one time, and how many calls are open on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self.retired = False
        self.methods: dict[tuple[str, str], Any] = {}


class _RenewedChannel(grpc.aio.Channel):
    """Begins calls with the token, and over a connection with the certificates, that the files hold at that moment.

    When certificates change, calls that are open go on over the old connection, which is closed after the last of them.
    """

    def __init__(self, address: str, credentials: Credentials, server_name: str) -> None:
        self._address = address
        self._options: Sequence[tuple[str, int | str]] = CHANNEL_OPTIONS
        if server_name and credentials.ca is not None:
            self._options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", server_name))
        self._tls = Watched(credentials.paths, credentials.grpc_credentials)
        files = [] if credentials.token_file is None else [credentials.token_file]
        self._token = Watched(files, credentials.token)
        self._made_from: grpc.ChannelCredentials | None = None
        self._now = self._connect()
        self._old: list[_Connection] = []
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _Method(self, "unary_unary", method, args, options)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _Method(self, "unary_stream", method, args, options)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        return _Method(self, "stream_unary", method, args, options)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        return _Method(self, "stream_stream", method, args, options)

    async def close(self, grace: float | None = None) -> None:
        everything = [self._now, *self._old]
        await asyncio.gather(*(connection.channel.close(grace) for connection in everything), *self._closing)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._connection().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._connection().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._connection().channel.channel_ready()

    async def __aenter__(self) -> _RenewedChannel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def begin(self, method: _Method, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Begin a call."""
        connection = self._connection()
        token = self._token.current()
        if token is not None:
            options["metadata"] = (*(options.get("metadata") or ()), (AUTHORIZATION, f"Bearer {token}"))
        call = method.on(connection)(*args, **options)
        connection.calls += 1
        call.add_done_callback(lambda _: self._ended(connection))
        return call

    def _connection(self) -> _Connection:
        if self._tls.current() is not self._made_from:
            retired, self._now = self._now, self._connect()
            retired.retired = True
            self._old.append(retired)
            self._close_if_idle(retired)
        return self._now

    def _connect(self) -> _Connection:
        self._made_from = self._tls.current()
        if self._made_from is None:
            return _Connection(grpc.aio.insecure_channel(self._address, options=self._options))
        return _Connection(grpc.aio.secure_channel(self._address, self._made_from, options=self._options))

    def _ended(self, connection: _Connection) -> None:
        connection.calls -= 1
        self._close_if_idle(connection)

    def _close_if_idle(self, connection: _Connection) -> None:
        if connection.retired and not connection.calls and connection in self._old:
            self._old.remove(connection)
            task = asyncio.ensure_future(connection.channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class _Method:
    """One method as stubs call it, on whichever connection is the newest."""

    def __init__(
        self, channel: _RenewedChannel, kind: str, name: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._kind, self._name, self._args, self._options = kind, name, args, options

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._channel.begin(self, args, options)

    def on(self, connection: _Connection) -> Any:
        """The method of a connection's channel."""
        key = self._kind, self._name
        found = connection.methods.get(key)
        if found is None:
            make = getattr(connection.channel, self._kind)
            found = connection.methods[key] = make(self._name, *self._args, **self._options)
        return found
