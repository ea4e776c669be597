"""Where a process listens: what is loopback, and binding so that an error says which flag to change."""

from __future__ import annotations

import errno
import ipaddress
import socket

from telemetry.runtime.errors import PortInUseError, StartupError


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to ``host``. A name other than ``localhost`` is taken to be reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def join_address(host: str, port: int) -> str:
    """``host:port``, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int, flag: str) -> socket.socket:
    """A listening, non-blocking socket on ``host`` and ``port`` (0 means any free one).

    Args:
        host: the address or name to listen on.
        port: the port.
        flag: the flag that sets the port, for the error's text.

    Raises:
        PortInUseError: if another process listens there.
        StartupError: if the address cannot be bound for another reason.
    """
    address = join_address(host, port)
    bound: socket.socket | None = None
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        bound.listen(1024)
    except OSError as error:
        if bound is not None:
            bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(address, flag) from None
        raise StartupError(f"cannot listen on {address} ({flag}): {error.strerror}") from None
    bound.setblocking(False)
    return bound
