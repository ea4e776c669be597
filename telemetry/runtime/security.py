"""What guards the ports of a process, and the flags that say so, the same for all processes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from telemetry.runtime.credentials import Credentials
from telemetry.runtime.errors import StartupError
from telemetry.runtime.listen import is_loopback
from telemetry.runtime.rates import RATE_LIMIT, Rates
from telemetry.runtime.tls import ServerTls, TlsError
from telemetry.runtime.tokens import Tokens

log = logging.getLogger(__name__)

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Security:
    """What guards the ports of a process.

    Attributes:
        tls: what they show; ``None`` means that they speak in the clear.
        tokens: whom they accept; ``None`` means everybody.
        rates: how often each caller may ask, on all ports together; ``None`` means as often as he likes.
    """

    tls: ServerTls | None = None
    tokens: Tokens | None = None
    rates: Rates | None = None


OPEN: Final = Security()
"""In the clear and for everybody: right on loopback."""


@dataclass(frozen=True, slots=True)
class SecurityFlags:
    """What was given on the command line. :meth:`load` reads it, when the process starts."""

    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens: Path | None = None
    insecure: bool = False
    rate_limit: int = RATE_LIMIT

    def load(self, host: str) -> Security:
        """Read the files, and see that they are enough to listen on ``host``.

        Raises:
            StartupError: naming flag, file and remedy.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("cert", "key") if self.tls_key is None else ("key", "cert")
            raise TlsError(f"--tls-{given} needs --tls-{missing}: a certificate is shown with its key")
        tls = None
        if self.tls_cert is not None and self.tls_key is not None:
            tls = ServerTls(self.tls_cert, self.tls_key, self.tls_client_ca)
        elif self.tls_client_ca is not None:
            raise TlsError("--tls-client-ca needs --tls-cert and --tls-key: clients show certificates in TLS")
        tokens = None if self.tokens is None else Tokens(self.tokens)
        if not is_loopback(host):
            self._check_reachable(host, tls, tokens)
        return Security(tls, tokens, Rates(self.rate_limit) if self.rate_limit else None)

    def _check_reachable(self, host: str, tls: ServerTls | None, tokens: Tokens | None) -> None:
        checked = tokens is not None or (tls is not None and tls.requires_clients)
        if tls is None and tokens is None and not self.insecure:
            raise StartupError(
                f"--host {host} lets other machines connect without any check of who they are; give --tls-cert and "
                "--tls-key, or --tokens, or say --insecure to allow it"
            )
        if tls is None and tokens is not None:
            log.warning("tokens cross the network in the clear: --tls-cert and --tls-key would hide them")
        elif tls is not None and not checked:
            log.warning("nothing checks who connects: --tokens or --tls-client-ca would")


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Give a process that listens the flags of its security, and hand it ``security``, a :class:`SecurityFlags`."""

    @click.option("--tls-cert", type=_FILE, help="The certificate of all its ports (PEM, with its chain).")
    @click.option("--tls-key", type=_FILE, help="The key of the certificate (PEM, without a passphrase).")
    @click.option("--tls-client-ca", type=_FILE, help="Accept only clients whose certificate this CA signed (mTLS).")
    @click.option(
        "--tokens", type=_FILE, help="Accept only clients with a token from this file; see `telemetry token`."
    )
    @click.option(
        "--insecure",
        is_flag=True,
        help="Allow a --host that other machines can reach although nothing checks who asks.",
    )
    @click.option(
        "--rate-limit",
        type=click.IntRange(min=0),
        default=RATE_LIMIT,
        show_default=True,
        metavar="N",
        help="Most requests and calls a second of each caller, by token, else by address; 0 means no limit.",
    )
    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        names = ("tls_cert", "tls_key", "tls_client_ca", "tokens", "insecure", "rate_limit")
        function(*args, security=SecurityFlags(**{name: kwargs.pop(name) for name in names}), **kwargs)

    return command


def connecting(variables: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that calls other processes the flags of its credentials, and hand it ``credentials``.

    That is a :class:`Credentials`, or ``None`` when nothing was given.

    Args:
        variables: what the names of the options' environment variables begin with, for commands that are no processes.
    """

    def option(flag: str, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        variable = f"{variables}{flag.removeprefix('--').upper().replace('-', '_')}" if variables else None
        return click.option(flag, type=_FILE, envvar=variable, show_envvar=variable is not None, help=text)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @option("--ca", "Connect with TLS, to servers whose certificate this CA signed (PEM).")
        @option("--client-cert", "The certificate to show to servers that ask for one (mTLS).")
        @option("--client-key", "The key of the certificate.")
        @option("--token-file", "A file with the token to show.")
        @functools.wraps(function)
        def command(*args: Any, **kwargs: Any) -> None:
            given = {name: kwargs.pop(name) for name in ("ca", "client_cert", "client_key", "token_file")}
            credentials = None
            if any(path is not None for path in given.values()):
                credentials = Credentials(**given)
                try:
                    credentials.check()
                except StartupError as error:
                    raise click.ClickException(str(error)) from None
            function(*args, credentials=credentials, **kwargs)

        return command

    return decorate
