"""Exits with 0 when a GET of the URL in the first argument answers 200, else with 1 and the reason.

Stands alone, so that a container can run it every few seconds without loading the pipeline.
"""

from __future__ import annotations

import http.client
import sys
from typing import Final
from urllib.parse import urlsplit

TIMEOUT_S: Final = 2.0
"""Less than the timeout of HEALTHCHECK, so that it is this program that says what is wrong."""


def main(url: str) -> str | None:
    """What is wrong with the process behind ``url``, or ``None``."""
    # Not urllib.request: that would ask a proxy named in the environment about our own loopback.
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return None if response.status == http.HTTPStatus.OK else f"{url} answers {response.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
