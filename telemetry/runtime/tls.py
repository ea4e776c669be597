"""TLS of the ports: certificate, key, and who signs clients' certificates, read anew when the files change."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_IROTH
from typing import Any, Final

import grpc

from telemetry.runtime.errors import StartupError
from telemetry.runtime.watched import Watched

log = logging.getLogger(__name__)


class TlsError(StartupError):
    """A certificate or key cannot be used. The text names flag, file and remedy."""


@dataclass(frozen=True, slots=True)
class _Material:
    """The files' contents, once as gRPC takes them and once as HTTP does."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


class ServerTls:
    """What the ports of a process show, and whom they accept."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        """Read the files.

        Args:
            cert: the certificate, followed by those between it and the CA's.
            key: its key, without a passphrase.
            client_ca: who signs clients' certificates; ``None`` accepts clients without one.

        Raises:
            TlsError: if they cannot be used.
        """
        self.requires_clients: Final = client_ca is not None
        paths = [cert, key] if client_ca is None else [cert, key, client_ca]
        self._load = partial(_material, cert, key, client_ca)
        self._material = Watched(paths, self._load)
        _warn_if_readable(key)

    def http_context(self) -> ssl.SSLContext:
        """For HTTP: each connection gets the certificates as they are when it is made."""

        def choose(connection: Any, name: str | None, first: ssl.SSLContext) -> None:
            connection.context = self._material.current().context

        # Of this context itself counts only whether clients are asked for certificates.
        context = self._load().context
        context.sni_callback = choose
        return context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For gRPC: each connection gets the certificates as they are when it is made."""
        given = self._material.current()

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            material = self._material.current()
            if material is given:
                return None
            given = material
            return _configuration(material)

        return grpc.dynamic_ssl_server_credentials(_configuration(given), renewed, self.requires_clients)  # type: ignore[arg-type]


def _configuration(material: _Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_ca
    )


def _material(cert: Path, key: Path, client_ca: Path | None) -> _Material:
    certificate, secret = read_pem(cert, "--tls-cert"), read_pem(key, "--tls-key")
    authority = None if client_ca is None else read_pem(client_ca, "--tls-client-ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A session would let a client come back whose CA is no longer accepted. TLS 1.3 has none without tickets.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    load_pair(context, cert, "--tls-cert", key, "--tls-key")
    if client_ca is not None:
        load_authority(context, client_ca, "--tls-client-ca")
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return _Material(certificate, secret, authority, context)


def read_pem(path: Path, flag: str) -> bytes:
    """The contents of a file that a flag names.

    Raises:
        TlsError: if it cannot be read, or is no PEM.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TlsError(f"{flag} {path} cannot be read: {error.strerror}{_remedy(error)}") from None
    if b"-----BEGIN " not in content:
        raise TlsError(f"{flag} {path} is not PEM: it has to hold a block that begins with -----BEGIN")
    return content


def load_pair(context: ssl.SSLContext, cert: Path, cert_flag: str, key: Path, key_flag: str) -> None:
    """Give a context its certificate and key.

    Raises:
        TlsError: if they are not what they should be, or do not belong together.
    """
    asked = False

    def passphrase() -> str:
        nonlocal asked
        asked = True
        return ""

    try:
        context.load_cert_chain(cert, key, passphrase)
    except (OSError, ValueError) as error:
        if asked:
            raise TlsError(
                f"{key_flag} {key} is encrypted, and nobody is there to type a passphrase; write it in the clear with "
                f"`openssl pkey -in {key} -out …`, readable by this user only"
            ) from None
        if "KEY_VALUES_MISMATCH" in str(error):
            raise TlsError(
                f"{key_flag} {key} is not the key of {cert_flag} {cert}; give the one that it was made with"
            ) from None
        for path, flag, what, mark in (
            (cert, cert_flag, "certificate", b"CERTIFICATE"),
            (key, key_flag, "private key", b"PRIVATE KEY"),
        ):
            if mark not in read_pem(path, flag):
                raise TlsError(f"{flag} {path} holds no {what}; give the PEM file of a {what}") from None
        raise TlsError(
            f"{cert_flag} {cert} and {key_flag} {key} cannot be used: {_reason(error)}; both have to be PEM, the "
            "certificate first in its file"
        ) from None


def load_authority(context: ssl.SSLContext, path: Path, flag: str) -> None:
    """Have a context accept who was signed by a CA.

    Raises:
        TlsError: if the file holds no certificates.
    """
    read_pem(path, flag)
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise TlsError(f"{flag} {path} holds no certificates that can be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What OpenSSL says, without where in its source."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error).partition(" (_ssl")[0] or type(error).__name__


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "; make it readable by the user that the process runs as"
    if isinstance(error, FileNotFoundError):
        return "; see that the path is right and the file is there"
    return ""


def _warn_if_readable(key: Path) -> None:
    if key.stat().st_mode & S_IROTH:
        log.warning("everybody on this machine can read the key of the certificate", extra={"file": str(key)})
