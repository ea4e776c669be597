"""Exits with 0 when a GET of the URL in the first argument answers 200, else with 1 and the reason.

With mTLS, two more arguments name the certificate and the key to show. Stands alone, so that a container can run it
every few seconds without loading the pipeline.
"""

from __future__ import annotations

import http.client
import sys
from typing import Final
from urllib.parse import urlsplit

TIMEOUT_S: Final = 2.0
"""Less than the timeout of HEALTHCHECK, so that it is this program that says what is wrong."""


def main(url: str, *certificate: str) -> str | None:
    """What is wrong with the process behind ``url``, or ``None``."""
    parts = urlsplit(url)
    try:
        connection = connect(parts.netloc, certificate) if parts.scheme == "https" else plain(parts.netloc)
        try:
            connection.request("GET", parts.path)
            response = connection.getresponse()
            return None if response.status == http.HTTPStatus.OK else f"{url} answers {response.status}"
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"


def plain(address: str) -> http.client.HTTPConnection:
    """A connection over HTTP."""
    # Not urllib.request: that would ask a proxy named in the environment about our own loopback.
    return http.client.HTTPConnection(address, timeout=TIMEOUT_S)


def connect(address: str, certificate: tuple[str, ...]) -> http.client.HTTPSConnection:
    """A connection over HTTPS, which shows the certificate and key in these files."""
    import ssl

    # It is our own process, on loopback, and no certificate is for that address: there is nobody to verify.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(*certificate)
    return http.client.HTTPSConnection(address, timeout=TIMEOUT_S, context=context)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
