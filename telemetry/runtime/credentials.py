"""Who a client is to those whom it calls, and whom it believes: CA, certificate, token."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from telemetry.runtime.errors import StartupError
from telemetry.runtime.tls import load_authority, load_pair, read_pem

TOKEN_BYTES_MAX: Final = 512
"""The most that a file with a token may hold."""


class CredentialsError(StartupError):
    """A client's files do not fit together, or a token cannot be read."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files, not their contents: they are read when a connection is made or a call begins, and anew when they change.

    Attributes:
        ca: who signs servers' certificates. With it, connections use TLS; ``None`` means that they do not.
        client_cert: the client's own certificate, for servers that ask for one (mTLS).
        client_key: the key of it.
        token_file: a file that holds the token.
    """

    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("ca", "client_cert", "client_key", "token_file"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))

    @property
    def paths(self) -> list[Path]:
        """The files that a connection is made from."""
        return [path for path in (self.ca, self.client_cert, self.client_key) if path is not None]

    def check(self) -> None:
        """See that everything is there and fits together.

        Raises:
            CredentialsError: naming what is missing.
            TlsError: naming the file that is of no use.
        """
        if (self.client_cert is None) != (self.client_key is None):
            given, missing = ("cert", "key") if self.client_key is None else ("key", "cert")
            raise CredentialsError(f"--client-{given} needs --client-{missing}: a certificate is shown with its key")
        if self.client_cert is not None and self.ca is None:
            raise CredentialsError("--client-cert needs --ca: without it the connection has no TLS to show it in")
        self.tls_context()
        self.token()

    def tls_context(self) -> ssl.SSLContext | None:
        """For HTTP clients; ``None`` without TLS.

        Raises:
            TlsError: if a file is of no use.
        """
        if self.ca is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        load_authority(context, self.ca, "--ca")
        if self.client_cert is not None and self.client_key is not None:
            load_pair(context, self.client_cert, "--client-cert", self.client_key, "--client-key")
        return context

    def grpc_credentials(self) -> grpc.ChannelCredentials | None:
        """For gRPC clients; ``None`` without TLS.

        Raises:
            TlsError: if a file is of no use.
        """
        if self.tls_context() is None or self.ca is None:
            return None
        return grpc.ssl_channel_credentials(
            read_pem(self.ca, "--ca"),
            None if self.client_key is None else read_pem(self.client_key, "--client-key"),
            None if self.client_cert is None else read_pem(self.client_cert, "--client-cert"),
        )

    def token(self) -> str | None:
        """The token as it is in its file now.

        Raises:
            CredentialsError: if it cannot be read. The text does not hold it.
        """
        if self.token_file is None:
            return None
        try:
            with self.token_file.open("rb") as file:
                content = file.read(TOKEN_BYTES_MAX + 1)
        except OSError as error:
            raise CredentialsError(f"--token-file {self.token_file} cannot be read: {error.strerror}") from None
        token = content.strip()
        if not token or len(content) > TOKEN_BYTES_MAX or not token.isascii() or len(token.split()) != 1:
            raise CredentialsError(
                f"--token-file {self.token_file} has to hold one token and nothing else; `telemetry token create` "
                "makes one"
            )
        return token.decode()
