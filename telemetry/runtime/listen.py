"""Where a process may listen: on loopback, unless somebody says aloud that anyone may connect."""

from __future__ import annotations

import errno
import ipaddress
import socket

from telemetry.runtime.errors import PortInUseError, StartupError


def require_loopback(host: str, insecure: bool) -> None:
    """Refuse an address that other machines can reach, unless ``insecure``.

    Nothing checks who connects, so listening beyond loopback is a decision that the operator has to make.

    Args:
        host: the address or name to listen on, as given with ``--host``.
        insecure: whether ``--insecure`` was given.

    Raises:
        StartupError: if others could connect and nobody allowed it.
    """
    if not insecure and not is_loopback(host):
        raise StartupError(
            f"--host {host} lets other machines connect without any check of who they are; add --insecure to allow it"
        )


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
